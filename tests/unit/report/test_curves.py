"""The geometry of lines: nothing outside, nothing divided by zero, nothing joined across a gap."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potemkin.report.curves import Point, Scale, curve, thin

VALUES = st.lists(st.one_of(st.none(), st.floats()), max_size=50)


@given(st.lists(st.floats(), max_size=20))
def test_a_scale_covers_what_it_was_made_for(values: list[float]) -> None:
    scale = Scale.covering(values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(0 <= tick.place <= 100 and math.isfinite(tick.value) for tick in ticks)
    for value in values:
        if 1e-290 < abs(value) < 1e290:
            assert 0 <= scale.place(value) <= 100
            assert scale.logarithmic or scale.low <= value * (1 + 1e-9) or value <= scale.high * (1 + 1e-9)


def test_round_values_stand_where_they_belong() -> None:
    scale = Scale.covering([0.37, 2.2])
    assert [(tick.place, tick.value) for tick in scale.ticks()] == [(20 * i, pytest.approx(0.5 * i)) for i in range(6)]
    assert [tick.value for tick in Scale.covering([1.0] * 9 + [1e6]).ticks()] == [1, 100, 1e4, 1e6]
    assert [tick.value for tick in Scale.to(0).ticks()] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


@given(VALUES, st.integers(1, 10))
def test_thinning_keeps_extremes_and_order(values: list[float | None], limit: int) -> None:
    points = thin(range(len(values)), values, limit)
    assert len(points) <= max(limit, len(values) if len(values) <= limit else 0)
    assert [point.x for point in points] == sorted({point.x for point in points})
    known = [value for value in values if value is not None and math.isfinite(value)]
    if known and len(values) > limit:
        assert max(point.high for point in points if point.high is not None) == max(known)
        assert min(point.low for point in points if point.low is not None) == min(known)


@given(VALUES)
def test_a_curve_stays_inside_and_breaks_at_gaps(values: list[float | None]) -> None:
    up = Scale.covering([value for value in values if value is not None])
    drawn = curve("loss", "", "loss", thin(range(len(values)), values), Scale.to(len(values)), up)
    places = [float(text) for text in re.findall(r"[\d.e+-]+", drawn.line)]
    assert all(0 <= place <= 100 for place in places)
    assert "nan" not in drawn.line and "inf" not in drawn.line


def test_a_line_breaks_at_a_gap_and_where_the_run_went_back() -> None:
    points = [Point(x, 0.5, 0.4, 0.6) for x in (1.0, 2.0, 3.0, 2.0, 4.0)] + [
        Point(5.0, None),
        Point(6.0, 0.5, 0.4, 0.6),
    ]
    drawn = curve("robust", "train", "robust", points, Scale.to(10.0), Scale(0.0, 1.0))
    assert drawn.line == "M10 50L20 50L30 50M20 50L40 50"
    assert drawn.band.count("Z") == 2
    assert [dot.whisker for dot in drawn.dots] == [None] * 5 + [(60.0, 40.0)]
