"""Which job an example gets next, from that example's own earlier outcomes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from potemkin.attacks.program import Attack
from potemkin.engine.jobs import Example, Finish, Job


class Plan(Protocol):
    """A pure function of an example and its finished jobs: so neither winner nor cost depends on the schedule."""

    def next(self, example: Example, finished: Sequence[Finish], ahead: int = 0) -> Job | None:
        """Return the next job, supposing that `ahead` further ones have failed; None when there is no more."""


@dataclass(frozen=True)
class Cascade:
    """All jobs of the first attack, then of the second, and so on: targets in order, each with all its restarts.

    An example that falls gets no further job.
    """

    attacks: tuple[Attack, ...]
    eps: float

    def next(self, example: Example, finished: Sequence[Finish], ahead: int = 0) -> Job | None:
        place = len(finished) + ahead
        for number, attack in enumerate(self.attacks):
            aims = example.aims[number]
            jobs = len(aims) * attack.runs
            if place < jobs:
                label, target = aims[place // attack.runs]
                steps = attack.steps_for(self.eps)
                return Job(number, label, target, place % attack.runs, self.eps, steps)
            place -= jobs
        return None
