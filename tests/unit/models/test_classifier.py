"""The classifier: what it accepts, what it makes of outputs, and what it says when a model does not work."""

from __future__ import annotations

import re
from collections import OrderedDict, namedtuple
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from potemkin.errors import ConfigError, DataError, InputError, ModelError, PotemkinError
from potemkin.models.classifier import Classifier
from potemkin.models.preprocessing import Preprocessing
from potemkin.threat.box import Box


class Returning(nn.Module):
    """Returns what a function makes of the input."""

    def __init__(self, make: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> object:
        return self.make(x)


Pair = namedtuple("Pair", "logits aux")

NOT_LOGITS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "dict": (lambda x: {"features": x, "logits": x}, r"'logits': a tensor \(8, 3\).*ends in \['logits'\]"),
    "ordered dict": (lambda x: OrderedDict(loss=None, scores=x), r"'loss': NoneType, 'scores'.*ends in \['loss'\]"),
    "empty dict": (lambda x: {}, "a dict with no keys"),
    "tuple": (lambda x: (x, x), r"a tuple of a tensor \(8, 3\), a tensor \(8, 3\).*\[0\]"),
    "named tuple": (lambda x: Pair(x, x), "a Pair of a tensor"),
    "list": (lambda x: [], "a list of nothing"),
    "none": (lambda x: None, "returned NoneType"),
    "labels": (lambda x: x.argmax(dim=1), r"int64 and shape \(8,\)\. These look like decided labels"),
    "bool": (lambda x: x > 0, "torch.bool"),
    "complex": (lambda x: torch.complex(x, x), "complex64"),
    "map": (lambda x: x.reshape(8, 3, 1, 1).expand(8, 3, 4, 4), r"\(8, 3, 4, 4\) for 8 examples.*pool it"),
    "trailing ones": (lambda x: x.reshape(8, 3, 1, 1), r"Add \.flatten\(1\)"),
    "rows mixed": (lambda x: x.reshape(4, 6), r"\(4, 6\) for 8 examples.*flatten from dimension 1"),
    "flat": (lambda x: x.reshape(-1), r"\(24,\) for 8 examples"),
    "scalar": (lambda x: x.sum(), r"shape \(\)"),
    "no classes": (lambda x: x[:, :0], r"\(8, 0\)"),
}


@pytest.mark.parametrize("name", NOT_LOGITS)
def test_outputs_that_are_no_logits_are_explained(name: str) -> None:
    make, message = NOT_LOGITS[name]
    with pytest.raises(ModelError, match=message) as caught:
        Classifier(Returning(make))(torch.rand(8, 3))
    assert "(B, K)" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_one_logit_becomes_two_classes(shape: tuple[int, ...]) -> None:
    classifier = Classifier(Returning(lambda x: x[:, 0].reshape(shape)))
    x = torch.randn(8, 3)
    logits = classifier(x)
    assert classifier.one_logit and classifier.classes == 2 and logits.shape == (8, 2)
    assert torch.equal(logits[:, 0], torch.zeros(8)) and torch.equal(logits[:, 1], x[:, 0])
    torch.testing.assert_close(logits.softmax(dim=1)[:, 1], x[:, 0].sigmoid())


def test_one_row_of_a_one_logit_model() -> None:
    assert Classifier(Returning(lambda x: x[:, 0]))(torch.rand(1, 3)).shape == (1, 2)


def test_two_classes_are_not_one_logit() -> None:
    classifier = Classifier(nn.Linear(3, 2))
    assert classifier(torch.rand(8, 3)).shape == (8, 2) and not classifier.one_logit


def test_classes_are_read_from_the_first_answer_and_held_to() -> None:
    wide = [3]
    classifier = Classifier(Returning(lambda x: x[:, : wide[0]]))
    assert classifier.classes is None
    classifier(torch.rand(8, 3))
    assert classifier.classes == 3
    wide[0] = 2
    with pytest.raises(ModelError, match=r"returned 2 classes.*3 were declared"):
        classifier(torch.rand(8, 3))


