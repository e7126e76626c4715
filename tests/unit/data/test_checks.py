"""What is refused before it spoils a verdict, with the numbers found and the advice that fits."""

import math

import numpy as np
import pytest
import torch

from potemkin.data.arrays import ArraySource
from potemkin.data.checks import check_batch, check_source, checked_batches
from potemkin.data.load import load_data
from potemkin.data.source import Batch, DataSource
from potemkin.errors import DataError
from unit.data.builders import classes, pixels, write_folder

UNIT = (0.0, 1.0)
UNIFORM = np.random.default_rng(0).random((200, 3, 4, 4), dtype=np.float32)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
NORMALISED = ((UNIFORM - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)


def source(inputs=UNIFORM, labels=None, **options):
    return ArraySource(inputs, classes(len(inputs)) if labels is None else labels, name="birds", **options)


def changed(place, value, inputs=UNIFORM):
    inputs = inputs.copy()
    inputs[place].flat[3] = value
    return inputs


def all_checked(data, box=UNIT, k=3, **options):
    check_source(data, box=box, classes=k, **options)
    return list(checked_batches(data, None, 32, box, k))


@pytest.mark.parametrize(
    ("inputs", "box"),
    [
        (UNIFORM, UNIT),
        (UNIFORM, (-1, 2)),
        (NORMALISED, (-math.inf, math.inf)),
        (UNIFORM, (0, math.inf)),
        (UNIFORM * 0, UNIT),
        (changed(5, 1 + 5e-7), UNIT),
        (changed(5, -9e-7), UNIT),
        (UNIFORM * 255, (0, 255)),
        (changed(5, 255.0002, UNIFORM * 255), (0, 255)),
        (pixels(70, 4, 4), UNIT),
    ],
)
def test_good_inputs_pass(inputs, box):
    assert sum(len(batch) for batch in all_checked(source(inputs), box)) == len(inputs)


def test_one_class_is_fine():
    assert all_checked(source(labels=np.zeros(200, np.int64)))
    assert all_checked(source(labels=np.full(200, 2)))


@pytest.mark.parametrize("place", [3, 150])
@pytest.mark.parametrize(
    ("value", "box", "said"),
    [
        (math.nan, UNIT, "The inputs of .* are NaN or infinite in 1 of the .* examples looked at: id {}[.]"),
        (math.inf, UNIT, "NaN or infinite in 1 .* id {}[.]"),
        (-math.inf, (-math.inf, math.inf), "NaN or infinite in 1 .* id {}[.]"),
        (1 + 3e-6, UNIT, r"outside of the box \[0, 1\] in 1 of the .* id {}[.] Found there: min .*, max 1,"),
        (-0.5, UNIT, r"outside of the box \[0, 1\] in 1 .* id {}[.] Found there: min -0[.]5, max"),
        (-0.001, (0, math.inf), r"outside of the box \[0, inf\] in 1 .* id {}[.]"),
        (256, (0, 255), r"outside of the box \[0, 255\] in 1 .* id {}[.].*max 256"),
    ],
)
def test_one_bad_value_anywhere_is_found_and_its_example_named(place, value, box, said):
    with pytest.raises(DataError, match=said.format(place)):
        all_checked(source(changed(place, value)), box)


def test_several_bad_examples_are_counted_and_the_first_ones_named():
    inputs = UNIFORM.copy()
    inputs[2:12, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"in 10 of the 64 examples looked at: ids 2, 3, 4, 5, 6 and 5 more\."):
        check_source(source(inputs), box=UNIT)


@pytest.mark.parametrize("name", ["arrays", "digits", "cifar10/test.npz", "TensorDataset", "own_data.py:arrays"])
def test_the_sentence_fits_every_name(name):
    """A name may be one thing or many: what is spoken of is its inputs, which are many."""
    bad = ArraySource(UNIFORM * 3, classes(len(UNIFORM)), name=name)
    with pytest.raises(DataError, match=rf"^The inputs of {name} lie outside of the box \[0, 1\] in "):
        check_source(bad, box=UNIT)


def test_one_example_is_not_one_of_one():
    with pytest.raises(DataError, match=r"box .* in the one example looked at: id 0"):
        check_source(source(UNIFORM[:1] * 3), box=UNIT)


def test_text_ids_are_named_too():
    with pytest.raises(DataError, match="id 'b7'"):
        check_source(source(changed(7, np.nan), ids=[f"b{i}" for i in range(200)]), box=UNIT)


@pytest.mark.parametrize(
    ("inputs", "box", "said"),
    [
        (NORMALISED, UNIT, r"They look normalised.*--mean and --std.*pk\.Preprocessing.*give pixels in \[0, 1\]"),
        ((UNIFORM**6 - 0.1307) / 0.3081, UNIT, "They look normalised"),
        ((UNIFORM * 255).round(), UNIT, "pixels from 0 to 255: divide by 255"),
        ((UNIFORM * 16).round(), UNIT, "pixels from 0 to 16: divide by 16"),
        (UNIFORM * 2 - 1, UNIT, r"scaled to \[-1, 1\]: give .inputs \+ 1. / 2"),
        (UNIFORM * 1.5, UNIT, r"Scale the inputs into \[0, 1\], or declare the box.*--box LOW,HIGH"),
        (UNIFORM * 1000, UNIT, r"Scale the inputs into \[0, 1\]"),
        (UNIFORM * 2 - 1, (0, 255), r"normalised.*pixels in \[0, 255\]"),
    ],
)
def test_the_advice_fits_what_was_found(inputs, box, said):
    with pytest.raises(DataError, match=said):
        check_source(source(inputs.astype(np.float32)), box=box)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (NORMALISED, r"Standardised features\?.*--box=-4,4 or --box=-inf,inf \(in Python: .*box=\(-4, 4\)"),
        (NORMALISED * (1 + 2 * (NORMALISED > 2.5)), r"--box=-\d,\d or"),
        ((UNIFORM * 255).round(), r"Scale the features into \[0, 1\].*--box LOW,HIGH"),
    ],
)
def test_features_are_not_taken_for_pixels(features, said):
    rows = features.reshape(len(features), -1).astype(np.float32)
    with pytest.raises(DataError, match=said) as caught:
        check_source(source(rows), box=UNIT)
    assert "pixel" not in str(caught.value) and "normalised" not in str(caught.value)


