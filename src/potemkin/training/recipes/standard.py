"""Training without an adversary: what every robust figure is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from potemkin.core.registry import register
from potemkin.training.examples import Attacked, Examples, Learnt
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.recipes.base import Recipe


@register("recipe")
@dataclass(frozen=True, repr=False, kw_only=True)
class standard(Recipe):
    """Empirical risk minimisation: mean cross-entropy of the clean rows. Robustness is evaluated at `eps` all the same.

        min_w  E  CE(f_w(x), y)

    Args: see `Recipe`; `over`, `inner`, `keep` and `eps_ramp` do not apply.

    Cost per row: 1 forward and its backward.
    Example:
        >>> standard(eps=0.1).attacks
        False

    Source: the baseline of every paper.  Differs: none.
    """

    ignores: ClassVar[tuple[str, ...]] = ("over", "inner", "keep", "eps_ramp")

    @property
    def adversary(self) -> Adversary | None:
        return None

    def loss(self, learner: Learner, given: Examples, attacked: Attacked | None) -> Learnt:
        return self.learn_clean(learner, given)
