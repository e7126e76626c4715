"""How a step becomes the next point: the `move` slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from potemkin.attacks.program import Rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.core.rows import spread


class Move(Protocol):
    """Takes a step and stays inside the set."""

    def init(self, point: Tensor) -> Any:
        """Return the state before the first move."""

    def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> tuple[Tensor, Any]:
        """Return the next point, inside the set, and the new state; `first` (B,) marks rows at their first move."""


@register("part")
@dataclass(frozen=True, repr=False)
class Project(Noted):
    """x_{t+1} = P(x_t + step), P the exact Euclidean projection onto set and box.

    Source: Madry et al. 2018, equation (2.2).  Differs: the projection onto an L2 or L1 ball inside the box is exact
    where the field projects onto the ball, then clips (`PullIn`).
    """

    def init(self, point: Tensor) -> tuple[()]:
        return ()

    def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> tuple[Tensor, Any]:
        return rows.region.project(point + step), state


@register("part")
@dataclass(frozen=True, repr=False)
class PullIn(Noted):
    """x_{t+1} = clip(project onto the ball(x_t + step)): feasible, not the nearest.

    No recipe uses it: it is for parity with published numbers, and what `make parity` derives the peers' moves from.

    Source: the field's common practice for L2.  Differs: none.
    """

    def init(self, point: Tensor) -> tuple[()]:
        return ()

    def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> tuple[Tensor, Any]:
        return rows.region.pull_in(point + step), state


@register("part")
@dataclass(frozen=True, repr=False)
class HeavyBall(Noted):
    """APGD's move: a projected step, then a part of it plus a part of the last displacement, projected again.

        z = Q(x_t + step);   x_{t+1} = Q(x_t + share (z - x_t) + (1 - share) (x_t - x_{t-1})),   share = 1 at first

    where Q projects onto the ball, then clips to the box (`pull_in`): in Linf the projection, in L2 and L1 a feasible
    point that need not be the nearest.

    Args:
        share: of the new step (the paper's alpha), in (0, 1].

    Source: Croce and Hein 2020, Algorithm 1, lines 3 and 7.  Differs: Q is the published implementation's, the paper
    projects; after a restart from the best point, x_{t-1} is the point left before the last move, as there.
    """

    share: float = 0.75

    def __post_init__(self) -> None:
        number("share", self.share, low=0.0, high=1.0, open_low=True)

    def init(self, point: Tensor) -> Tensor:
        return point

    def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> tuple[Tensor, Any]:
        inside = rows.region.pull_in
        share = spread(torch.where(first, 1.0, self.share).to(point.dtype), point)
        ahead = inside(point + step)
        return inside(point + (ahead - point) * share + (point - state) * (1 - share)), point
