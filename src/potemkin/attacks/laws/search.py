"""Where a search goes: it stays in the set, climbs, and ends at the optimum where that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from potemkin.attacks.laws.models import BINARY, FOUR, THREE, Peak, normal
from potemkin.attacks.laws.subject import Course, Subject, first, same_rows, strays
from potemkin.attacks.laws.trial import ROWS, Trial, radius, wide_box
from potemkin.attacks.program import Asks
from potemkin.core.rows import flat
from potemkin.errors import ConfigError
from potemkin.threat.box import Box

WITHIN = 0.01
"""How far below the optimum of a linear model a search may end, as a share of what there is to gain."""


def inside(subject: Subject) -> Iterator[str]:
    """Every claimable query and every best point lies in the set and in the box."""
    for box in (Box(), Box(-2.0, 0.5)):
        yield from strays(subject.rough(box).run())


def zero_budget(subject: Subject) -> Iterator[str]:
    """With eps = 0 every claimable query is the input itself, bit for bit."""
    trial = subject.rough()
    run = replace(trial, eps=torch.zeros(ROWS)).run()
    for number, (point, state, _, alive) in enumerate(run.answered()):
        moved = alive & state.claimable & ~same_rows(point, trial.x)
        if moved.any():
            yield f"with eps = 0, query {number} of row {first(moved)} is not the input"
            return


def moves(subject: Subject) -> Iterator[str]:
    """One move goes uphill; a search without gradients at least leaves the input."""
    course = subject.linear()
    trial = course.trial.short(1)
    run = trial.run()
    if run.program.asks is not Asks.GRADIENTS:
        moved = torch.stack([~same_rows(point, trial.x) & s.claimable for point, s, _, _ in run.answered()]).any(dim=0)
        if not moved.all():
            yield f"row {first(~moved)} never asks about anything but the input"
        return
    up, down = course.uphill(run)
    values = torch.stack([reply.value.where(alive, -torch.inf) for _, _, reply, alive in run.answered()])
    higher = (values.amax(dim=0) > values[0]) | ~(up | down)
    if not (up | down).any():
        yield "no row's objective rises steadily towards an end, so nothing could be judged"
    if not higher.all():
        row = first(~higher)
        yield (
            f"with steps=1 on a linear model, row {row} starts at the objective {float(values[0, row]):.4g} and never "
            f"asks about a higher one: {[round(v, 4) for v in values[:, row].tolist()]}"
        )


def closed_form(subject: Subject) -> Iterator[str]:
    """On linear logits, of two classes and of four, the search ends at the optimum."""
    exact = subject.set.norm_name in subject.attack.exact
    for classes in (BINARY, FOUR):
        course = subject.linear(classes)
        run = course.trial.run()
        up, down = course.uphill(run)
        if not (up | down).any():
            yield f"{len(classes[0])} classes: no row's objective rises steadily to an end, so nothing could be judged"
            continue
        start, end = course.score(course.trial.x), torch.where(up, course.high, course.low)
        gain = (course.score(run.last.best) - start) / (end - start)
        short = (up | down) & (gain < 1 - WITHIN)
        if short.any():
            row = int(gain.where(up | down, torch.inf).argmin())
            yield (
                f"{len(classes[0])} classes: {int(short.sum())} of {int((up | down).sum())} rows stay below "
                f"{1 - WITHIN:.0%} of the optimal gain; the worst, row {row}, reaches {float(gain[row]):.1%}. More or "
                f"longer steps, if that is what is missing; else skip={{'closed_form': '<why>'}}"
            )
        best = run.last.best
        hit = same_rows(best, course.ends[1]) & up | same_rows(best, course.ends[0]) & down
        if exact and not short.any() and not hit[up | down].all():
            yield f"{len(classes[0])} classes: not the optimum to the last bit, as `exact` declares"


def interior(subject: Subject) -> Iterator[str]:
    """A peak half-way to the boundary is found: nothing pushes points of the interior out."""
    box, x = wide_box(subject.set.eps)
    region = subject.set.around(x, box)
    peak = x + (region.maximiser(normal(9, *x.shape).to(x.dtype)) - x) / 2
    model = Peak(peak, 0.7 * radius(subject.set))
    label = torch.ones(ROWS, dtype=torch.int64)
    run = Trial(subject.attack, subject.set, model, x, label, 2, box, seed=subject.seed).run()
    top = torch.zeros(ROWS, dtype=torch.float64)
    up, _ = Course(run.trial, top - 1e3, top, (x, peak)).uphill(run)
    if not up.any():
        yield "no row's objective rises steadily towards the peak, so nothing could be judged"
    before, after = (flat(p - peak).norm(dim=1) for p in (x, run.last.best))
    far = up & (after > before / 2)
    if far.any():
        row = first(far)
        yield (
            f"{int(far.sum())} of {int(up.sum())} rows come less than half-way to a peak inside the set; row {row} "
            f"began at distance {float(before[row]):.4g} and ends at {float(after[row]):.4g}"
        )


def targeted(subject: Subject) -> Iterator[str]:
    """Rows with opposite targets go opposite ways; an attack that steers at no class says so with a ConfigError."""
    course = subject.linear(THREE, offset=1.0)
    ends = {}
    for target in (2, 0):
        goal = torch.full((ROWS,), target)
        trial = replace(course.trial, label=torch.ones(ROWS, dtype=torch.int64), target=goal).short()
        try:
            run = trial.run()
        except ConfigError:
            return
        ends[target] = course.score(run.last.best), course.uphill(run)
    judged = ends[2][1][0] & ends[0][1][1]
    if not judged.any():
        yield "no row's objective rises steadily towards its target, so nothing could be judged"
    wrong = judged & (ends[2][0] <= ends[0][0])
    if wrong.any():
        row = first(wrong)
        yield (
            f"row {row} ends at the score {float(ends[2][0][row]):.4g} when it steers at the class that high scores "
            f"favour, and at {float(ends[0][0][row]):.4g} when it steers at the one that low scores favour"
        )