def test_another_number_of_classes_than_declared() -> None:
    with pytest.raises(ModelError, match="one logit, that is 2 classes"):
        Classifier(nn.Linear(3, 1), classes=10)(torch.rand(8, 3))


def test_no_rows_are_fine() -> None:
    assert Classifier(nn.Linear(3, 4))(torch.rand(0, 3)).shape == (0, 4)


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), (8, 1, 6, 6), r"'0' \(Conv2d\) takes 3 channels"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()),
            (8, 6, 6, 3),
            r"come last in these inputs: use .*permute\(0, 3",
        ),
        (nn.Conv2d(1, 4, 3), (8, 3, 6, 6), r"Conv2d takes 1 channel\. Check"),
        (nn.Linear(5, 2), (8, 4), r"\(8, 4\): RuntimeError: .*Linear takes 5 features"),
        (nn.Embedding(5, 2), (8, 4), "whole numbers"),
        (Returning(lambda x: x.nonsense), (8, 4), "AttributeError: .*nonsense"),  # type: ignore[attr-defined]
        (Returning(lambda x: [][0]), (8, 4), "IndexError"),
        (nn.Module(), (8, 4), "NotImplementedError"),
    ],
    ids=["channels", "channels last", "one channel", "features", "tokens", "attribute", "index", "no forward"],
)
def test_a_forward_that_fails_is_one_paragraph(net: nn.Module, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        Classifier(net)(torch.rand(shape))
    assert caught.value.__cause__ is not None and not isinstance(caught.value.__cause__, PotemkinError)
    assert "\n" not in str(caught.value) and str(tuple(shape)) in str(caught.value)


def test_out_of_memory_has_its_own_advice() -> None:
    def full(x: Tensor) -> object:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    with pytest.raises(ModelError, match="use fewer rows"):
        Classifier(Returning(full))(torch.rand(8, 3))


def test_an_interrupt_is_not_swallowed() -> None:
    def stop(x: Tensor) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Classifier(Returning(stop))(torch.rand(8, 3))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Linear, "is the class Linear, not an instance"),
        (lambda x: x, "builtins.function"),
        ("digits-cnn", "builtins.str"),
        (None, "NoneType"),
        (Classifier(nn.Linear(3, 2)), "is a Classifier already"),
    ],
)
def test_what_is_no_network(net: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Classifier(net)


@pytest.mark.parametrize("classes", [1, 0, -3, 2.0, True, "10"])
def test_classes_that_cannot_be(classes: int) -> None:
    with pytest.raises(ConfigError, match=f"classes .* at least 2; found {classes!r}"):
        Classifier(nn.Linear(3, 2), classes=classes)


@pytest.mark.parametrize("box", [(1, 0), (0, 0), (0,), (0, 1, 2), 1.0, "01", ("a", "b"), (0, float("nan"))])
def test_a_box_that_cannot_be(box: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="Box"):
        Classifier(nn.Linear(3, 2), box)


def test_a_box_as_a_pair_or_a_box() -> None:
    assert Classifier(nn.Linear(3, 2), (-1, 1)).box == Box(-1.0, 1.0) == Classifier(nn.Linear(3, 2), Box(-1, 1)).box
    assert Classifier(nn.Linear(3, 2)).box == Box(0, 1)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "", 3.5])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"device={device!r}") if device != 3.5 else "3.5"):
        Classifier(nn.Linear(3, 2), device=device)


def test_the_device_is_where_the_parameters_are_or_what_is_asked() -> None:
    assert Classifier(nn.Linear(3, 2)).device == torch.device("cpu")
    assert Classifier(nn.Flatten(), device="cpu").device == torch.device("cpu")
    assert Classifier(nn.Linear(3, 2), device="auto").device.type in ("cpu", "cuda")


