"""The digits inside the package: which rows, which values, which ids."""

from importlib import resources

import numpy as np
import pytest
import torch

from potemkin.core.notation import parse
from potemkin.core.registry import lookup
from potemkin.data.builtin import digits
from potemkin.data.load import load_data
from potemkin.data.source import DataSource
from potemkin.errors import ConfigError


def test_they_are_scikit_learns_digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    theirs = datasets.load_digits()
    (ours,) = load_data("digits(part='all')").batches(1797)
    assert np.array_equal(ours.inputs.numpy()[:, 0] * 16, theirs.images)
    assert np.array_equal(ours.labels.numpy(), theirs.target)


def test_stored_as_whole_numbers_with_their_licence():
    folder = resources.files("potemkin.data")
    with folder.joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
        assert stored["images"].shape == (1797, 8, 8)
        assert stored["images"].dtype == np.uint8
        assert stored["images"].max() == 16
    licence = folder.joinpath("digits.LICENSE.txt").read_text(encoding="utf-8")
    assert "CC BY 4.0" in licence and "Alpaydin" in licence


@pytest.mark.parametrize(
    ("spec", "first", "count"),
    [("digits", 1297, 500), ("digits(part='test')", 1297, 500), ("digits(part='train')", 0, 1297),
     ("digits('all')", 0, 1797)],
)  # fmt: skip
def test_parts_keep_the_ids_of_the_full_set(spec, first, count):
    source = load_data(spec)
    assert isinstance(source, DataSource)
    assert (len(source), source.input_shape, source.classes) == (count, (1, 8, 8), 10)
    assert source.class_names == [str(k) for k in range(10)]
    batch = next(source.batches(3))
    assert batch.ids == [first, first + 1, first + 2]
    assert batch.positions.tolist() == [0, 1, 2]
    assert (batch.inputs.dtype, batch.labels.dtype) == (torch.float32, torch.int64)
    everything = next(load_data("digits('all')").batches(1797))
    assert torch.equal(batch.inputs, everything.inputs[first : first + 3])


def test_values_are_exact_sixteenths_from_0_to_1():
    (batch,) = load_data("digits").batches(500)
    assert float(batch.inputs.min()) == 0 and float(batch.inputs.max()) == 1
    assert torch.equal(batch.inputs * 16, (batch.inputs * 16).round())


def test_notation_round_trip_and_name():
    assert repr(digits()) == "digits()"
    assert parse(repr(digits(part="train")), kind="data") == digits(part="train")
    assert lookup("digits", "data").summary.startswith("Handwritten digits")
    assert load_data("digits").name == "digits"
    assert load_data("digits(part='train')").name == "digits(part='train')"
    assert load_data(digits(part="train")).name == "digits(part='train')"


def test_wrong_part():
    with pytest.raises(ConfigError, match=r"part of digits .* 'all'; found 'tset'. Did you mean 'test'"):
        digits(part="tset")
