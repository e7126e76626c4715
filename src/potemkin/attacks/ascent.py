"""The one loop of all first-order, fixed-budget attacks, as an ask-and-tell row program.

    x_0 = start;   repeat N times:  ask at x_t;  keep the best;  x_{t+1} = move(x_t, size * direction(gradient))
    ask at x_N;    keep the best

N moves cost N + 1 forwards and N backwards. FGSM is one constant step from the centre, BIM is N of them, PGD starts
inside, MI-FGSM accumulates normalised gradients, APGD halves its step and moves like a heavy ball: see `recipes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.parts.directions import Direction, Steepest
from potemkin.attacks.parts.looks import AtIterate, GradientPoint
from potemkin.attacks.parts.moves import Move, Project
from potemkin.attacks.parts.starts import Center, Start
from potemkin.attacks.parts.step_sizes import Climb, Constant, StepSize
from potemkin.attacks.parts.variables import Identity, Variable
from potemkin.attacks.program import Asks, Reply, Rows, State, blank_outputs, clean_gradient, keep_best
from potemkin.core.notation import Noted
from potemkin.core.rows import spread
from potemkin.threat.objectives import CrossEntropy, Objective


@dataclass
class AscentState(State):
    """The loop's own memory and that of its parts."""

    point: Tensor
    """(B, *shape) the iterate; the query itself unless the gradient is taken elsewhere."""
    size: Any
    direction: Any
    move: Any


@dataclass(frozen=True, repr=False)
class Ascent(Noted):
    """Climb the objective inside the set: one slot per idea, each filled by a part.

    Costs N + 1 forwards and N backwards for N moves; the last point is evaluated, too. Draws randomness only at the
    start, from the row's own stream.

    Args:
        objective: what is climbed, always maximised.
        start_at: where rows begin.  look: where the gradient is taken.  direction: from gradient to direction.
        step_size: how far, and when to go back.  move: how a step stays inside the set.  variable: what is searched.
        gradient_free: the start is all there is (noise controls): nothing but decisions is asked for.

    Source: Goodfellow et al. 2015; Kurakin et al. 2017; Madry et al. 2018.  Differs: keeps the best iterate.
    """

    objective: Objective = CrossEntropy()
    start_at: Start = Center()
    look: GradientPoint = AtIterate()
    direction: Direction = Steepest()
    step_size: StepSize = Constant(relative=1.0)
    move: Move = Project()
    variable: Variable = Identity()
    gradient_free: bool = False

    @property
    def asks(self) -> Asks:
        return Asks.DECISIONS if self.gradient_free else Asks.GRADIENTS

    @property
    def random(self) -> bool:
        return self.start_at.random

    def cost(self, steps: int) -> tuple[int, int]:
        return steps + 1, steps

    def reach(self, steps: int, eps: float) -> float:
        if self.gradient_free:
            return math.inf
        return self.start_at.lead * eps + self.step_size.reach(steps, eps)

    def start(self, rows: Rows) -> AscentState:
        start = self.variable.begin(self.start_at.point(rows), rows.x)
        return self.start_from(rows, rows.region.project(start))

    def start_from(self, rows: Rows, point: Tensor) -> AscentState:
        """Begin at a given (B, *shape) point of the set."""
        batch = point.shape[0]
        return AscentState(
            query=point,
            best=rows.x,
            best_value=torch.full((batch,), -torch.inf, dtype=point.dtype, device=point.device),
            best_outputs=blank_outputs(rows),
            step=torch.zeros_like(rows.steps),
            climbs=rows.steps > 0,
            finished=torch.zeros_like(rows.steps, dtype=torch.bool),
            claimable=torch.ones_like(rows.steps, dtype=torch.bool),
            point=point,
            size=self.step_size.init(rows, point),
            direction=self.direction.init(point),
            move=self.move.init(point),
        )

    def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
        improved = (reply.value > state.best_value) & state.claimable
        state = keep_best(state, reply)
        gradient = self.variable.restrict(clean_gradient(reply.gradient))
        climb = Climb(state.point, gradient, reply.value, state.best, state.best_value, improved, state.step)
        climb, size, size_state = self.step_size.update(climb, state.size, rows)
        direction, direction_state = self.direction.update(climb.gradient, state.direction, climb.point, rows, size)
        point, move_state = self.move.update(
            climb.point, spread(size, direction) * direction, state.move, rows, state.step == 0
        )

        last = state.step + 1 >= rows.steps
        query, claimable = self._next_query(rows, point, size, direction_state, last)
        finished = state.step >= rows.steps
        return replace(
            state,
            query=query,
            point=point,
            step=state.step + 1,
            climbs=~last,
            finished=state.finished | finished,
            claimable=claimable,
            size=size_state,
            direction=direction_state,
            move=move_state,
        )

    def _next_query(
        self, rows: Rows, point: Tensor, size: Tensor, direction_state: Any, last: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.look.at_iterate:
            return point, torch.ones_like(last)
        ahead = self.look.query(point, size, self.direction.memory(direction_state), rows)
        query = torch.where(spread(last, point), point, ahead)
        return query, rows.region.contains(query)

    def recurrence(self, state: AscentState) -> list[Tensor] | None:
        """The iterate and its parts' memories, if nothing else decides what comes next.

        A look-ahead loop never repeats itself: its last query, the iterate, is unlike all before it.
        """
        if not self.step_size.steady or self.gradient_free or not self.look.at_iterate:
            return None
        return [state.query, *_leaves((state.direction, state.move))]


def _leaves(node: Any) -> list[Tensor]:
    if isinstance(node, Tensor):
        return [node]
    return [leaf for child in node for leaf in _leaves(child)]
