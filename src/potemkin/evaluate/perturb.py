"""Attack a batch in memory: the same engine and the same verifier as an audit."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from potemkin.attacks.program import Attack
from potemkin.core.explain import counted
from potemkin.core.outcomes import OUTCOMES, Outcome
from potemkin.core.rows import round_up
from potemkin.data.checks import check_batch
from potemkin.data.source import Batch
from potemkin.engine.engine import Engine
from potemkin.engine.jobs import Result
from potemkin.errors import DataError
from potemkin.evaluate.prepare import as_classifier, cheapest_first, check_plan, check_rows, settings_for
from potemkin.evaluate.record import Smell
from potemkin.evaluate.smells.again import look_again
from potemkin.evaluate.smells.examine import examine
from potemkin.evaluate.smells.plan import suspect_plan
from potemkin.models.classifier import Classifier
from potemkin.models.oracle import Meter, Oracle
from potemkin.threat.sets.base import PerturbationSet
from potemkin.threat.threat_model import ThreatModel


@dataclass
class Perturbed:
    """What an attack found, row by row; printed, it is one line."""

    inputs: Tensor
    """(B, *shape): the verified adversarial where `outcome` is "broken"; else the attack's best attempt; the clean
    input where nothing was attacked."""
    outcome: list[Outcome]
    """Per row: clean_wrong, broken, budget, held, invalid or error."""
    why: list[str | None]
    """Per row, where there is something to say: why it is invalid or an error."""
    distance: Tensor
    """(B,) float64: distance of the adversarial in the set's norm; NaN where there is none."""
    cost: Meter
    """(B,) forwards, backwards and queries that each row needed, the clean forward included."""
    smells: list[Smell]
    """Reasons to distrust these outcomes, from the look at the model before the attack."""

    def __repr__(self) -> str:
        """`<Perturbed: 8 rows, 5 broken, 3 held; 41 forwards, 25 backwards, 33 queries>`."""
        counts = [f"{self.outcome.count(name)} {name}" for name in OUTCOMES if name in self.outcome]
        spent = (int(passes.sum()) for passes in (self.cost.forwards, self.cost.backwards, self.cost.queries))
        cost = [counted(passes, noun) for passes, noun in zip(spent, ("forward", "backward", "query"), strict=True)]
        told = f"{', '.join([counted(len(self.outcome), 'row'), *counts])}; {', '.join(cost)}"
        named = ", ".join(f"{smell.severity}: {smell.name}" for smell in self.smells if smell.severity != "note")
        return f"<Perturbed: {told}{f'; {named}' if named else ''}>"

    @property
    def broken(self) -> Tensor:
        """(B,) bool: the rows with a verified adversarial."""
        return torch.tensor([outcome == "broken" for outcome in self.outcome], dtype=torch.bool)


def perturb(
    model: Classifier | torch.nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel | PerturbationSet | str,
    attack: Attack | str | Sequence[Attack | str],
    *,
    seed: int = 0,
    rows: int | None = None,
) -> Perturbed:
    """Attack the rows of `x` within the threat model and return what was found.

    Args:
        model: a `Classifier`, or an nn.Module that takes inputs in [0, 1].
        x: (B, *shape) float inputs inside the box.  y: (B,) int64 labels, from 0.
        threat: a `ThreatModel` or a set.  attack: one recipe, or several as a cascade. Both may be notation, as texts.
        seed: of all random draws; row i draws as example i.
        rows: row count of the batch, a multiple of 8; None: B rounded up, at most 128.

    Returns:
        `Perturbed`: inputs, outcome, why, distance and cost per row; every success has passed the verifier. What makes
        the outcomes doubtful is in `smells`, and given as Python warnings.

    Cost:
        1 clean forward per row plus at most the attack's declared cost, and 4 forwards and 2 backwards of one batch to
        look at the model before and after; verification, padding and speculation come on top.

    Raises:
        ConfigError, DataError, ModelError: as `audit`.

    Example:
        >>> import torch, potemkin as pk
        >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.int64)
        >>> found = pk.perturb(torch.nn.Linear(4, 2), x, y, pk.Linf(0.1), pk.fgsm())
        >>> found.inputs.shape, len(found.outcome)
        (torch.Size([8, 4]), 8)
    """
    classifier, threat = as_classifier(model), ThreatModel.of(threat)
    attacks = check_plan(attack, threat, classifier.box)
    batch = _batch(x, y, classifier)
    rows = min(128, round_up(x.shape[0])) if rows is None else rows
    check_rows(rows)
    oracle = Oracle(classifier, threat.access)
    settings = settings_for(classifier, rows)
    with classifier.guest() as in_train_mode:
        checkup = examine(oracle, _head(batch, rows), settings, attacks, in_train_mode)
        settings = replace(settings, retire_cycles=checkup.may_retire)
        ordered = cheapest_first(attacks, threat, classifier.class_count)
        results = list(Engine(oracle, threat, ordered, seed=seed, settings=settings).run([batch]))
        after = look_again(oracle, checkup, rows)
    smells = suspect_plan(attacks, threat, classifier.box) + checkup.smells + after
    for smell in smells:
        if smell.severity != "note":
            warnings.warn(f"{smell.name}: {smell.message} {smell.advice}", stacklevel=2)
    return _gather(results, smells)


def _head(batch: Batch, count: int) -> Batch:
    return Batch(batch.ids[:count], batch.positions[:count], batch.inputs[:count], batch.labels[:count])


def _batch(x: Tensor, y: Tensor, classifier: Classifier) -> Batch:
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise DataError(
            f"x and y must be tensors, found {type(x).__name__} and {type(y).__name__}; use torch.as_tensor."
        )
    if x.ndim < 2 or not x.is_floating_point() or x.shape[0] == 0:
        raise DataError(
            f"x has shape {tuple(x.shape)} and dtype {x.dtype}; expected at least one row of floats, (B, *shape), "
            f"inside the box {classifier.box!r}."
        )
    if y.shape != (x.shape[0],) or y.is_floating_point():
        raise DataError(
            f"y has shape {tuple(y.shape)} and dtype {y.dtype}; expected ({x.shape[0]},) whole numbers, one label per "
            "row of x."
        )
    inputs, labels = x.detach().to("cpu", torch.float32), y.detach().to("cpu", torch.int64)
    batch = Batch(list(range(len(inputs))), torch.arange(len(inputs)), inputs, labels)
    check_batch(batch, "the batch", box=(classifier.box.low, classifier.box.high), classes=classifier.classes)
    return batch


def _gather(results: list[Result], smells: list[Smell]) -> Perturbed:
    inputs = [result.inputs if result.point is None else result.point.inputs for result in results]
    spent = torch.tensor([(r.spent.forwards, r.spent.backwards, r.spent.queries) for r in results], dtype=torch.int64)
    distances = [r.point.distance if r.outcome == "broken" and r.point is not None else float("nan") for r in results]
    return Perturbed(
        inputs=torch.stack(inputs),
        outcome=[result.outcome for result in results],
        why=[result.why for result in results],
        distance=torch.tensor(distances, dtype=torch.float64),
        cost=Meter(*spent.unbind(dim=1)),
        smells=smells,
    )
