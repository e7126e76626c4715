"""The small charts of a training run: loss, learning rate, batches and inner attack, against steps."""

from __future__ import annotations

import math
from collections.abc import Callable

from potemkin.report.curves import Point, Scale, curve, thin
from potemkin.report.training_charts import ACCURACY, Chart, span
from potemkin.report.typeset import number, percent
from potemkin.training.journal import Journal, StepLine

Get = Callable[[StepLine], float | None]

_DRAWN: tuple[tuple[str, str, tuple[tuple[str, str, Get], ...]], ...] = (
    ("loss", "Loss", (("loss", "loss", lambda line: line.loss),)),
    ("rate", "Learning rate", (("rate", "learning rate", lambda line: line.learning_rate),)),
    (
        "batch",
        "Rows of the batches that were right",
        (
            ("clean", "clean", lambda line: line.clean_right),
            ("training_attack", "attacked", lambda line: line.attacked_right),
        ),
    ),
    (
        "inner",
        "The inner attack",
        (
            ("one_step", "distance moved from its start, in eps", lambda line: line.moved),
            ("alarm", "share of rows without a gradient", lambda line: line.dead),
        ),
    ),
)
"""(id, title, curves as (colour, name, value)): a chart is drawn where one of its curves has something to show."""


def steps(journal: Journal) -> list[Chart]:
    """The charts in which there is something."""
    lines = journal.steps()
    places, charts = [line.step for line in lines], []
    across = Scale.to(float(max(places, default=0)))
    for id_, title, series in _DRAWN:
        laid = [(kind, name, thin(places, [get(line) for line in lines])) for kind, name, get in series]
        found = [each for each in laid if any(_is_number(point.value) for point in each[2])]
        if found:
            charts.append(_small(id_, title, found, across))
    return charts


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _small(id_: str, title: str, found: list[tuple[str, str, list[Point]]], across: Scale) -> Chart:
    values = [each for _, _, points in found for p in points for each in (p.value, p.low, p.high) if each is not None]
    up = ACCURACY if id_ == "batch" else Scale.covering(values)
    curves = [curve(kind, "", name, points, across, up) for kind, name, points in found]
    write = percent if id_ == "batch" else number
    told = [f"{name[0].upper()}{name[1:]}: {span(points, write)}." for _, name, points in found]
    if up.logarithmic:
        told.append("The axis is logarithmic: a few values tower above the rest.")
    return Chart(id_, title, " ".join(told), " ".join(told), across.ticks(3), up.ticks(4), curves, [])
