"""From the engine's results to the lines and sums of a Record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from potemkin.attacks.program import Attack
from potemkin.core.canonical import show
from potemkin.core.outcomes import OUTCOMES, Outcome
from potemkin.data.source import Fingerprint
from potemkin.engine.jobs import Result, Spent
from potemkin.evaluate.bundle_write import BundleWriter
from potemkin.evaluate.cascade import AttackSummary
from potemkin.evaluate.costs import Cost, Costs, PurposeCosts
from potemkin.evaluate.lines import ExampleLine
from potemkin.evaluate.rates import Rate
from potemkin.models import oracle as oracles


class Collector:
    """Takes results in data order, hands them to the bundle, and keeps nothing but sums."""

    def __init__(self, writer: BundleWriter | None, scores: bool = True) -> None:
        self.writer, self.scores = writer, scores
        self.outcomes: Counter[Outcome] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.whys: Counter[tuple[str, str]] = Counter()
        self.clean_right = 0
        self.useful = Spent()
        self.tried: Counter[int] = Counter()
        self.jobs: Counter[int] = Counter()
        self.broken: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.spent: dict[int, Spent] = {}
        self.hash: Fingerprint

    @property
    def n(self) -> int:
        """Examples with an outcome."""
        return sum(self.outcomes.values())

    def fingerprint(self, input_shape: Sequence[int]) -> Fingerprint:
        """The data's fingerprint, which grows while the batches are read."""
        self.hash = Fingerprint(input_shape)
        return self.hash

    def add(self, result: Result, attacks: Sequence[Attack]) -> None:
        """Count one result and write its line."""
        self.outcomes[result.outcome] += 1
        self.clean_right += result.right
        self.useful += result.spent
        if result.why is not None:
            self.whys[(result.outcome, result.why)] += 1
        for number, tally in result.attacks.items():
            self.tried[number] += 1
            self.jobs[number] += tally.jobs
            self.refused[number] += tally.refused
            self.spent[number] = self.spent.get(number, Spent()) + tally.spent
        if result.broken_by is not None:
            self.broken[result.broken_by.attack] += 1
        if self.writer is not None:
            self._write(self.writer, result, attacks)

    def _write(self, writer: BundleWriter, result: Result, attacks: Sequence[Attack]) -> None:
        point = None if result.point is None else result.point.inputs.numpy()
        broken = result.outcome == "broken"
        writer.add(
            example_line(result, attacks, self.scores),
            point if broken else None,
            clean=result.inputs.to(torch.float32).numpy() if writer.wants_picture(result.outcome) else None,
            attempt=point,
        )

    def summaries(self, attacks: Sequence[Attack]) -> list[AttackSummary]:
        """What each attack of the cascade contributed: an example meets the attacks in order until it falls."""
        left = self.outcomes["held"] + sum(self.broken.values())
        found = []
        for number, attack in enumerate(attacks):
            left -= self.broken[number]
            found.append(
                AttackSummary(
                    recipe=show(attack),
                    order=number,
                    tried=self.tried[number],
                    jobs=self.jobs[number],
                    broken=self.broken[number],
                    invalid_claims=self.refused[number],
                    robust_accuracy_after=Rate.of(left, self.n),
                    cost=as_cost(self.spent.get(number, Spent())),
                )
            )
        return found

    def costs(self, physical: Mapping[oracles.Purpose, oracles.Cost], speculative: Spent) -> Costs:
        """Useful: what the examples themselves needed. Physical: every row that was computed."""
        by_purpose = {
            purpose: Cost(
                forwards=cost.forwards, backwards=cost.backwards, queries=cost.forwards if purpose == "search" else 0
            )
            for purpose, cost in physical.items()
        }
        return Costs(
            useful=as_cost(self.useful),
            physical=sum(by_purpose.values(), Cost()),
            speculative=as_cost(speculative),
            by_purpose=PurposeCosts(**by_purpose),
        )


def as_cost(spent: Spent) -> Cost:
    """The record's form of counted passes."""
    return Cost(forwards=spent.forwards, backwards=spent.backwards, queries=spent.queries)


def example_line(result: Result, attacks: Sequence[Attack], scores: bool = True) -> ExampleLine:
    """The line of examples.jsonl for one result; `scores`: whether the search saw scores, not only decisions."""
    job, point = result.broken_by, result.point
    attacked = None if point is None or not bool(torch.isfinite(point.outputs).all()) else point.outputs
    # Under decision access the search saw ones and zeros; the verifier, whose outputs a broken example has, saw scores.
    shown = scores or result.outcome == "broken"
    return ExampleLine(
        id=result.id,
        position=result.position,
        label=result.label,
        prediction=int(result.clean_outputs.argmax()),
        outcome=result.outcome,
        why=result.why,
        broken_by=None if job is None else show(attacks[job.attack]),
        restart=None if job is None else job.restart,
        target=None if job is None or job.target < 0 else job.target,
        distance=point.distance if job is not None and point is not None else None,
        attack_prediction=None if attacked is None else int(attacked.argmax()),
        clean_confidence=_confidence(result.clean_outputs, result.label),
        attack_confidence=_confidence(attacked, int(attacked.argmax())) if attacked is not None and shown else None,
        forwards=result.spent.forwards,
        backwards=result.spent.backwards,
        queries=result.spent.queries,
    )


def _confidence(outputs: Tensor, label: int) -> float:
    # float64, then six digits: the last bits of a softmax are noise that would only spoil comparisons by eye.
    return round(float(outputs.double().softmax(dim=0)[label]), 6)
