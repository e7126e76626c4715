"""Clean and robust accuracy while training: a fixed subset, a plain copy of the network, and the audit's own engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from potemkin.attacks.recipes.fgsm import fgsm
from potemkin.attacks.recipes.pgd import pgd
from potemkin.core.outcomes import UNDECIDED
from potemkin.core.random import RowStreams, row_keys, text_key
from potemkin.data.arrays import ArraySource
from potemkin.data.checks import checked_batches
from potemkin.data.source import DataSource, Ints, id_key
from potemkin.evaluate.audit import audit
from potemkin.models.classifier import Classifier
from potemkin.threat.goals import strictly_right
from potemkin.threat.threat_model import ThreatModel
from potemkin.training.examples import Examples
from potemkin.training.inner import Adversary
from potemkin.training.journal import EvaluationLine
from potemkin.training.learner import Learner, Meter
from potemkin.training.parallel import Processes
from potemkin.training.recipes.base import Recipe

EVALUATION = text_key("evaluation while training")
ROWS = 128


@dataclass
class Subset:
    """This process's rows of a fixed part of some data, in memory."""

    part: Literal["train", "validation"]
    source: ArraySource
    total: int
    """Rows of all processes together."""
    majority: int
    """How many of them have the most frequent label."""


def subset(
    part: Literal["train", "validation"],
    source: DataSource,
    positions: Ints,
    processes: Processes,
    box: tuple[float, float],
    classes: int | None,
) -> Subset:
    """Read the examples at `positions`, this process's share of them, and check each."""
    own = positions[processes.rank :: processes.world]
    read = list(checked_batches(source, own, 256, box, classes))
    ids = [example for batch in read for example in batch.ids]
    inputs = torch.cat([batch.inputs for batch in read]) if read else torch.zeros(0, *source.input_shape)
    labels = torch.cat([batch.labels for batch in read]) if read else torch.zeros(0, dtype=torch.int64)
    held = ArraySource(inputs, labels, name=f"{source.name}, {part} subset", ids=ids, input_shape=source.input_shape)
    counts = processes.total(torch.bincount(labels, minlength=classes or 1).tolist())
    return Subset(part, held, len(positions), round(max(counts)))


class Evaluator:
    """Judges weights on the subsets. Collective: every process calls it, each with its own rows."""

    def __init__(
        self, judged: Classifier, recipe: Recipe, steps: int, seed: int, processes: Processes, meter: Meter
    ) -> None:
        self.judged, self._recipe, self._processes, self._seed = judged, recipe, processes, seed
        self.threat = ThreatModel(recipe.threats[0])
        self._check, self._meter = pgd(steps=steps), meter

    def judge(self, part: Subset, step: int, epoch: float, weights: Literal["current", "average"]) -> EvaluationLine:
        """Count what is right on clean inputs, under the training attack, under one step, and what the audit cannot
        break."""
        with self.judged.guest():
            counts = self._counted(part)
        counts += self._checked(part)
        clean, training, one_step, robust, undecided = (round(k) for k in self._processes.total(counts))
        return EvaluationLine(
            step=step, epoch=epoch, part=part.part, weights=weights, n=part.total,
            attacked=training_attack(self._recipe) is not None, defends=self._recipe.defends, majority=part.majority,
            clean=clean, training_attack=training, one_step=one_step, robust=robust,
            undecided=undecided,
        )  # fmt: skip

    def _checked(self, part: Subset) -> list[int]:
        if not len(part.source):
            return [0, 0]
        record = audit(self.judged, part.source, self.threat, self._check, seed=self._seed, rows=ROWS)
        self._meter.evaluation[0] += record.cost.physical.forwards
        self._meter.evaluation[1] += record.cost.physical.backwards
        return [record.outcomes["held"], sum(record.outcomes[name] for name in UNDECIDED)]

    def _counted(self, part: Subset) -> list[int]:
        learner = Learner(
            self.judged.net, self.judged.net, self.judged.box, self.judged.preprocessing, self.judged.classes
        )
        own = training_attack(self._recipe)
        totals = [0, 0, 0]
        for batch in part.source.batches(ROWS) if len(part.source) else ():
            keys = row_keys(
                self._seed, torch.tensor([id_key(i) for i in batch.ids]), EVALUATION, torch.tensor(-1), torch.tensor(0)
            )
            x, y = batch.inputs.to(self.judged.device), batch.labels.to(self.judged.device)
            given = Examples(x, y, batch.positions, RowStreams(keys.to(x.device)), 1.0)
            clean = self._right(learner, x, y)
            attacked = clean if own is None else self._attacked(learner, given, own)
            one = self._attacked(learner, given, Adversary(fgsm()))
            totals = [total + int(more.sum()) for total, more in zip(totals, (clean, attacked, one), strict=True)]
        for number, passes in enumerate(learner.meter.attack):
            self._meter.evaluation[number] += passes
        return totals

    def _attacked(self, learner: Learner, given: Examples, adversary: Adversary) -> Tensor:
        within = self._recipe.threats[0]
        eps = torch.full((len(given),), float(within.eps), device=given.x.device)
        return self._right(learner, adversary.search(learner, given, within, eps).points, given.y)

    def _right(self, learner: Learner, x: Tensor, y: Tensor) -> Tensor:
        with learner.probing("eval") as logits, torch.no_grad():
            return strictly_right(logits(x), y)


def training_attack(recipe: Recipe) -> Adversary | None:
    """What the recipe trains against, as an evaluation runs it; None where it trains on clean rows."""
    if recipe.adversary is not None:
        return replace(recipe.adversary, mode="eval")
    return Adversary(fgsm()) if recipe.replays > 1 else None
