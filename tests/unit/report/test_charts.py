"""The geometry: nothing lost, nothing drawn outside, nothing divided by zero."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundles import line_of, record_of
from potemkin.evaluate.rates import Rate
from potemkin.report import sections
from potemkin.report.charts import histogram, shares, stack, step

COUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=6)


@given(COUNTS)
def test_a_stack_fills_the_width_without_gaps(counts: list[int]) -> None:
    segments = stack([(str(i), n) for i, n in enumerate(counts)])
    assert [segment.count for segment in segments] == [n for n in counts if n]
    if segments:
        assert segments[0].x == 0
        assert segments[-1].x + segments[-1].width == pytest.approx(100, abs=0.01)
    for left, right in itertools.pairwise(segments):
        assert left.x + left.width == pytest.approx(right.x, abs=0.01)


def test_a_stack_on_a_given_scale() -> None:
    [forwards, backwards] = stack([("f", 30), ("b", 20)], 200)
    assert (forwards.x, forwards.width, backwards.x, backwards.width) == (0, 15, 15, 10)
    assert stack([("f", 0)], 0) == []


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 100_000), max_size=6), st.integers(1, 50))
def test_shares_deal_out_every_piece(counts: dict[str, int], pieces: int) -> None:
    dealt = shares(counts, pieces)
    assert sum(dealt.values()) == (pieces if sum(counts.values()) else 0)
    for name, n in counts.items():
        assert abs(dealt[name] - pieces * n / max(sum(counts.values()), 1)) < 1


@given(st.lists(st.one_of(st.none(), st.floats(-2, 3)), max_size=50))
def test_a_histogram_counts_everything_once(values: list[float | None]) -> None:
    drawn = histogram(values, 0.0, 1.0)
    assert sum(bin_.count for bin_ in drawn.bins) + drawn.left_out == len(values)
    assert drawn.n + drawn.left_out == len(values)
    assert max(bin_.height for bin_ in drawn.bins) == (100 if drawn.n else 0)


def test_the_edges_of_a_histogram() -> None:
    drawn = histogram([0.0, 0.049, 0.05, 1.0], 0.0, 1.0)
    assert [bin_.count for bin_ in drawn.bins] == [2, 1, *[0] * 16, 0, 1]
    assert drawn.median == pytest.approx(0.0495)
    assert drawn.place(0.5) == 50


def test_a_step_never_rises() -> None:
    fell = step(Rate.of(40, 100), Rate.of(90, 100))
    assert (fell.stands, fell.taken, fell.measured) == (40, 50, True)
    assert fell.low < fell.stands < fell.high
    assert step(Rate.of(95, 100), Rate.of(90, 100)).taken == 0
    assert not step(Rate.of(0, 0), None).measured


def test_the_street_follows_the_partition() -> None:
    rng = np.random.default_rng(0)
    names = ["held"] * 50 + ["broken"] * 25 + ["budget"] * 5 + ["error"] * 5 + ["invalid"] * 5 + ["clean_wrong"] * 10
    record = record_of([line_of(i, name, rng) for i, name in enumerate(names)], (1, 8, 8))
    assert sections.street(record) == {"held": 10, "undecided": 3, "broken": 5, "clean_wrong": 2}
