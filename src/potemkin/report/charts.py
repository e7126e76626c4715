"""The geometry of the charts, in per cent of the width: so they stretch with the page and their text does not.

Charts are rectangles and lines with x in per cent inside an SVG without a viewBox; templates draw them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from potemkin.evaluate.rates import Rate


@dataclass(frozen=True)
class Segment:
    """A piece of a horizontal bar: `x` and `width` in per cent."""

    kind: str
    count: int
    x: float
    width: float

    @property
    def roomy(self) -> bool:
        """Whether its count fits inside on a phone (280 px for the whole bar, 9 px a digit)."""
        return self.width * 2.8 > 9 * len(str(self.count)) + 6


def stack(parts: Iterable[tuple[str, int]], total: int | None = None) -> list[Segment]:
    """Segments side by side; `total` is what fills the whole width (their sum where left out)."""
    parts = list(parts)
    total = sum(n for _, n in parts) if total is None else total
    segments, before = [], 0
    for kind, n in parts:
        if n and total:
            segments.append(Segment(kind, n, _place(before, total), _place(n, total)))
        before += n
    return segments


@dataclass(frozen=True)
class Step:
    """One step of the staircase: what stands, what this attack took away, and the interval; all in per cent."""

    stands: float
    taken: float
    low: float
    high: float
    measured: bool


def step(after: Rate, before: Rate | None) -> Step:
    """From the rate before an attack to the rate after it; a rate that was not measured is drawn as nothing."""
    now = 100 * (after.value or 0.0)
    earlier = max(now, 100 * (before.value or 0.0)) if before else now
    return Step(
        stands=round(now, 3),
        taken=round(earlier - now, 3),
        low=round(100 * (after.low or 0.0), 3),
        high=round(100 * (after.high or 0.0), 3),
        measured=after.value is not None,
    )


@dataclass(frozen=True)
class Bin:
    """One bin of a histogram; `x`, `width` and `height` in per cent (of the fullest bin)."""

    low: float
    high: float
    count: int
    x: float
    width: float
    height: float


@dataclass(frozen=True)
class Histogram:
    """Equal bins over [low, high]; `left_out` counts values that are not known."""

    bins: list[Bin]
    n: int
    left_out: int
    median: float | None
    low: float
    high: float

    def place(self, value: float) -> float:
        """Where `value` lies on the axis, in per cent."""
        return _place(value - self.low, self.high - self.low)


def histogram(values: Sequence[float | None], low: float, high: float, bins: int = 20) -> Histogram:
    """Count the known values in equal bins; values outside [low, high] fall into the outermost bin."""
    known = [value for value in values if value is not None]
    counts = [0] * bins
    for value in known:
        counts[min(bins - 1, max(0, int((value - low) / (high - low) * bins)))] += 1
    peak = max(counts) or 1
    edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    drawn = [
        Bin(edges[i], edges[i + 1], n, _place(i, bins), _place(1, bins), _place(n, peak)) for i, n in enumerate(counts)
    ]
    median = statistics.median(known) if known else None
    return Histogram(drawn, len(known), len(values) - len(known), median, low, high)


def shares(counts: Mapping[str, int], pieces: int) -> dict[str, int]:
    """`pieces` dealt out in proportion to the counts, by largest remainder; what is there gets at least its floor.

    >>> shares({"held": 46, "broken": 47, "clean_wrong": 7}, 20)
    {'held': 9, 'broken': 10, 'clean_wrong': 1}
    """
    total = sum(counts.values())
    if not total:
        return dict.fromkeys(counts, 0)
    dealt = {name: n * pieces // total for name, n in counts.items()}
    by_remainder = sorted(counts, key=lambda name: -(counts[name] * pieces % total))
    for name in by_remainder[: pieces - sum(dealt.values())]:
        dealt[name] += 1
    return dealt


def _place(part: float, whole: float) -> float:
    return round(100 * part / whole, 3) if whole else 0.0
