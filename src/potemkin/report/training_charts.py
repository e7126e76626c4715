"""The charts of a training run's evaluations: accuracy against epochs, and what the training attack believes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from potemkin.evaluate.rates import Rate
from potemkin.report.curves import Curve, Point, Scale, Tick, curve
from potemkin.report.typeset import HARD, count, interval, number, percent, shown
from potemkin.training.journal import EvaluationLine, Journal

Part = Literal["validation", "train"]
Weights = Literal["current", "average"]
Item = TypeVar("Item")

ACCURACY = Scale(0.0, 1.0)
EVALUATIONS = 300
LANES = 7
"""More kinds of alarm than this share one lane."""

MEASURED: dict[str, tuple[str, Callable[[EvaluationLine], int]]] = {
    "clean": ("clean", lambda line: line.clean),
    "one_step": ("one step of full length", lambda line: line.one_step),
    "training_attack": ("training attack", lambda line: line.training_attack),
    "robust": ("multi-step check", lambda line: line.robust),
}


@dataclass(frozen=True)
class Lane:
    """What happened when, on a strip of its own below the time axis; the label stands in the widest free stretch."""

    kind: str
    label: str
    ticks: list[float]
    label_at: float
    anchor: Literal["start", "end"]


@dataclass(frozen=True)
class Chart:
    """Curves on common axes; `text` says in words what they show, for those who cannot see them."""

    id: str
    title: str
    text: str
    caption: str
    across: list[Tick]
    up: list[Tick]
    curves: list[Curve]
    lanes: list[Lane]
    best: float | None = None
    """Where the kept weights stand, in per cent of the width."""


def weights_of(journal: Journal) -> list[Weights]:
    """Which weights were evaluated, those that were kept first."""
    best = journal.best()
    found = {line.weights for part in ("validation", "train") for line in journal.evaluations(part)}
    return sorted(found, key=lambda weights: (best is not None and weights != best.weights, weights == "average"))


def evaluations(journal: Journal, part: Part, weights: Weights) -> list[EvaluationLine]:
    """At most a few hundred, evenly spread, the first and the last among them."""
    return spread([line for line in journal.evaluations(part) if line.weights == weights], EVALUATIONS)


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of them, evenly spread, with both ends.

    >>> spread(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def accuracy(journal: Journal, weights: Weights) -> Chart:
    """Clean and robust accuracy on both parts, against epochs."""
    across, best = _epochs(journal), journal.best()
    curves, told = [], []
    for part in ("validation", "train"):
        lines = evaluations(journal, part, weights)
        for kind, name in (("clean", f"clean, {part}"), ("robust", f"robust, {part}")):
            if lines:
                curves.append(_measured(kind, part, name, lines, across))
                told.append(_told(name, kind, lines))
    kept = across.place(best.epoch) if best and best.weights == weights else None
    named = "averaged" if weights == "average" else "current"
    return Chart(
        f"accuracy-{weights}", f"Accuracy of the {named} weights", " ".join(told), _examples(journal, weights),
        across.ticks(), ACCURACY.ticks(), curves, _lanes(journal, across, kept), kept,
    )  # fmt: skip


def beliefs(journal: Journal, weights: Weights) -> list[Chart]:
    """What the training attack and one step make of the weights, against the multi-step check; one chart each part."""
    across, charts = _epochs(journal), []
    for part in ("validation", "train"):
        lines = evaluations(journal, part, weights)
        if lines:
            kinds = ("one_step", "training_attack", "robust")
            curves = [
                _measured(kind, "thin" if kind != "robust" else "", MEASURED[kind][0], lines, across) for kind in kinds
            ]
            text = " ".join(_told(MEASURED[kind][0], kind, lines) for kind in kinds)
            up = ACCURACY.ticks()
            charts.append(Chart(f"belief-{part}-{weights}", part, text, _gap(lines), across.ticks(4), up, curves, []))
    return charts


def _measured(kind: str, part: str, name: str, lines: list[EvaluationLine], across: Scale) -> Curve:
    points = []
    for line in lines:
        rate = Rate.of(MEASURED[kind][1](line), line.n)
        points.append(Point(line.epoch, rate.value, rate.low, rate.high))
    return curve(kind, part, name, points, across, ACCURACY)


def _told(name: str, kind: str, lines: list[EvaluationLine]) -> str:
    rates = [Rate.of(MEASURED[kind][1](line), line.n).value for line in lines]
    return f"{name[0].upper()}{name[1:]}: {span([Point(0.0, rate) for rate in rates], percent)}."


def span(points: Iterable[Point], write: Callable[[float], str]) -> str:
    """First, last and extremes; those of merged points are the extremes of what was merged."""
    known = [(point, point.value) for point in points if point.value is not None and math.isfinite(point.value)]
    if not known:
        return "not measured"
    if len(known) == 1:
        return write(known[0][1])
    lowest = min(value if point.low is None else point.low for point, value in known)
    highest = max(value if point.high is None else point.high for point, value in known)
    return f"from {write(known[0][1])} to {write(known[-1][1])}, lowest {write(lowest)}, highest {write(highest)}"


def _examples(journal: Journal, weights: Weights) -> str:
    """The n of each part; more than one where the subset changed on the way."""
    told = []
    for part, name in (("validation", "validation"), ("train", "training")):
        found = sorted({line.n for line in journal.evaluations(part) if line.weights == weights})
        if found:
            told.append(f"n{HARD}={HARD}{' or '.join(map(count, spread(found, 3)))} {name} examples")
    return ", ".join(told) + "."


def _gap(lines: list[EvaluationLine]) -> str:
    measured = [line for line in lines if line.n]
    if not measured:
        return "No example was evaluated."
    widest = max(measured, key=lambda line: (line.training_attack - line.robust) / line.n)
    believed, held = Rate.of(widest.training_attack, widest.n), Rate.of(widest.robust, widest.n)
    return (
        f"Widest gap: at epoch {number(widest.epoch)} the training attack leaves {percent(believed.value)} "
        f"{interval(believed)} standing, the multi-step check {percent(held.value)} {interval(held)} "
        f"(n{HARD}={HARD}{count(widest.n)})."
    )


def _epochs(journal: Journal) -> Scale:
    return Scale.to(max((line.epoch for line in journal.lines if math.isfinite(line.epoch)), default=0.0))


def _lanes(journal: Journal, across: Scale, best: float | None) -> list[Lane]:
    """Best, then the alarms by name, then what happened to the run."""
    happened: dict[tuple[str, str], list[float]] = {("best", "best"): [best]} if best is not None else {}
    for alarm in journal.alarms():
        key = ("alarm", shown(alarm.name.replace("_", " "), 24))
        if key not in happened and len(happened) >= LANES:
            key = ("alarm", "other alarms")
        happened.setdefault(key, []).append(across.place(alarm.epoch))
    for mark in journal.marks():
        if mark.what in ("resumed", "rolled back", "interrupted", "stopped"):
            happened.setdefault(("run", mark.what), []).append(across.place(mark.epoch))
    return [_lane(kind, label, places) for (kind, label), places in happened.items()]


def _lane(kind: str, label: str, places: list[float]) -> Lane:
    ticks = sorted(set(places))
    label = label if len(places) == 1 else f"{label} ({len(places)} ×)"
    after = [*ticks[1:], 100.0]
    _, start = max((end - tick, tick) for tick, end in zip(ticks, after, strict=True))
    if ticks[0] > max(end - tick for tick, end in zip(ticks, after, strict=True)):
        return Lane(kind, label, spread(ticks, 100), ticks[0], "end")
    return Lane(kind, label, spread(ticks, 100), start, "start")
