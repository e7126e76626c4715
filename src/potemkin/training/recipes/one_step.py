"""Recipes whose inner attack takes one step: Fast, N-FGSM, FGSM with gradient alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from potemkin.attacks.parts.starts import Center, Inside
from potemkin.attacks.recipes.pgd import pgd
from potemkin.core.canonical import show
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.training.examples import Attacked, Examples, Learnt
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner, held
from potemkin.training.losses import alignment
from potemkin.training.recipes.base import OnAttacked


@dataclass(frozen=True, repr=False, kw_only=True)
class _OneStep(OnAttacked):
    """One step along the gradient."""

    relative_step_size: float = 1.0
    start: Any = Center()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adversary  # noqa: B018 (the attack checks its own arguments)

    @property
    def adversary(self) -> Adversary:
        return self._adversary(pgd(steps=1, relative_step_size=self.relative_step_size, start=self.start))


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class fast(_OneStep):
    """Fast adversarial training: FGSM from a random point, a step a little longer than eps.

        x' = P(x + u + alpha sign grad CE(f(x + u), y)),   u ~ U(-eps, eps),   alpha = 1.25 eps

    Args:
        relative_step_size: alpha in units of eps.
        start: `Inside()`, or `Center()` for plain FGSM training.
        For all others see `Recipe`.

    Cost per row: 1 forward, 1 input backward, then 1 forward and its backward.
    Example:
        >>> fast(eps=8/255).relative_step_size
        1.25

    Source: Wong, Rice and Kolter 2020, Algorithm 3.
    Differs: `inner`, where the authors attack in train mode. Prone to catastrophic overfitting at larger eps.
    """

    relative_step_size: float = 1.25
    start: Any = Inside()


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class n_fgsm(OnAttacked):
    """Noise beyond the ball, then one step of eps, and nothing is projected: FGSM that does not overfit so soon.

        x' = clip(x + u + eps sign grad CE(f(x + u), y)),   u ~ U(-k eps, k eps),   clipped to the box only

    Args:
        noise: k, above 0.
        For all others see `Recipe`.

    Cost per row: 1 forward, 1 input backward, then 1 forward and its backward.
    Example:
        >>> n_fgsm(eps=8/255).adversary.stretch
        3.0

    Source: de Jorge et al. 2022, Algorithm 1 (k = 2).
    Differs: `inner`; x + u is clipped to the box before the step, too; outside Linf the step is that norm's steepest
    direction.
    """

    noise: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("noise of n_fgsm (multiples of eps)", self.noise, low=0.0, open_low=True)

    @property
    def adversary(self) -> Adversary:
        # In a ball of (1 + k) eps the projection never cuts what noise and step add up to.
        whole = 1 + self.noise
        attack = pgd(steps=1, relative_step_size=1 / whole, start=Inside(share=self.noise / whole))
        return self._adversary(attack, stretch=whole)


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class grad_align(_OneStep):
    """FGSM training with a penalty on gradients that turn within the ball.

        CE(f(x'), y) + weight * (1 - cos(g(x), g(x + u))),   g = grad_x CE(f(.), y),   u ~ U(-eps, eps)

    Args:
        weight: the paper's lambda.
        relative_step_size: of the FGSM step in units of eps.
        start: `Center()`, or `Inside()`.
        For all others see `Recipe`; one set; for the penalty mixed rows count as their heavier label.

    Cost per row: 1 forward, 1 input backward, then 3 forwards and as many backwards, two of them twice differentiated.
    Example:
        >>> grad_align(eps=0.05, weight=0.2)
        grad_align(eps=0.05)

    Source: Andriushchenko and Flammarion 2020, equation (6); weight 0.2 at eps 8/255.
    Differs: `inner`; the two passes for the penalty leave running statistics alone; x + u is projected into the box.
    """

    weight: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        number("weight of grad_align", self.weight, low=0.0)
        if len(self.sets) > 1:
            raise ConfigError(f"{show(self)}: the penalty is for one set; give eps and norm.")

    @property
    def differentiates_twice(self) -> bool:
        return True

    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        learnt = super().loss(learner, given, attacked)
        if attacked is None or not self.weight:
            return learnt
        within = self.threats[0].around(given.x, learner.box, attacked.eps[: len(given)])
        # Drawn at step 1: a start inside the ball is drawn at step 0, and would be the same point.
        beside = within.sample(given.streams, torch.ones_like(given.y))
        with held(learner.plain, training=True):
            turned = alignment(*(self._gradient(learner, given, point) for point in (given.x, beside)))
        learnt.loss = learnt.loss + self.weight * (1 - turned).mean()
        return learnt

    def _gradient(self, learner: Learner, given: Examples, point: Tensor) -> Tensor:
        point = point.detach().requires_grad_(True)
        logits = learner.beside(point)
        total = F.cross_entropy(logits, given.y, reduction="sum")
        return torch.autograd.grad(total, point, create_graph=True)[0]
