"""Free adversarial training: the gradient of the weights and that of the inputs come from one backward."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from potemkin.attacks.program import clean_gradient
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.core.rows import flat, spread
from potemkin.training.examples import Attacked, Examples
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.recipes.base import OnAttacked


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class free(OnAttacked):
    """Each batch is replayed m times; every backward moves the weights and the perturbation, which goes on to the next.

        x'_{t+1} = P(x'_t + eps u_t),   u_t the steepest direction of the loss that the weights just learnt from

    Args:
        replay: m, at least 1. An epoch is one sweep over the data with m steps on each batch: give 1/m of the epochs.
        For all others see `Recipe`; `sets`, `over`, `awp`, `keep` and `inner` do not apply.

    Cost per row and step: 1 forward and its backward; the attack costs nothing.
    Example:
        >>> free(eps=0.1, replay=4).replays
        4

    Source: Shafahi et al. 2019, Algorithm 1 (m = 8).
    Differs: each batch starts with a perturbation of zero, where the authors hand on the last batch's.
    """

    ignores: ClassVar[tuple[str, ...]] = ("sets", "over", "awp", "keep", "inner")
    replay: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        number("replay", self.replay, low=1, integer=True)

    @property
    def replays(self) -> int:
        return self.replay

    @property
    def adversary(self) -> Adversary | None:
        return None

    def attack(self, learner: Learner, given: Examples, by: Adversary | None = None) -> Attacked | None:
        if by is not None:
            return super().attack(learner, given, by)
        none = torch.zeros(len(given), device=given.x.device)
        points = given.x.detach().clone().requires_grad_(True)
        return Attacked(points, none.bool(), self.ramp(given) * self._eps(self.threats[0], given), none)

    def carry(self, learner: Learner, given: Examples, attacked: Attacked) -> Attacked | None:
        if not attacked.points.requires_grad:  # made by another attack, after a rollback: each replay makes its own
            return None
        assert attacked.points.grad is not None, "the loss did not look at the perturbed rows"
        region = self.threats[0].around(given.x, learner.box, attacked.eps)
        gradient, points = clean_gradient(attacked.points.grad), attacked.points.detach()
        step = spread(attacked.eps, points) * region.steepest(gradient, points, attacked.eps)
        points = region.project(points + step)
        return replace(
            attacked,
            points=points.requires_grad_(True),
            dead=~(flat(gradient) != 0).any(dim=1),
            moved=region.distance(points.detach()).float() / attacked.eps.clamp_min(1e-12),
        )
