"""Training without an adversary: what every robust figure is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from potemkin.core.registry import register
from potemkin.training.examples import Attacked, Examples, Learnt
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.recipes.base import Recipe


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class standard(Recipe):
    """Empirical risk minimisation: mean cross-entropy of the clean rows. Robustness is evaluated at `eps` all the same.

    Cost per row: 1 forward and its backward.
    Source: the baseline of every paper.  Differs: none.
    """

    @property
    def adversary(self) -> Adversary | None:
        return None

    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        return self.learn_clean(learner, given)
