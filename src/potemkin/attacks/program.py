"""The row program: what every per-example search looks like, and the tensors it works on.

A program never calls a model. `start(rows)` writes `state.query`, the point to ask about, per row; `step(rows, state,
reply)` reads the reply *at exactly that point* and writes the next query. Rows never look at each other, and
everything that may differ between rows is a per-row tensor. Whoever drives the program (the engine of an audit, a
training loop) makes the model call in between.

Legend: B rows (jobs), K classes, `shape` one input's shape.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from potemkin.core.random import RowStreams
from potemkin.core.rows import finite, spread
from potemkin.threat.box import Box
from potemkin.threat.goals import Aim
from potemkin.threat.objectives import Objective
from potemkin.threat.sets.base import PerturbationSet, Region


class Asks(enum.Enum):
    """What a program needs to be told about its query."""

    DECISIONS = "decisions"
    SCORES = "scores"  # for programs of one's own: no recipe here climbs without gradients
    GRADIENTS = "gradients"


@dataclass
class Rows:
    """The jobs of a batch, one per row: constants that a program reads and never writes."""

    x: Tensor
    """(B, *shape) the clean inputs."""
    aim: Aim
    """What the search steers by: label or target, and the clean logits."""
    set: PerturbationSet
    """The perturbation set, for programs that search at another eps than the row's own on the way."""
    region: Region
    """The set around `x`, inside the box, at this row's eps."""
    steps: Tensor
    """(B,) int64: moves this row may make."""
    streams: RowStreams
    """This row's random draws."""


@dataclass
class Reply:
    """The model's answer at `state.query`."""

    outputs: Tensor
    """(B, K) logits."""
    value: Tensor
    """(B,) the program's objective, to be maximised."""
    gradient: Tensor
    """(B, *shape) gradient of the objective; zeros where none was asked for."""


@dataclass
class State:
    """What every program's state holds; each leaf is a tensor with a leading row dimension."""

    query: Tensor
    """(B, *shape) the point to ask about next."""
    best: Tensor
    """(B, *shape) the point with the highest objective so far."""
    best_value: Tensor
    """(B,) its objective, -inf before the first answer."""
    best_outputs: Tensor
    """(B, K) its logits."""
    step: Tensor
    """(B,) int64: moves made so far."""
    climbs: Tensor
    """(B,) bool: whether the next step needs the gradient at `query` (the last point is only looked at)."""
    finished: Tensor
    """(B,) bool: the search is over; `query` has been answered."""
    claimable: Tensor
    """(B,) bool: whether `query` is a point of the set, so that meeting the goal there counts."""


StateT = TypeVar("StateT", bound=State)
TreeT = TypeVar("TreeT")


class Program(Protocol):
    """An ask-and-tell search over rows."""

    @property
    def asks(self) -> Asks: ...

    @property
    def objective(self) -> Objective: ...

    @property
    def random(self) -> bool:
        """Whether the queries depend on the row's random draws: else a restart would repeat the first run."""

    def start(self, rows: Rows) -> Any:
        """Write the first query of each row."""

    def step(self, rows: Rows, state: Any, reply: Reply) -> Any:
        """Read the answer at `state.query`, write the next query."""

    def recurrence(self, state: Any) -> list[Tensor] | None:
        """Return the leaves that determine everything a row will ever do, or None where the step counter matters."""

    def cost(self, steps: int) -> tuple[int, int]:
        """Return the (forwards, backwards) of one job that makes all its moves."""

    def reach(self, steps: int, eps: float) -> float:
        """How far from the clean input its moves can take it, in input units: below eps it never sees the edge."""


class Targeting(Protocol):
    """Chooses which classes an attack steers at, one job per target."""

    from_clean: bool = False
    """Whether the choice depends on the clean logits, not on their number alone."""

    def aims(self, clean: Tensor, label: Tensor, streams: RowStreams) -> tuple[Tensor, Tensor]:
        """(B, K) clean logits, (B,) labels -> (B, T) labels, (B, T) targets (-1 where there is none)."""

    def count(self, classes: int) -> int:
        """T for a model of that many classes."""