def test_the_numbers_in_the_message_are_those_of_the_inputs():
    data = source(NORMALISED[:64])
    with pytest.raises(DataError) as caught:
        check_source(data, box=UNIT)
    seen = NORMALISED[:64].astype(np.float64)
    for number in (
        f"min {seen.min():.4g}",
        f"max {seen.max():.4g}",
        f"mean {seen.mean():.4g}",
        f"std {seen.std():.4g}",
    ):
        assert number in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "k", "said"),
    [
        (classes(200) + 1, 3, "go from 1 to 3, but with 3 classes they go from 0 to 2: .*counted from 1. Subtract 1"),
        (
            classes(200),
            2,
            "The labels of .* go up to 2, but with 2 classes they go from 0 to 1; 66 of 200 labels lie beyond",
        ),
        (classes(200) + 7, 3, "go up to 9, but with 3 classes"),
    ],
)
def test_labels_beyond_the_classes(labels, k, said):
    with pytest.raises(DataError, match=said):
        check_source(source(labels=labels), box=UNIT, classes=k)
    pairs = load_data(list(zip(torch.from_numpy(UNIFORM), labels.tolist(), strict=True)))
    with pytest.raises(DataError, match=r"with \d classes they go from 0"):
        all_checked(pairs, k=k)


def test_classes_of_the_data_and_of_the_model(tmp_path):
    named = source(class_names=["a", "b", "c", "d", "e", "f", "g"])
    check_source(named, box=UNIT, classes=7)
    check_source(named, box=UNIT, classes=8)  # labels are what the user wrote: a model may know more
    with pytest.raises(
        DataError, match=r"There are 7 classes in .* \(a, b, c, d, e, \.\.\.\), but the model answers for 6"
    ):
        check_source(named, box=UNIT, classes=6)
    folder = load_data(write_folder(tmp_path))
    check_source(folder, box=UNIT, classes=2)
    with pytest.raises(DataError, match=r"2 class subfolders \(ant, bee\), but the model answers for 10: .* rank"):
        check_source(folder, box=UNIT, classes=10)


