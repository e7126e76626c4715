"""Preprocessing: part of the model, differentiable, and clear about what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from potemkin.errors import ConfigError, ModelError
from potemkin.models.classifier import Classifier
from potemkin.models.oracle import Meter, Oracle
from potemkin.models.preprocessing import Preprocessing


def test_each_channel_has_its_mean_and_std() -> None:
    x = torch.rand(8, 3, 4, 4)
    y = Preprocessing((0.1, 0.2, 0.3), (0.5, 1.0, 2.0))(x)
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 1.0), (0.3, 2.0)]):
        torch.testing.assert_close(y[:, channel], (x[:, channel] - mean) / std)


def test_one_number_serves_all_and_either_may_be_alone() -> None:
    x = torch.rand(8, 5)
    torch.testing.assert_close(Preprocessing(mean=0.5)(x), x - 0.5)
    torch.testing.assert_close(Preprocessing(std=[0.5])(x), x * 2)
    torch.testing.assert_close(Preprocessing((1, 2, 3, 4, 5), 2.0)(x), (x - torch.arange(1.0, 6.0)) / 2)
    assert Preprocessing()(x) is x


def test_constants_are_as_precise_as_the_inputs() -> None:
    x = torch.rand(8, 3, dtype=torch.float64)
    net = Preprocessing(0.485, 0.229)
    net(x.float())
    assert torch.equal(net(x), (x - 0.485) / 0.229)


def test_resize_takes_the_shorter_side_or_both() -> None:
    x = torch.rand(8, 3, 20, 30)
    assert Preprocessing(resize=10)(x).shape == (8, 3, 10, 15)
    assert Preprocessing(resize=10)(x.transpose(2, 3)).shape == (8, 3, 15, 10)
    assert Preprocessing(resize=(7, 9))(x).shape == (8, 3, 7, 9)
    expected = F.interpolate(x, size=(10, 15), mode="bilinear", antialias=True, align_corners=False)
    assert torch.equal(Preprocessing(resize=10)(x), expected)
    assert Preprocessing(resize=20)(x) is x


def test_crop_takes_the_centre_after_the_resize() -> None:
    x = torch.arange(7.0 * 9).reshape(1, 1, 7, 9)
    assert torch.equal(Preprocessing(crop=3)(x), x[:, :, 2:5, 3:6])
    assert torch.equal(Preprocessing(crop=(1, 9))(x), x[:, :, 3:4])
    assert Preprocessing(resize=14, crop=10)(x).shape == (1, 1, 10, 10)


def test_a_crop_that_cannot_be_central_starts_where_torchvision_starts() -> None:
    """Halves go to the even pixel: of 7 rows a crop of 4 leaves 2 above, of 9 columns also 2 (torchvision 0.20)."""
    x = torch.arange(7.0 * 9).reshape(1, 1, 7, 9)
    assert torch.equal(Preprocessing(crop=4)(x), x[:, :, 2:6, 2:6])
    assert torch.equal(Preprocessing(crop=(6, 8))(x), x[:, :, 0:6, 0:8])


def test_the_gradient_is_that_of_the_raw_input() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 4, 2, dtype=torch.float64))
    classifier = Classifier(net, preprocessing=Preprocessing((0.1, 0.2, 0.3), 0.25, resize=6, crop=4))
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(classifier.forward, (x,))
    answer = Oracle(classifier).ask(
        x, active=torch.ones(2, dtype=torch.bool), meter=Meter.zeros(2), objective=lambda z: z[:, 0], climb=True
    )
    assert answer.gradient is not None and answer.gradient.shape == x.shape


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"std": 0}, r"std=0\.0: every value must be greater than 0"),
    ({"std": (0.2, 0.0, 0.2)}, "greater than 0"),
    ({"std": -1.0}, "greater than 0"),
    ({"mean": (0.1, 0.2), "std": (1, 2, 3)}, "mean has 2 values, std has 3"),
    ({"mean": float("nan")}, "mean=nan"),
    ({"mean": ()}, r"mean=\(\)"),
    ({"mean": "0.5,0.5"}, "mean='0.5,0.5'"),
    ({"mean": {"r": 1}}, "mean="),
    ({"resize": 0}, "resize=0"),
    ({"resize": (3, 3, 3)}, "resize="),
    ({"resize": 3.5}, "resize=3.5"),
    ({"crop": True}, "crop=True"),
    ({"crop": (4, -1)}, "crop="),
    ({"crop": ()}, r"crop=\(\)"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[str(arguments) for arguments, _ in REFUSED])
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**arguments)


@pytest.mark.parametrize(
    ("preprocessing", "shape", "message"),
    [
        (Preprocessing((0.1, 0.2, 0.3)), (8, 1, 4, 4), r"mean=\(0.1, .* has 3 values, the inputs have 1 channels"),
        (Preprocessing(std=(1, 2)), (8, 4, 4, 3), "std=.* has 2 values, the inputs have 4 channels.*channels first"),
        (Preprocessing(0.5), (8,), r"have \(8,\)|shape \(8,\)"),
        (Preprocessing(resize=4), (8, 12), r"need images .* have \(8, 12\)"),
        (Preprocessing(crop=5), (8, 1, 4, 9), "larger than the image, 4 x 9:"),
        (Preprocessing(crop=5, resize=4), (8, 1, 9, 9), "4 x 4 after resize"),
    ],
)
def test_inputs_that_do_not_fit(preprocessing: Preprocessing, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        preprocessing(torch.rand(shape))


def test_its_repr_names_what_was_given() -> None:
    assert repr(Preprocessing((0.1, 0.2), 0.5, crop=3)) == "Preprocessing(mean=(0.1, 0.2), std=0.5, crop=3)"
    assert repr(Preprocessing()) == "Preprocessing()"
