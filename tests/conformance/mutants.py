"""Attacks with one fault each, and the same attack without a fault. What `check_attack` is for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.ascent import Ascent, AscentState
from potemkin.attacks.parts.directions import Chain, Momentum, Normalize, Steepest
from potemkin.attacks.parts.looks import LookAhead
from potemkin.attacks.parts.moves import Project
from potemkin.attacks.parts.starts import Center, Inside
from potemkin.attacks.parts.step_sizes import Constant
from potemkin.attacks.program import Program, Reply, Rows
from potemkin.attacks.recipes.base import Recipe
from potemkin.core.rows import flat, select, spread
from potemkin.threat.goals import Aim
from potemkin.threat.objectives import CrossEntropy


@dataclass(frozen=True, repr=False)
class honest(Recipe):
    """PGD as it should be: what the mutants below are made from."""

    steps: int = 20
    restarts: int = 1
    relative: float = 0.25

    @property
    def runs(self) -> int:
        return self.restarts

    def steps_for(self, eps: float) -> int:
        return self.steps

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(**self.slots())

    def slots(self) -> dict[str, Any]:
        return {"objective": CrossEntropy(), "start_at": Inside(), "step_size": Constant(relative=self.relative)}


# ---- faults of a part -----------------------------------------------------------------------------------------------


class _Part:
    """A direction, or a move, without memory."""

    def init(self, point: Tensor) -> tuple[()]:
        return ()

    def memory(self, state: Any) -> None:
        return None


class beyond_the_set(honest):
    class Move(Project):
        def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> Any:
            inside = rows.region.project(point + step)
            return rows.region.box.clip(inside + 1e-3 * (inside - rows.x).sign()), state

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"move": self.Move()}


class beyond_the_box(honest):
    class Move(Project):
        def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> Any:
            reach = spread(rows.region.eps, point)
            return (point + step).clamp(rows.x - reach, rows.x + reach), state

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"move": self.Move()}


class lifts_interior_points(honest):
    class Move(Project):
        def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> Any:
            away = point + step - rows.x
            length = flat(away).norm(dim=1).clamp_min(1e-12)
            return rows.region.project(rows.x + away * spread(rows.region.eps / length, away)), state

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"move": self.Move()}


class ignores_the_rows_eps(honest):
    class Move(Project):
        def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> Any:
            return rows.set.around(rows.x, rows.region.box).project(point + step), state

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"move": self.Move()}


class climbs_down(honest):
    class Direction(_Part):
        def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> Any:
            return -rows.region.steepest(gradient, point, size), state

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"direction": self.Direction()}


class divides_by_zero(honest):
    class Direction(_Part):
        def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> Any:
            return gradient / spread(flat(gradient).norm(dim=1), gradient), state

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"direction": self.Direction()}


class looks_at_the_whole_batch(honest):
    class Direction(_Part):
        def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> Any:
            return gradient / gradient.abs().max().clamp_min(1e-12), state

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"direction": self.Direction()}


class signs_in_place(honest):
    class Direction(_Part):
        def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> Any:
            return gradient.sign_(), state

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        class Loop(Ascent):
            def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
                reply.gradient.sign_()
                return super().step(rows, state, reply)

        return Loop(**self.slots())


class accumulates_signs(honest):
    class Sign(_Part):
        def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> Any:
            return gradient.sign(), state

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"direction": Chain((Normalize(p=1), self.Sign(), Momentum(1.0), Steepest()))}


class draws_from_the_global_generator(honest):
    class Start(Inside):
        def point(self, rows: Rows) -> Tensor:
            return rows.region.project(rows.x + spread(rows.region.eps, rows.x) * (2 * torch.rand_like(rows.x) - 1))

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"start_at": self.Start()}


class restarts_at_the_same_point(honest):
    def slots(self) -> dict[str, Any]:
        return super().slots() | {"start_at": Center()}


class says_it_is_random(honest):
    class Start(Center):
        random = True

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"start_at": self.Start()}


class takes_targets_for_labels(honest):
    class Objective(CrossEntropy):
        def __call__(self, outputs: Tensor, aim: Aim) -> Tensor:
            return self.away(outputs, aim)

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"objective": self.Objective()}


# ---- parameters that do nothing -------------------------------------------------------------------------------------


class ignores_restarts(honest):
    @property
    def runs(self) -> int:
        return 1


class ignores_the_step_size(honest):
    def slots(self) -> dict[str, Any]:
        return super().slots() | {"step_size": Constant(relative=0.25)}


class ignores_the_look_ahead(honest):
    """No parameter of its own: a number inside the program that it composes."""

    class Look(LookAhead):
        def query(self, point: Tensor, size: Tensor, memory: Tensor | None, rows: Rows) -> Tensor:
            return point

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"look": self.Look(0.5), "direction": Chain((Normalize(), Momentum(), Steepest()))}


# ---- faults of the loop ---------------------------------------------------------------------------------------------


class _Loop(honest):
    """Runs `Loop` instead of the real one."""

    Loop: type[Ascent] = Ascent

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return self.Loop(**self.slots())


class returns_the_clean_input(_Loop):
    class Loop(Ascent):
        def start_from(self, rows: Rows, point: Tensor) -> AscentState:
            return super().start_from(rows, rows.x)

        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            return replace(super().step(rows, state, reply), query=rows.x, point=rows.x)


class forgets_the_last_iterate(_Loop):
    class Loop(Ascent):
        def cost(self, steps: int) -> tuple[int, int]:
            return max(steps, 1), steps

        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            after = super().step(rows, state, reply)
            return replace(after, finished=after.step >= rows.steps, climbs=torch.ones_like(after.climbs))


class ignores_the_last_answer(_Loop):
    class Loop(Ascent):
        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            after = super().step(rows, state, reply)
            over = state.step >= rows.steps
            return replace(
                after,
                best=select(over, state.best, after.best),
                best_value=torch.where(over, state.best_value, after.best_value),
            )


class keeps_the_last_instead_of_the_best(_Loop):
    class Loop(Ascent):
        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            after = super().step(rows, state, reply)
            return replace(after, best=state.query, best_value=reply.value, best_outputs=reply.outputs)


class declares_too_little(_Loop):
    class Loop(Ascent):
        def cost(self, steps: int) -> tuple[int, int]:
            return steps, steps


class declares_backwards_it_does_not_make(_Loop):
    class Loop(Ascent):
        def cost(self, steps: int) -> tuple[int, int]:
            return steps + 1, steps + 1


class counts_its_own_steps(_Loop):
    class Loop(Ascent):
        def start(self, rows: Rows) -> AscentState:
            return super().start(replace(rows, steps=torch.full_like(rows.steps, 5)))

        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            return super().step(replace(rows, steps=torch.full_like(rows.steps, 5)), state, reply)


class writes_into_the_input(_Loop):
    class Loop(Ascent):
        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            after = super().step(rows, state, reply)
            rows.x.add_(1e-4)
            return after


class claims_points_outside(_Loop):
    """A look-ahead that forgets to ask whether it left the set."""

    class Loop(Ascent):
        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            after = super().step(rows, state, reply)
            return replace(after, claimable=torch.ones_like(after.claimable))

    def slots(self) -> dict[str, Any]:
        return super().slots() | {"look": LookAhead(), "direction": Chain((Normalize(), Momentum(), Steepest()))}


class hides_its_memory(_Loop):
    """Momentum that `recurrence` does not mention: an engine would retire rows that still had somewhere to go."""

    class Loop(Ascent):
        def recurrence(self, state: AscentState) -> list[Tensor] | None:
            return [state.query.round(decimals=1)]


class asks_in_float32(_Loop):
    class Loop(Ascent):
        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            after = super().step(rows, state, reply)
            return replace(after, query=after.query.float(), point=after.point.float())


class shortens_with_its_length(_Loop):
    """The more moves, the fewer it makes: what a schedule that counts from the end does."""

    class Loop(Ascent):
        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            after = super().step(rows, state, reply)
            early = rows.steps > 2 * state.step + 4
            return replace(after, query=select(early, rows.x, after.query), point=select(early, rows.x, after.point))


class crashes(_Loop):
    class Loop(Ascent):
        def step(self, rows: Rows, state: AscentState, reply: Reply) -> AscentState:
            raise ZeroDivisionError("one over nothing")


class loose(Recipe):
    """Not a dataclass: its settings could be changed under way, and it has no notation."""

    def steps_for(self, eps: float) -> int:
        return 1

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent()
