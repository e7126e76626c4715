"""How far to step, and when to go back to the best point: the `step_size` slot."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from potemkin.attacks.program import Rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.core.rows import select
from potemkin.errors import ConfigError


@dataclass
class Climb:
    """What a controller sees after an answer, and may change: it can send a row back to its best point."""

    point: Tensor
    """(B, *shape) the iterate that was answered."""
    gradient: Tensor
    """(B, *shape) the gradient there."""
    value: Tensor
    """(B,) the objective there."""
    best: Tensor
    """(B, *shape) the best point so far, this one included."""
    best_value: Tensor
    """(B,) its objective."""
    improved: Tensor
    """(B,) bool: whether this answer is the best so far."""
    step: Tensor
    """(B,) int64: moves made before this answer."""


class StepSize(Protocol):
    """Decides each row's step length."""

    @property
    def steady(self) -> bool:
        """Whether the size never depends on the step counter or the history (then rows can cycle)."""

    def init(self, rows: Rows, point: Tensor) -> Any:
        """Return the state before the first answer."""

    def resume(self, rows: Rows, point: Tensor) -> Any:
        """Return the state before the first answer when an earlier phase has moved to `point` already."""
        return self.init(rows, point)

    def reach(self, steps: int, eps: float) -> float:
        """How far so many moves go at most, in input units; infinity where the size takes care of itself."""
        return math.inf

    def update(self, climb: Climb, state: Any, rows: Rows) -> tuple[Climb, Tensor, Any]:
        """Return the (possibly changed) climb, the step length (B,) in input units, and the new state."""


@register("part")
@dataclass(frozen=True, repr=False)
class Constant(Noted, StepSize):
    """The same step length throughout: `size` in input units, or `relative` in units of the row's eps.

    Args:
        size: input units (1/255 is one grey level in [0, 1]), above 0.
        relative: multiples of eps, above 0. Exactly one of the two is given.

    Source: Kurakin et al. 2017, section 2 (alpha = 1 grey level); Madry et al. 2018.  Differs: none.
    """

    size: float | None = None
    relative: float | None = None
    steady = True

    def __post_init__(self) -> None:
        if (self.size is None) == (self.relative is None):
            raise ConfigError("Constant takes exactly one of size=… (input units) and relative=… (multiples of eps).")
        number("size", 1.0 if self.size is None else self.size, low=0.0, open_low=True)
        number("relative", 1.0 if self.relative is None else self.relative, low=0.0, open_low=True)

    def reach(self, steps: int, eps: float) -> float:
        return steps * (self.size if self.size is not None else (self.relative or 0.0) * eps)

    def init(self, rows: Rows, point: Tensor) -> tuple[()]:
        return ()

    def update(self, climb: Climb, state: Any, rows: Rows) -> tuple[Climb, Tensor, Any]:
        eps = rows.region.eps
        length = torch.full_like(eps, self.size) if self.size is not None else eps * float(self.relative or 0.0)
        return climb, length, state


@dataclass
class Halving:
    """State of `HalveOnStall`, one entry per row."""

    size: Tensor
    window: Tensor
    since: Tensor
    rises: Tensor
    last: Tensor
    best_at_check: Tensor
    reduced: Tensor
    best_gradient: Tensor


@register("part")
@dataclass(frozen=True, repr=False)
class HalveOnStall(Noted, StepSize):
    """APGD's controller: halve the step and go back to the best point where progress stalls at a checkpoint.

    Checkpoints: the first after max(1, int(0.22 N)) moves, each next window 0.03 N shorter, never under 0.06 N.
    At a checkpoint a row is halved if (1) the objective rose in at most `rho` of the window's moves, or (2) it was not
    halved at the last checkpoint and its best objective is the same as there. It restarts from its best point with the
    gradient stored there, which costs nothing.

    Args:
        initial: first step length in units of eps.
        rho: share of rising moves that a window must exceed to keep its step, in (0, 1].

    Source: Croce and Hein 2020, Algorithm 1 and section 3.1.  Differs: three habits of the published implementation
    that its published numbers contain: the share is compared with "at most", not "less than"; a row counts as halved
    before the first checkpoint; and the first move is compared with the value 0, not with the starting value, which
    is one free rise for a positive objective such as cross-entropy.
    """

    initial: float = 2.0
    rho: float = 0.75
    steady = False

    def __post_init__(self) -> None:
        number("initial", self.initial, low=0.0, open_low=True)
        number("rho", self.rho, low=0.0, high=1.0, open_low=True)

    def init(self, rows: Rows, point: Tensor) -> Halving:
        eps, zero = rows.region.eps, torch.zeros_like(rows.region.eps)
        return Halving(
            size=self.initial * eps,
            window=_share(rows.steps, 0.22),
            since=torch.zeros_like(rows.steps),
            rises=zero,
            last=zero,
            best_at_check=torch.full_like(eps, -torch.inf),
            reduced=torch.ones_like(rows.steps, dtype=torch.bool),
            best_gradient=torch.zeros_like(point),
        )

    def update(self, climb: Climb, state: Halving, rows: Rows) -> tuple[Climb, Tensor, Halving]:
        started = climb.step > 0
        best_gradient = select(climb.improved, climb.gradient, state.best_gradient)
        rises = state.rises + ((climb.value > state.last) & started).to(state.rises.dtype)
        since = state.since + started.to(state.since.dtype)
        best_at_check = torch.where(started, state.best_at_check, climb.best_value)

        due = started & (since == state.window)
        stalled = rises <= self.rho * state.window.to(rises.dtype)
        stuck = ~state.reduced & (best_at_check >= climb.best_value)
        halve = due & (stalled | stuck)
        shorter = state.window - _share(rows.steps, 0.03)
        state = Halving(
            size=torch.where(halve, state.size / 2, state.size),
            window=torch.where(due, torch.maximum(shorter, _share(rows.steps, 0.06)), state.window),
            since=torch.where(due, 0, since),
            rises=torch.where(due, 0.0, rises),
            last=torch.where(started, climb.value, 0.0),
            best_at_check=torch.where(due, climb.best_value, best_at_check),
            reduced=torch.where(due, halve, state.reduced),
            best_gradient=best_gradient,
        )
        climb = replace(
            climb,
            point=select(halve, climb.best, climb.point),
            gradient=select(halve, best_gradient, climb.gradient),
        )
        return climb, state.size, state


def _share(steps: Tensor, share: float) -> Tensor:
    """max(1, int(share * N)) as Python would compute it, in float64."""
    return (share * steps.double()).long().clamp_min(1)
