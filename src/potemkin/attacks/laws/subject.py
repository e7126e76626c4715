"""What is checked, an attack in a set, and the courses that it is sent on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.attacks.laws.models import BINARY, Linear, Peak
from potemkin.attacks.laws.trial import ROWS, SHAPE, Run, Trial, direction, inputs, rough, wide_box
from potemkin.attacks.program import Attack
from potemkin.core.rows import flat
from potemkin.threat.box import Box
from potemkin.threat.sets.base import PerturbationSet


@dataclass(frozen=True)
class Subject:
    """What is checked: an attack in one set."""

    attack: Attack
    set: PerturbationSet
    seed: int

    def rough(self, box: Box | None = None) -> Trial:
        """Rows on a rugged model."""
        return rough(self.attack, self.set, self.seed, box)

    def linear(self, classes: tuple[tuple[float, ...], tuple[float, ...]] = BINARY, offset: float = 2.2) -> Course:
        """Rows on a linear model, at scores around 0 that are `offset` and a fifth of it away."""
        return course(self, classes, offset)


@dataclass(frozen=True)
class Course:
    """Rows on a model that looks at one number of an input only, and the interval that this score can reach."""

    trial: Trial
    low: Tensor
    high: Tensor
    ends: tuple[Tensor, Tensor]
    """The points of the set where the score is lowest and highest."""

    @property
    def model(self) -> Linear | Peak:
        assert isinstance(self.trial.model, Linear | Peak)
        return self.trial.model

    def score(self, x: Tensor) -> Tensor:
        """(B,) float64."""
        return self.model.score(x.double())

    def uphill(self, run: Run) -> tuple[Tensor, Tensor]:
        """(B,) bool: rows whose objective only rises on the way from their first query to the high end, or to the low
        one. There, and only there, is following the gradient bound to end at that end."""
        start = torch.minimum(torch.maximum(self.score(run.queries[0]), self.low), self.high)
        up, down = (self._rises(run, start, end) for end in (self.high, self.low))
        return up & ~down, down & ~up

    def _rises(self, run: Run, start: Tensor, end: Tensor) -> Tensor:
        places = torch.linspace(0, 1, 65, dtype=torch.float64)
        values = [run.program.objective(self.model.of_score(start + (end - start) * p), run.rows.aim) for p in places]
        path = torch.stack(values)
        gain = path[-1] - path[0]
        return (gain > 1e-3) & (path.diff(dim=0) > 1e-5 * gain).all(dim=0)


def course(subject: Subject, classes: tuple[tuple[float, ...], tuple[float, ...]], offset: float) -> Course:
    """Rows on a linear model. In a separable set the box cuts into the budget; in the others it never does, for there
    one step of the whole budget is the optimum only where nothing is in its way."""
    perturbations = subject.set
    if perturbations.norm_name == "Linf":
        box, x = Box(), inputs(Box())
    else:
        box, x = wide_box(perturbations.eps)
    region = perturbations.around(x, box)
    weights = direction()
    steep = weights.to(x.dtype).reshape(1, *SHAPE).expand_as(x)
    ends = region.maximiser(-steep), region.maximiser(steep)
    plain = Linear(weights)
    reach = (plain.score(ends[1].double()) - plain.score(ends[0].double())).median()
    weights = weights * (3.0 / reach)
    wanted = offset * torch.tensor([-1.0, -0.2, 0.2, 1.0], dtype=torch.float64)[torch.arange(ROWS) // 4 % 4]
    model = Linear(weights, Linear(weights).score(x.double()) - wanted, classes)
    label = torch.arange(ROWS) % len(classes[0])
    trial = Trial(subject.attack, perturbations, model, x, label, len(classes[0]), box, seed=subject.seed)
    low, high = (model.score(end.double()) for end in ends)
    return Course(trial, low, high, ends)


def same_rows(a: Tensor, b: Tensor) -> Tensor:
    """(B,) bool: rows that are equal number by number (none is NaN)."""
    return (flat(a) == flat(b)).all(dim=1)


def first(rows: Tensor) -> int:
    return int(rows.nonzero()[0])


def strays(run: Run) -> Iterator[str]:
    """Claimable queries and best points that are not finite, not in the set, or not exactly in the box."""
    region, box, eps = run.rows.region, run.trial.box, run.rows.region.eps
    points = [(f"query {n}", p, alive & s.claimable) for n, (p, s, _, alive) in enumerate(run.answered())]
    points.append(("the best point", run.last.best, torch.ones_like(run.last.finished)))
    for what, point, counts in points:
        legal = region.contains(point) & box.contains(point, torch.zeros(()))
        if (counts & ~legal).any():
            row = first(counts & ~legal)
            yield (
                f"{what} of row {row} is outside: distance {float(region.distance(point)[row]):.6g} where "
                f"{float(eps[row]):.6g} is allowed, values from {float(point[row].min()):.6g} to "
                f"{float(point[row].max()):.6g} in {box!r}"
            )
            return
