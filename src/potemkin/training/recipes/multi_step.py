"""Recipes whose inner attack takes several steps: PGD-AT, TRADES, MART."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from potemkin.attacks.parts.starts import Inside, TruncatedNormal
from potemkin.attacks.recipes.pgd import pgd
from potemkin.core.canonical import show
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.threat.objectives import KL, CrossEntropy, Objective
from potemkin.training.examples import Attacked, Examples, Learnt
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.losses import mart_rows, trades_divergence
from potemkin.training.recipes.base import OnAttacked, Recipe, together


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class pgd_at(OnAttacked):
    """Adversarial training with projected gradient descent: learn from the worst point that a few steps find.

        min_w  E  max_{x' in S(x)} CE(f_w(x'), y)

    Args:
        steps: of the inner attack, at least 1.
        relative_step_size: in units of eps; None: 2.5 / steps (5 / steps in L2), as `pgd` has it.
        start: where the search begins.
        stretch: the search may go to stretch * eps, at least 1: a reserve for attacks stronger than this one.
            Evaluations and the audit stay at eps.
        For all others see `Recipe`.

    Cost per row: steps forwards and input backwards, then 1 forward and its backward.
    Example:
        >>> pgd_at(eps=0.1, steps=5)
        pgd_at(eps=0.1, steps=5)

    Source: Madry et al. 2018, equation (2.1); 7 steps of eps/4 in the authors' CIFAR-10 code.
    Differs: step 2.5 eps / steps, the length the paper uses in evaluation; `inner`, see decision 0016; `stretch`.
    """

    steps: int = 7
    relative_step_size: float | None = None
    start: Any = Inside()
    stretch: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("stretch of pgd_at (multiples of eps)", self.stretch, low=1.0)
        self.adversary  # noqa: B018 (the attack checks its own arguments)

    @property
    def adversary(self) -> Adversary:
        attack = pgd(steps=self.steps, relative_step_size=self.relative_step_size, start=self.start)
        return self._adversary(attack, self.stretch)


@dataclass(frozen=True, repr=False, kw_only=True)
class _CleanAndAttacked(Recipe):
    """Recipes that compare the clean row with what the attack made of it: both in one batch."""

    climbs: ClassVar[Objective] = CrossEntropy()
    """What the inner attack climbs."""
    beta: float = 6.0
    steps: int = 10
    relative_step_size: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        number("beta", self.beta, low=0.0)
        self.adversary  # noqa: B018 (the attack checks its own arguments)

    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        if attacked is None:
            return self.learn_clean(learner, given)
        clean, adversarial, repeats = together(learner, given, attacked)
        again = clean if len(repeats) == len(given) else clean.repeat(len(repeats) // len(given), 1)
        loss = self.combine(given, clean, repeats, again, adversarial)
        return Learnt(loss, clean.detach(), given.y, adversarial.detach(), repeats.y)

    @property
    def adversary(self) -> Adversary:
        start = TruncatedNormal(sigma=0.03)
        size = self.relative_step_size
        return self._adversary(pgd(steps=self.steps, relative_step_size=size, objective=self.climbs, start=start))

    @abstractmethod
    def combine(self, given: Examples, clean: Tensor, repeats: Examples, again: Tensor, adversarial: Tensor) -> Tensor:
        """The loss from the logits of clean and of attacked rows; several sets repeat the clean ones (`again`)."""


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class trades(_CleanAndAttacked):
    """Trade accuracy for stability: learn the clean label, and to answer alike around it.

        min_w  E  CE(f_w(x), y) + beta * max_{x' in S(x)} KL(p_w(x) || p_w(x'))

    Args:
        beta: the price of changing one's mind; the paper's 1/lambda.
        steps, relative_step_size: of the inner attack, which climbs the divergence.
        For all others see `Recipe`.

    Cost per row: 1 + steps forwards and steps input backwards, then 2 forwards and their backwards.
    Example:
        >>> trades(eps=0.1, beta=6.0, awp=0.005)
        trades(eps=0.1, awp=0.005)

    Source: Zhang et al. 2019, Algorithm 1; 10 steps of 0.007 at eps 0.031, beta 6 in the authors' code.
    Differs: steps of eps / 4; clean and adversarial rows go through batch normalisation together; the start, there
    N(0, 0.001), is a normal of 0.03 eps truncated at eps.
    """

    climbs: ClassVar[Objective] = KL()

    def combine(self, given: Examples, clean: Tensor, repeats: Examples, again: Tensor, adversarial: Tensor) -> Tensor:
        natural = given.cross_entropy(clean, self.label_smoothing).mean()
        return natural + self.beta * trades_divergence(again, adversarial).mean()


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class mart(_CleanAndAttacked):
    """Misclassification-aware training: rows that are wrong already count more.

        BCE(x', y) + beta * KL(p(x) || p(x')) * (1 - p_y(x)),   BCE = -log p_y(x') - log(1 - max_{j != y} p_j(x'))

    Args:
        beta: the paper's lambda.
        steps, relative_step_size: of the inner attack, which climbs the cross-entropy.
        For all others see `Recipe`; no label_smoothing; mixed rows count as their heavier label.

    Cost per row: steps forwards and input backwards, then 2 forwards and their backwards.
    Example:
        >>> mart(eps=0.1, steps=10)
        mart(eps=0.1)

    Source: Wang et al. 2020, Algorithm 1; lambda 5 (paper), 6 (the authors' code).
    Differs: steps of eps / 4 (0.007 at 0.031 there); the start is a normal of 0.03 eps truncated at eps; clean and
    adversarial rows go through batch normalisation together.
    """

    beta: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_smoothing:
            raise ConfigError(f"{show(self)}: MART's loss is for whole labels; leave label_smoothing out.")

    def combine(self, given: Examples, clean: Tensor, repeats: Examples, again: Tensor, adversarial: Tensor) -> Tensor:
        return mart_rows(again, adversarial, repeats.y, self.beta).mean()
