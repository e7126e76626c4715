"""Rates, each with its denominator and its interval, computed from the partition of the outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from potemkin.core.outcomes import UNDECIDED
from potemkin.evaluate.fields import Count, Number, Plain
from potemkin.evaluate.statistics import wilson


class Rate(Plain):
    """A rate with its denominator and its 95 % Wilson interval; all null but n where n = 0."""

    value: Number
    n: Count
    low: Number
    high: Number

    @classmethod
    def of(cls, k: int, n: int) -> Self:
        """The rate k / n.

        >>> print(Rate.of(462, 1000))
        46.2 % [43.1, 49.3] (n = 1000)
        """
        if n == 0:
            return cls(value=None, n=0, low=None, high=None)
        low, high = wilson(k, n)
        return cls(value=k / n, n=n, low=low, high=high)

    def __str__(self) -> str:
        return f"{self.short()} (n = {self.n})"

    def short(self) -> str:
        """Without its n: for tables and sentences that have said it."""
        if self.value is None or self.low is None or self.high is None:
            return "not measured"
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


class Rates(Plain):
    """The rates of an evaluation. `robust_accuracy` is the lower bound: only examples that held count."""

    clean_accuracy: Rate
    robust_accuracy: Rate
    robust_accuracy_upper: Rate
    attack_success_rate: Rate

    @classmethod
    def of(cls, outcomes: Mapping[str, int], clean_right: int) -> Self:
        """Rates from the partition; `clean_right` counts the examples that were right before any attack.

        clean_accuracy = clean_right / n, robust_accuracy = held / n, its upper bound
        (held + budget + invalid + error) / n, attack_success_rate = broken / clean_right.
        The upper bound may pass the clean accuracy: scores that are no numbers are an error, and were not right.
        """
        n = sum(outcomes.values())
        held, broken = outcomes.get("held", 0), outcomes.get("broken", 0)
        undecided = sum(outcomes.get(name, 0) for name in UNDECIDED)
        return cls(
            clean_accuracy=Rate.of(clean_right, n),
            robust_accuracy=Rate.of(held, n),
            robust_accuracy_upper=Rate.of(held + undecided, n),
            attack_success_rate=Rate.of(broken, clean_right),
        )

    def __getitem__(self, name: str) -> Rate:
        """The rate by its name (gates on the command line); KeyError for another name."""
        if name not in type(self).model_fields:
            raise KeyError(name)
        rate: Rate = getattr(self, name)
        return rate