def test_the_first_look_is_at_the_chosen_examples():
    bad = source(changed(3, np.nan))
    check_source(bad, box=UNIT, positions=np.arange(10, 20))
    with pytest.raises(DataError, match="id 3"):
        check_source(bad, box=UNIT, positions=[1, 2, 3])
    with pytest.raises(DataError, match="no examples to evaluate"):
        check_source(bad, box=UNIT, positions=[])


def test_checked_batches_hand_on_the_same_batches_and_read_once():
    data = source()
    reads = []
    data._read, read = lambda positions: reads.append(len(positions)) or read(positions), data._read
    found = list(checked_batches(data, [5, 3, 9], 2, UNIT, 3))
    assert [batch.positions.tolist() for batch in found] == [[5, 3], [9]]
    assert torch.equal(found[0].inputs, torch.from_numpy(UNIFORM[[5, 3]]))
    assert reads == [2, 1]


def test_good_batches_come_before_a_bad_one_is_reached():
    stream = checked_batches(source(changed(150, np.nan)), None, 50, UNIT, 3)
    assert [next(stream).ids[0] for _ in range(3)] == [0, 50, 100]
    with pytest.raises(DataError, match="id 150"):
        next(stream)


class Own:
    """A user's own source, with one thing wrong."""

    name, input_shape, classes, class_names = "own", (2,), 2, None

    def __init__(self, wrong=lambda batch: batch, count=4):
        self.wrong, self.count = wrong, count

    def __len__(self):
        return self.count

    def fingerprint(self, indices=None):
        return "sha256:0"

    def batches(self, size, indices=None):
        positions = list(range(4) if indices is None else indices)
        for i in range(0, len(positions), size):
            some = torch.tensor(positions[i : i + size])
            made = self.wrong(Batch(some.tolist(), some, torch.full((len(some), 2), 0.5), torch.ones_like(some)))
            if made is not None:
                yield made


def test_a_users_own_source():
    assert isinstance(Own(), DataSource)
    own = Own()
    assert load_data(own) is own
    assert len(all_checked(own, k=2)) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda b: Batch(b.ids, b.positions, b.inputs.double(), b.labels), "expected torch.float32 and torch.int64"),
        (lambda b: Batch(b.ids, b.positions, b.inputs, b.labels.int()), "expected torch.float32 and torch.int64"),
        (lambda b: Batch(b.ids, b.positions, b.inputs[:, :1], b.labels), r"shape \(1,\), but .* have shape \(2,\)"),
        (lambda b: Batch(b.ids, b.positions, b.inputs, b.labels[:1]), "expected one of each per id"),
        (lambda b: Batch(b.ids[:1], b.positions, b.inputs, b.labels), "expected one of each per id"),
        (lambda b: Batch(b.ids, b.positions, b.inputs, b.labels[:, None]), "expected one of each per id"),
        (lambda b: Batch(b.ids, b.positions.flip(0), b.inputs, b.labels), "other examples than those asked for"),
        (lambda b: Batch(b.ids, b.positions, b.inputs.to("meta"), b.labels), "batch on meta: give it on the CPU"),
        (lambda b: Batch(b.ids[:3], b.positions[:3], b.inputs[:3], b.labels[:3]), "gave 3 examples, expected 4"),
        (lambda b: None, "gave no examples, though its length is 4"),
    ],
)
def test_a_users_own_source_that_is_wrong(wrong, said):
    with pytest.raises(DataError, match=said):
        all_checked(Own(wrong), k=2)


def test_an_empty_own_source():
    with pytest.raises(DataError, match="no examples to evaluate in own"):
        check_source(Own(count=0), box=UNIT)


def test_check_batch_alone():
    check_batch(next(Own().batches(4)), "own", box=UNIT)
    with pytest.raises(DataError, match="outside of the box"):
        check_batch(next(Own().batches(4)), "own", box=(0, 0.25))
