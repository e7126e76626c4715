"""What the engine handles: a job, how it ended, an example in flight, and an example's result."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from potemkin.core.outcomes import Outcome

if TYPE_CHECKING:
    from potemkin.engine.batch import Parked


@dataclass(frozen=True)
class Job:
    """One (example, attack, target, restart, eps): what a row of the batch works on."""

    attack: int
    label: int
    target: int
    restart: int
    eps: float
    steps: int


@dataclass(frozen=True)
class Spent:
    """Counted passes of one example or job."""

    forwards: int = 0
    backwards: int = 0
    queries: int = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.forwards + other.forwards, self.backwards + other.backwards, self.queries + other.queries)


class End(enum.Enum):
    """How a job ended."""

    BROKEN = "a claim was verified"
    HELD = "the search is done, with a usable signal"
    CONTROL = "a control is done: it moved, but it searched nothing"
    BLIND = "the search is done, but never had a usable signal"
    REFUSED = "the search is done; it made claims and the verifier refused them all"
    NONFINITE = "the model's scores were not finite"
    BUDGET = "the query budget forbade to go on"


@dataclass
class Point:
    """A point of the search with what the model says about it."""

    inputs: Tensor
    outputs: Tensor
    distance: float


@dataclass
class Finish:
    """A job that is over."""

    job: Job
    end: End
    why: str | None
    spent: Spent
    point: Point | None
    refused: int = 0


class Stage(enum.Enum):
    """Where a flight is."""

    READY = 0
    RUNNING = 1
    CLAIMED = 2
    DONE = 3


@dataclass(eq=False)
class Flight:
    """A job under way: waiting, in a slot of the batch, waiting for the verifier, or done."""

    example: Example
    job: Job
    stage: Stage = Stage.READY
    spent: Spent = Spent()
    parked: Parked | None = None
    """The row, while it is out of the batch with a claim."""
    steered: bool = False
    """Whether it ever saw a gradient that was finite and not zero (or needs none)."""
    moved: bool = False
    """Whether it ever asked about anything but the input itself."""
    refusals: list[str] = field(default_factory=list)
    finish: Finish | None = None


@dataclass(eq=False)
class Example:
    """An example that was right before the attack, and the jobs it has had."""

    order: int
    """Its place in the data that are evaluated: results are reported in this order."""
    id: int | str
    position: int
    key: int
    inputs: Tensor
    label: int
    goal_target: int
    clean_outputs: Tensor
    aims: list[list[tuple[int, int]]]
    """Per attack, the (label, target) of each of its jobs' targets."""
    spent: Spent
    finished: list[Finish] = field(default_factory=list)
    flights: list[Flight] = field(default_factory=list)
    """In plan order; the first is the real one, the others run ahead."""


@dataclass
class Tally:
    """What one attack did on one example."""

    jobs: int = 0
    spent: Spent = Spent()
    refused: int = 0


@dataclass
class Result:
    """How one example ended."""

    order: int
    id: int | str
    position: int
    label: int
    inputs: Tensor
    clean_outputs: Tensor
    outcome: Outcome
    why: str | None
    spent: Spent
    broken_by: Job | None = None
    point: Point | None = None
    """The verified adversarial where broken, else the closest attempt."""
    attacks: dict[int, Tally] = field(default_factory=dict)
    right: bool = True
    """Whether it was right before any attack."""


def settle(finished: list[Finish]) -> tuple[Outcome, str | None, Finish | None]:
    """The example's outcome from its finished jobs, with the reason and the job that tells the story."""
    ends = Counter(finish.end for finish in finished)
    story = max(finished, key=closeness, default=None)
    if ends[End.BROKEN]:
        return "broken", None, next(finish for finish in finished if finish.end is End.BROKEN)
    if ends[End.BUDGET]:
        return "budget", _why(finished, End.BUDGET), story
    if ends[End.HELD]:
        return "held", None, story
    if ends[End.REFUSED]:
        return "invalid", _why(finished, End.REFUSED), story
    # Noise that failed to fool decides nothing where the searches themselves were blind.
    if ends[End.CONTROL] and not ends[End.BLIND] and not ends[End.NONFINITE]:
        return "held", None, story
    end = End.NONFINITE if ends[End.NONFINITE] else End.BLIND
    return "error", _why(finished, end), story


def closeness(finish: Finish) -> float:
    """How near a job's best point came to another class: its margin, -inf where there is none."""
    if finish.point is None:
        return float("-inf")
    outputs, label = finish.point.outputs, finish.job.label
    others = outputs.clone()
    others[label] = float("-inf")
    margin = float(others.max() - outputs[label])
    return margin if margin == margin else float("-inf")


def _why(finished: list[Finish], end: End) -> str | None:
    return next((finish.why for finish in finished if finish.end is end), None)