@pytest.mark.parametrize("x", [[[0.0]], 1.0, torch.tensor(1.0), None])
def test_inputs_that_are_no_rows(x: Tensor) -> None:
    with pytest.raises(DataError, match="rows"):
        Classifier(nn.Linear(1, 2))(x)


def test_the_preprocessing_stands_inside() -> None:
    net = nn.Linear(3, 2)
    classifier = Classifier(net, preprocessing=Preprocessing(mean=0.5, std=0.25))
    x = torch.rand(8, 3)
    assert torch.equal(classifier(x), net((x - 0.5) / 0.25))


def test_a_float64_network_answers_float32_questions() -> None:
    net = nn.Linear(3, 2).double()
    x = torch.rand(8, 3)
    logits = Classifier(net)(x)
    assert logits.dtype == torch.float32 and torch.equal(logits, net(x.double()).float())


def test_fingerprints_tell_models_apart() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    seen = {Classifier(net).fingerprint()}
    assert seen == {Classifier(net).fingerprint()} and next(iter(seen)).startswith("sha256:")

    def differs(classifier: Classifier) -> bool:
        print_of_it = classifier.fingerprint()
        new = print_of_it not in seen
        seen.add(print_of_it)
        return new

    with torch.no_grad():
        net[0].weight[0, 0] = torch.nextafter(net[0].weight[0, 0], torch.tensor(9.0))
    assert differs(Classifier(net))
    assert net[1].running_mean is not None
    net[1].running_mean[2] = 1e-30
    assert differs(Classifier(net))
    assert differs(Classifier(net, preprocessing=Preprocessing(mean=0.5)))
    assert differs(Classifier(net, preprocessing=Preprocessing(mean=0.25)))
    assert differs(Classifier(nn.ModuleDict({"0": net[0], "1": net[1]})))
    assert differs(Classifier(net.double()))
    assert differs(Classifier(nn.Flatten()))
    assert not differs(Classifier(nn.Flatten()))


@pytest.mark.parametrize("other", [torch.zeros(3, 2), torch.zeros(2, 3, dtype=torch.int32)], ids=["shape", "dtype"])
def test_fingerprints_tell_equal_bytes_apart(other: Tensor) -> None:
    def holding(tensor: Tensor) -> str:
        net = nn.Flatten()
        net.register_buffer("held", tensor)
        return Classifier(net).fingerprint()

    assert holding(torch.zeros(2, 3)) == holding(torch.zeros(2, 3)) != holding(other)


def test_fingerprints_cover_every_kind_of_tensor() -> None:
    net = nn.Module()
    for name, tensor in {
        "bf": torch.ones(2, 2, dtype=torch.bfloat16).t(),
        "c": torch.ones(2, dtype=torch.complex64).conj(),
        "b": torch.tensor(True),
        "e": torch.zeros(0, 3),
        "s": torch.eye(3).to_sparse(),
        "v": torch.arange(6).reshape(2, 3)[:, ::2],
    }.items():
        net.register_buffer(name, tensor)
        before = Classifier(net).fingerprint()
        with Classifier(net).guest():
            pass
        assert Classifier(net).fingerprint() == before


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("net", [nn.LazyLinear(3), nn.Linear(2, 3, device="meta")], ids=["lazy", "meta"])
def test_a_parameter_without_values_is_named(net: nn.Module) -> None:
    with pytest.raises(InputError, match=r"'weight' has no values|no values|cannot be moved"), Classifier(net).guest():
        pass


def test_parameters_are_counted_once() -> None:
    shared = nn.Linear(3, 3)
    assert Classifier(nn.Sequential(shared, nn.ReLU(), shared)).parameter_count == 12


def test_its_repr_says_what_it_is() -> None:
    assert repr(Classifier(nn.Linear(3, 2), name="mine")) == "Classifier(mine, box=Box(), classes=None, device='cpu')"
