"""The geometry of line charts, in per cent of width and height: so they stretch with the page and their text does not.

Lines and bands are paths in a box of 100 x 100 that is stretched without stretching its strokes; ticks, dots and text
stand outside that box, at places in per cent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

DOTTED = 20
"""Up to this many points, each is marked: beyond, the marks would hide the line."""
SPREAD = 50.0
"""An axis is logarithmic where its greatest value is more than this many times its median."""
_SMALLEST, _LARGEST = 1e-300, 1e300


@dataclass(frozen=True)
class Tick:
    """A round value on an axis, and its place in per cent."""

    place: float
    value: float


@dataclass(frozen=True)
class Scale:
    """From values to per cent of the chart."""

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def to(cls, high: float) -> Scale:
        """From zero to `high`; a chart of one moment gets a width all the same."""
        return cls(0.0, high if _SMALLEST < high < math.inf else 1.0)

    @classmethod
    def covering(cls, values: Iterable[float]) -> Scale:
        """An axis for all the values that starts at zero, or by powers of ten where a few tower above the rest."""
        known = [min(max(value, -_LARGEST), _LARGEST) for value in values if math.isfinite(value)]
        low, high = min([0.0, *known]), max([0.0, *known])
        if high - low < _SMALLEST:
            return cls(0.0, 1.0)
        if min(known) > _SMALLEST and high > SPREAD * median(known):
            below, above = math.floor(math.log10(min(known))), math.ceil(math.log10(high))
            return cls(10.0**below, 10.0**above, logarithmic=True)
        step = _step(high - low)
        return cls(step * math.floor(low / step), step * math.ceil(high / step - 1e-9))

    def place(self, value: float) -> float:
        """Where `value` lies from low to high, in per cent; outside, at the edge."""
        if self.logarithmic:
            first, last = math.log(self.low), math.log(self.high)  # the ratio itself may be beyond what a float holds
            share = (math.log(max(value, self.low)) - first) / (last - first)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self, about: int = 5) -> list[Tick]:
        """Round values along the axis."""
        if self.logarithmic:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            values = [10.0**power for power in range(first, last + 1, max(1, math.ceil((last - first) / about)))]
        else:
            step = _step(self.high - self.low, about)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            values = [step * number for number in range(first, last + 1)]
        return [Tick(self.place(value), value) for value in values]


def _step(span: float, about: int = 5) -> float:
    power = 10.0 ** math.floor(math.log10(span / about))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= 0.999 * span / about)


@dataclass(frozen=True)
class Point:
    """A value at a moment, with its interval where it has one; a value of None is a gap in the line."""

    x: float
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Dot:
    """A point that is marked, all in per cent, y from the top."""

    x: float
    y: float
    whisker: tuple[float, float] | None
    """Where its interval begins and ends, if no band shows it."""


@dataclass(frozen=True)
class Curve:
    """A line with its band: `kind` is its colour, `part` its dashes."""

    kind: str
    part: str
    name: str
    line: str
    band: str
    dots: list[Dot]


def curve(kind: str, part: str, name: str, points: Sequence[Point], across: Scale, up: Scale) -> Curve:
    """Lay the points out; the line breaks at gaps, and where the run went back to an earlier step."""
    line, band, dots = [], [], []
    pieces = list(_pieces(points))
    dotted = sum(map(len, pieces)) <= DOTTED
    for piece in pieces:
        places = [(across.place(point.x), round(100 - up.place(point.value or 0.0), 2)) for point in piece]
        whiskers = [_whisker(point, up) for point in piece]
        alone = len(piece) == 1
        if not alone:
            line.append("M" + "L".join(f"{x:g} {y:g}" for x, y in places))
            there = [
                (f"{x:g} {each[1]:g}", f"{x:g} {each[0]:g}")
                for (x, _), each in zip(places, whiskers, strict=True)
                if each
            ]
            if len(there) == len(piece):
                band.append("M" + "L".join([*(top for top, _ in there), *(low for _, low in reversed(there))]) + "Z")
        if alone or dotted:
            dots += [Dot(x, y, each if alone else None) for (x, y), each in zip(places, whiskers, strict=True)]
    return Curve(kind, part, name, "".join(line), "".join(band), dots)


def _whisker(point: Point, up: Scale) -> tuple[float, float] | None:
    if point.low is None or point.high is None:
        return None
    return round(100 - up.place(point.low), 2), round(100 - up.place(point.high), 2)


def _pieces(points: Sequence[Point]) -> Iterator[list[Point]]:
    piece: list[Point] = []
    for point in points:
        known = point.value is not None and math.isfinite(point.value) and math.isfinite(point.x)
        if piece and (not known or point.x < piece[-1].x):
            yield piece
            piece = []
        if known:
            piece.append(point)
    if piece:
        yield piece


def thin(places: Sequence[float], values: Sequence[float | None], limit: int = 300) -> list[Point]:
    """At most `limit` points: each the mean of its neighbours, with the least and the greatest of them as its band."""
    if len(places) <= limit:
        return [Point(x, value) for x, value in zip(places, values, strict=True)]
    edges = [len(places) * i // limit for i in range(limit + 1)]
    return [_merged(places[(start + end) // 2], values[start:end]) for start, end in pairwise(edges)]


def _merged(x: float, values: Sequence[float | None]) -> Point:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return Point(x, None)
    # Divided before they are added: the sum of a diverged run's losses may be beyond what a float holds.
    return Point(x, math.fsum(value / len(known) for value in known), min(known), max(known))
