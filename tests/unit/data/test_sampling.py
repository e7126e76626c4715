"""Which examples are chosen: exact, repeatable, nested, balanced as far as possible."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from potemkin.data.arrays import ArraySource
from potemkin.data.load import load_data
from potemkin.data.sampling import choose, choose_from, labels_of
from potemkin.errors import ConfigError
from unit.data.builders import classes, pixels, write_folder

LABELS = np.array([0] * 50 + [1] * 5 + [2] * 45)


@given(st.integers(1, 200), st.integers(1, 250), st.sampled_from(["first", "random", "balanced"]), st.integers(-9, 9))
def test_as_many_as_asked_for_ascending_without_repeats(total, examples, sample, seed):
    labels = np.arange(total) % 4
    found = choose(total, examples, sample, seed, labels)
    assert found.dtype == np.int64
    assert len(found) == min(examples, total)
    assert (np.diff(found) > 0).all()
    assert found[0] >= 0 and found[-1] < total
    assert np.array_equal(found, choose(total, examples, sample, seed, labels))


def test_first():
    assert choose(10, 3).tolist() == [0, 1, 2]
    assert choose(3).tolist() == choose(3, 3).tolist() == choose(3, 9, "random").tolist() == [0, 1, 2]


@pytest.mark.parametrize("sample", ["random", "balanced"])
def test_a_smaller_sample_lies_within_a_larger_one(sample):
    small, large = (set(choose(100, n, sample, 5, LABELS).tolist()) for n in (10, 40))
    assert small < large


@pytest.mark.parametrize("sample", ["random", "balanced"])
def test_the_seed_decides(sample):
    drawn = {tuple(choose(100, 20, sample, seed, LABELS).tolist()) for seed in [*range(20), 1 << 32, -1]}
    assert len(drawn) == 22
    assert tuple(range(20)) not in drawn


def test_these_draws_are_the_same_on_any_machine_for_ever():
    assert choose(1000, 5, "random", 0).tolist() == [515, 595, 667, 739, 995]
    assert choose(100, 6, "balanced", 1, LABELS).tolist() == [4, 21, 50, 52, 67, 84]


def test_random_is_uniform():
    hits = np.zeros(20)
    for seed in range(2000):
        hits[choose(20, 5, "random", seed)] += 1
    # Each position is drawn in 500 of 2000 samples; five standard deviations of Binomial(2000, 1/4) are 97.
    assert np.abs(hits - 500).max() < 97


@pytest.mark.parametrize(
    ("examples", "expected"),
    [(3, [1, 1, 1]), (12, [4, 4, 4]), (15, [5, 5, 5]), (25, [10, 5, 10]), (95, [45, 5, 45]), (98, [48, 5, 45])],
)
def test_balanced_gives_each_class_the_same_as_far_as_there_is(examples, expected):
    for labels in (LABELS, torch.from_numpy(LABELS), LABELS.tolist()):
        counts = Counter(LABELS[choose(100, examples, "balanced", 3, labels)].tolist())
        assert [counts[k] for k in range(3)] == expected


def test_balanced_with_a_remainder_differs_by_one_at_most():
    counts = Counter(LABELS[choose(100, 14, "balanced", 3, LABELS)].tolist())
    assert sorted(counts.values()) == [4, 5, 5]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"examples": 0}, "examples .of 100; None means all. must be an integer at least 1; found 0"),
        ({"examples": -5}, "found -5"),
        ({"examples": 2.5}, "found 2.5"),
        ({"examples": True}, "found True"),
        ({"examples": 5, "sample": "ballanced"}, "'first', 'random', 'balanced'.*Did you mean 'balanced'"),
        ({"examples": 5, "sample": "random", "seed": "x"}, "seed must be an integer"),
        ({"examples": 5, "sample": "random", "seed": 1 << 64}, "seed must be an integer"),
        ({"examples": 5, "sample": "balanced"}, "needs the labels"),
        ({"examples": 5, "sample": "balanced", "labels": [1, 2]}, r"shape \(2,\), expected \(100,\)"),
    ],
)
def test_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        choose(100, **arguments)


def test_choose_from_says_what_it_did():
    source = ArraySource(pixels(100, 4, 4), LABELS)
    assert choose_from(source).sample == "all 100"
    assert choose_from(source, 100, "balanced").sample == "all 100"
    assert choose_from(source, 500, "random").sample == "all 100 (500 were asked for)"
    assert choose_from(source, 10).sample == "first 10 of 100"
    choice = choose_from(source, 15, "balanced", 4)
    assert choice.sample == "balanced 15 of 100 (seed 4)"
    assert np.array_equal(choice.positions, choose(100, 15, "balanced", 4, LABELS))


def test_labels_are_known_without_reading_or_read_once(tmp_path):
    folder = load_data(write_folder(tmp_path, per_class=3))
    (tmp_path / "bee" / "2.png").write_bytes(b"no picture")
    assert labels_of(folder).tolist() == [0, 0, 0, 1, 1, 1]
    pairs = [(torch.zeros(2), label) for label in classes(70).tolist()]
    assert labels_of(load_data(pairs)).tolist() == classes(70).tolist()
