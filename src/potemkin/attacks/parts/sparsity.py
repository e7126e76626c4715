"""APGD's controller for L1, where the direction must be sparse and its sparsity is learnt from the best point."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from potemkin.attacks.parts.step_sizes import Climb, StepSize
from potemkin.attacks.program import Rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.core.rows import flat, norm, select, spread


@dataclass
class Sparsity:
    """State of `SparsityOnStall`, one entry per row."""

    size: Tensor
    share: Tensor
    nonzeros: Tensor
    since: Tensor
    best_gradient: Tensor


@register("part")
@dataclass(frozen=True, repr=False)
class SparsityOnStall(Noted, StepSize):
    """Step along the signs of the k largest gradient coordinates, k learnt from how sparse the best point is.

        u = sign(g on its k largest coordinates);   step = size * u / ||u||_1

    Every max(1, int(0.04 N)) moves: k becomes nonzeros(best - x) / 1.5; where the nonzeros fell below 95 % of those at
    the last check, the size returns to eps and the row to its best point, elsewhere the size is divided by 1.5, never
    below eps / 10.

    Args:
        share: k as a share of the coordinates at the start, in (0, 1]; a start that has already moved sets its own.

    Source: Croce and Hein 2021 (Mind the box), Algorithm 1 and section 3.3, with the constants of the published
    implementation.  Differs: none known.
    """

    share: float = 0.2
    steady = False

    def __post_init__(self) -> None:
        number("share", self.share, low=0.0, high=1.0, open_low=True)

    def init(self, rows: Rows, point: Tensor) -> Sparsity:
        eps = rows.region.eps
        features = torch.full_like(eps, float(flat(rows.x).shape[1]))
        return Sparsity(
            eps.clone(),
            torch.full_like(eps, self.share),
            features,
            torch.zeros_like(rows.steps),
            torch.zeros_like(point),
        )

    def resume(self, rows: Rows, point: Tensor) -> Sparsity:
        """Take the sparsity of a start that an earlier phase has already moved."""
        nonzeros = norm(point - rows.x, 0)
        features = float(flat(rows.x).shape[1])
        return replace(self.init(rows, point), share=nonzeros / features / 1.5, nonzeros=nonzeros)

    def update(self, climb: Climb, state: Sparsity, rows: Rows) -> tuple[Climb, Tensor, Sparsity]:
        started = climb.step > 0
        features = float(flat(rows.x).shape[1])
        best_gradient = select(climb.improved, climb.gradient, state.best_gradient)
        since = state.since + started.to(state.since.dtype)
        due = started & (since == (0.04 * rows.steps.double()).long().clamp_min(1))

        nonzeros = norm(climb.best - rows.x, 0)
        sparser = due & (nonzeros / state.nonzeros.clamp_min(1) < 0.95)
        eps = rows.region.eps
        size = torch.where(sparser, eps, torch.maximum(state.size / 1.5, eps / 10))
        state = Sparsity(
            size=torch.where(due, size, state.size),
            share=torch.where(due, nonzeros / features / 1.5, state.share),
            nonzeros=torch.where(due, nonzeros, state.nonzeros),
            since=torch.where(due, 0, since),
            best_gradient=best_gradient,
        )
        gradient = select(sparser, best_gradient, climb.gradient)
        climb = replace(
            climb, point=select(sparser, climb.best, climb.point), gradient=_largest_signs(gradient, state.share)
        )
        return climb, state.size, state


def _largest_signs(gradient: Tensor, share: Tensor) -> Tensor:
    """sign(g) / ||sign(g)||_1 on the coordinates that are at least the k-th largest, k = share * d per row."""
    sizes = flat(gradient).abs()
    count = sizes.shape[1]
    place = ((1 - share) * count).clamp(0, count - 1).long()
    threshold = sizes.sort(dim=1).values.gather(1, place.unsqueeze(1)).squeeze(1)
    kept = torch.where(gradient.abs() >= spread(threshold, gradient), gradient, torch.zeros_like(gradient)).sign()
    return kept / (spread(norm(kept, 1), kept) + 1e-10)
