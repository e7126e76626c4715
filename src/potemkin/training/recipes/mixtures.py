"""Recipes that learn from clean and adversarial rows in one batch: Goodfellow et al. 2015, Kurakin et al. 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from potemkin.attacks.program import Attack
from potemkin.attacks.recipes.fgsm import fgsm, step_ll
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.training.examples import Attacked, Examples, Learnt
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.losses import alpha_mix, mixed_loss
from potemkin.training.radius import HalfNormal
from potemkin.training.recipes.base import Recipe, at, together


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class goodfellow(Recipe):
    """Adversarial training as it began: the clean loss and the loss after FGSM, mixed.

        w J(x) + (1 - w) J(x + eps sign grad_x J(x)),   w the clean weight

    Args:
        clean_weight: of the clean loss, the paper's alpha, in [0, 1].
        attack_by: `fgsm()`, or another recipe of `attacks`.
        For all others see `Recipe`.

    Cost per row: 1 forward and 1 input backward, then 2 forwards and their backwards.
    Example:
        >>> goodfellow(eps=0.25, clean_weight=0.5)
        goodfellow(eps=0.25)

    Source: Goodfellow et al. 2015, section 6 (1/2; eps 0.25 on MNIST).
    Differs: `inner`; x' is projected into the box; both halves go through batch normalisation together.
    """

    clean_weight: float = 0.5
    attack_by: Any = fgsm()

    def __post_init__(self) -> None:
        super().__post_init__()
        number("clean_weight", self.clean_weight, low=0.0, high=1.0)
        _refuse_no_attack(self.attack_by)

    @property
    def adversary(self) -> Adversary:
        return self._adversary(self.attack_by)

    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        if attacked is None:
            return self.learn_clean(learner, given)
        clean, adversarial, repeats = together(learner, given, attacked)
        loss = alpha_mix(
            given.cross_entropy(clean, self.label_smoothing),
            repeats.cross_entropy(adversarial, self.label_smoothing),
            self.clean_weight,
        )
        return Learnt(loss, clean.detach(), given.y, adversarial.detach(), repeats.y)


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class kurakin(Recipe):
    """Adversarial training at scale: k of m rows are made adversarial in one step, at an eps of their own.

        L = (sum_clean L_i + weight * sum_adv L_i) / ((m - k) + weight * k)

    Args:
        eps: `HalfNormal(16/255, 8/255)`; a number for a fixed eps, at which alone the network then resists one step.
        share: k / m, in [0, 1].
        weight: lambda, above 0.
        attack_by: `step_ll()` or `step_rnd()`, which use no true label and leak none; `fgsm()`, `bim()`,
            `iterative_ll()`, `noise()` for the paper's ablations.
        delay: share of the run that is trained on clean rows first, in [0, 1).
        For all others see `Recipe`.

    Cost per adversarial row: 1 forward and 1 input backward (of the attack), then every row 1 forward and its backward.
    Example:
        >>> kurakin(attack_by=fgsm())
        kurakin(attack_by=fgsm())

    Source: Kurakin et al. 2017, Algorithm 1 and section 3: m 32, k 16, lambda 0.3, delay 10,000 of 150,000 steps
    (recalled).  Differs: `inner`; the delay is a share of the run; the true class is never the least likely one.
    """

    eps: Any = HalfNormal(high=16 / 255, sigma=8 / 255)
    share: float = 0.5
    weight: float = 0.3
    attack_by: Any = step_ll()
    delay: float = 1 / 15

    def __post_init__(self) -> None:
        super().__post_init__()
        number("share", self.share, low=0.0, high=1.0)
        number("weight", self.weight, low=0.0, open_low=True)
        number("delay", self.delay, low=0.0, high=1.0, open_high=True)
        _refuse_no_attack(self.attack_by)

    @property
    def adversary(self) -> Adversary:
        return self._adversary(self.attack_by)

    def attacked_rows(self, given: Examples) -> tuple[int, int]:
        return 0, 0 if given.progress < self.delay else round(self.share * len(given))

    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        if attacked is None:
            return self.learn_clean(learner, given)
        k = self.attacked_rows(given)[1]
        points, repeats = at(given.rows(0, k), attacked)
        clean = given.rows(k, len(given))
        both = learner.learn(torch.cat([points, clean.x]))
        adversarial, natural = both[: len(points)], both[len(points) :]
        rows = repeats.cross_entropy(adversarial, self.label_smoothing)
        rows = rows.reshape(-1, k).mean(dim=0)  # over several sets, which leave k rows to weigh
        loss = mixed_loss(clean.cross_entropy(natural, self.label_smoothing), rows, self.weight)
        return Learnt(loss, natural.detach(), clean.y, adversarial.detach(), repeats.y)


def _refuse_no_attack(attack: object) -> None:
    """Refuse what is no attack."""
    if not isinstance(attack, Attack):
        raise ConfigError(f"attack_by={attack!r} is no attack; for example attack_by=step_ll().")