class Attack(ABC):
    """A recipe: what to run, how often, at which classes. Frozen; its repr is its notation."""

    @abstractmethod
    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        """Compose the program for a model of `classes` classes in the set's `norm` ("Linf", "L2", "L1")."""

    @abstractmethod
    def steps_for(self, eps: float) -> int:
        """Moves that one job makes at radius `eps`."""

    @property
    @abstractmethod
    def targeting(self) -> Targeting:
        """Which classes the jobs steer at."""

    @property
    @abstractmethod
    def runs(self) -> int:
        """Jobs per target (restarts, at least 1)."""

    @property
    def control(self) -> bool:
        """Whether it is no search but a control, such as random noise: it can break, and never shows that one holds."""
        return False

    def asks(self, norm: str, targeted: bool) -> Asks:
        """What its program asks for in the set's `norm`; the number of classes does not matter for that."""
        return self.program(10, norm, targeted).asks

    def reach(self, eps: float, norm: str, targeted: bool) -> float:
        """How far from the clean input one job can search, in input units: `Start.lead` and the steps."""
        return self.program(10, norm, targeted).reach(self.steps_for(eps), eps)

    @property
    def exact(self) -> frozenset[str]:
        """Norms in which it ends on a linear model's optimum bit for bit; in the others within a percent."""
        return frozenset()

    @property
    def exempt(self) -> Mapping[str, str]:
        """Checks of `check_attack` that it fails by its very nature, each with the reason; see there for the names."""
        return {}

    def misfit(self, perturbations: PerturbationSet, box: Box) -> str | None:
        """Why it means nothing in this set and box, and what to do; None where it fits."""
        return None

    def jobs(self, classes: int, targeted: bool) -> int:
        """Jobs on one example that never falls: runs times targets; a targeted goal has one target of its own."""
        return self.runs * (1 if targeted else self.targeting.count(classes))

    def cost(self, eps: float, classes: int, norm: str, targeted: bool = False) -> tuple[int, int]:
        """Return the declared (forwards, backwards) of all jobs on one example that never falls."""
        forwards, backwards = self.program(classes, norm, targeted).cost(self.steps_for(eps))
        jobs = self.jobs(classes, targeted)
        return jobs * forwards, jobs * backwards


def map_tensors(change: Callable[..., Tensor], first: TreeT, *others: TreeT) -> TreeT:
    """Apply `change` leaf by leaf to states of the same structure; a leaf that stands twice is changed once."""
    seen: dict[tuple[int, ...], Tensor] = {}

    def walk(*nodes: Any) -> Any:
        head = nodes[0]
        if isinstance(head, Tensor):
            key = tuple(id(node) for node in nodes)
            if key not in seen:
                seen[key] = change(*nodes)
            return seen[key]
        if is_dataclass(head) and not isinstance(head, type):
            names = [field.name for field in fields(head)]
            return replace(head, **{name: walk(*(getattr(node, name) for node in nodes)) for name in names})
        if isinstance(head, tuple):
            return tuple(walk(*children) for children in zip(*nodes, strict=True))
        if head is None:
            return None
        raise TypeError(f"a state may hold tensors, tuples and dataclasses, not {type(head).__name__}")

    return walk(first, *others)  # type: ignore[no-any-return]


def blank_outputs(rows: Rows) -> Tensor:
    """What stands in for the best outputs before the first answer: the clean logits, or NaN where nobody asked."""
    if rows.aim.clean is not None:
        return rows.aim.clean
    return torch.full((rows.x.shape[0], 1), torch.nan, dtype=rows.x.dtype, device=rows.x.device)


def keep_best(state: StateT, reply: Reply) -> StateT:
    """Record the query where it is a point of the set and beats the best so far; a NaN never does."""
    better = (reply.value > state.best_value) & state.claimable
    return replace(
        state,
        best=torch.where(spread(better, state.best), state.query, state.best),
        best_value=torch.where(better, reply.value, state.best_value),
        best_outputs=torch.where(better.unsqueeze(1), reply.outputs, state.best_outputs),
    )


def clean_gradient(gradient: Tensor) -> Tensor:
    """Zero the rows whose gradient is not finite: `sign(nan)` would freeze them in silence or spread."""
    whole = finite(gradient)
    if gradient.device.type == "cpu" and bool(whole.all()):
        return gradient  # nearly always; elsewhere asking would wait for the device
    kept = spread(whole.to(gradient.dtype), gradient)
    # Infinity times zero is NaN again, hence the second half; two cheap passes instead of one expensive `where`.
    return (gradient * kept).nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
