"""Run an ascent several times over, each time at a smaller eps, from the best point of the run before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from potemkin.attacks.ascent import Ascent, AscentState
from potemkin.attacks.program import Asks, Reply, Rows, State, blank_outputs, keep_best, map_tensors
from potemkin.core.notation import Noted
from potemkin.core.rows import select
from potemkin.threat.objectives import Objective


@dataclass
class PhaseState(State):
    """The phase each row is in, and the inner ascent's state."""

    phase: Tensor
    inner: AscentState


@dataclass(frozen=True, repr=False)
class Phases(Noted):
    """Ascents at shrinking radii: only points inside the real one may be claimed.

        for (scale, share) in schedule:  x <- best of ascent(eps = scale * eps, steps = share * N, from P_scale(x))

    Args:
        ascent: the inner loop.
        schedule: (multiple of eps, share of the moves) per phase; the last multiple is 1, the shares sum to 1.

    Costs N + len(schedule) forwards and N backwards.

    Source: Croce and Hein 2021, section 3.4 (3 eps, 2 eps, eps for 30, 30, 40 % of the moves).  Differs: none known.
    """

    ascent: Ascent = Ascent()
    schedule: tuple[tuple[float, float], ...] = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))

    @property
    def asks(self) -> Asks:
        return self.ascent.asks

    @property
    def objective(self) -> Objective:
        return self.ascent.objective

    @property
    def random(self) -> bool:
        return self.ascent.random

    def cost(self, steps: int) -> tuple[int, int]:
        return steps + len(self.schedule), steps

    def reach(self, steps: int, eps: float) -> float:
        return self.ascent.reach(steps, eps)

    def start(self, rows: Rows) -> PhaseState:
        wide = self._rows(rows, torch.zeros_like(rows.steps))
        return self.start_from(rows, self.ascent.variable.begin(self.ascent.start_at.point(wide), rows.x))

    def start_from(self, rows: Rows, point: Tensor) -> PhaseState:
        """Begin at a given (B, *shape) point instead."""
        phase = torch.zeros_like(rows.steps)
        return self._wrap(rows, phase, self._resume(self._rows(rows, phase), point))

    def step(self, rows: Rows, state: PhaseState, reply: Reply) -> PhaseState:
        state = keep_best(state, reply)
        inner_rows = self._rows(rows, state.phase)
        inner = self.ascent.step(inner_rows, state.inner, reply)
        last = len(self.schedule) - 1
        turn = inner.finished & (state.phase < last)
        phase = torch.where(turn, state.phase + 1, state.phase)
        again = self._resume(self._rows(rows, phase), inner.best)
        inner = map_tensors(lambda new, old: select(turn, new, old), again, inner)
        after = self._wrap(rows, phase, inner)
        return replace(
            after,
            best=state.best,
            best_value=state.best_value,
            best_outputs=state.best_outputs,
            step=state.step + 1,
            finished=inner.finished & (phase >= last),
        )

    def recurrence(self, state: PhaseState) -> list[Tensor] | None:
        return None

    def _resume(self, rows: Rows, best: Tensor) -> AscentState:
        inner = self.ascent.start_from(rows, rows.region.project(best))
        return replace(inner, size=self.ascent.step_size.resume(rows, inner.point))

    def _wrap(self, rows: Rows, phase: Tensor, inner: AscentState) -> PhaseState:
        batch = phase.shape[0]
        return PhaseState(
            query=inner.query,
            best=rows.x,
            best_value=torch.full((batch,), -torch.inf, dtype=rows.x.dtype, device=rows.x.device),
            best_outputs=blank_outputs(rows),
            step=torch.zeros_like(phase),
            climbs=inner.climbs,
            finished=inner.finished,
            claimable=rows.region.contains(inner.query),
            phase=phase,
            inner=inner,
        )

    def _rows(self, rows: Rows, phase: Tensor) -> Rows:
        """The rows as the inner ascent sees them: this phase's eps and number of moves."""
        scales = torch.tensor([scale for scale, _ in self.schedule], dtype=rows.region.eps.dtype, device=phase.device)
        region = rows.set.around(rows.x, rows.region.box, rows.region.eps * scales[phase])
        return replace(rows, region=region, steps=self._steps(rows.steps, phase))

    def _steps(self, steps: Tensor, phase: Tensor) -> Tensor:
        """ceil(share * N) moves per phase as long as there are any, what is left for the last."""
        left, table = steps, []
        for _, share in self.schedule[:-1]:
            table.append(torch.minimum((share * steps.double()).ceil().long(), left))
            left = left - table[-1]
        return torch.stack((*table, left), dim=1).gather(1, phase.unsqueeze(1)).squeeze(1)
