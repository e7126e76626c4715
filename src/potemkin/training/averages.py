"""Averages of the weights over the run, which are often more robust than its last ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register


class Average(Protocol):
    """Says how much the newest weights count."""

    def weight(self, step: int, progress: float) -> float:
        """Share of the newest weights after `step` steps, in [0, 1]: 1 begins anew with them."""


@register("part")
@dataclass(frozen=True, repr=False)
class EMA(Noted):
    """Exponential moving average: a <- decay a + (1 - decay) w after every step.

    The decay grows towards its value as (1 + t) / (10 + t), so that the first weights are forgotten.
    Source: Rebuffi et al. 2021, section 4.1 (0.999 and more in long runs).  Differs: running statistics, too.
    """

    decay: float = 0.995

    def __post_init__(self) -> None:
        number("decay of EMA", self.decay, low=0.0, high=1.0, open_high=True)

    def weight(self, step: int, progress: float) -> float:
        return 1 - min(self.decay, (1 + step) / (10 + step))


@register("part")
@dataclass(frozen=True, repr=False)
class SWA(Noted):
    """The plain average of all weights after `start` of the run, step by step.

    Source: Izmailov et al. 2018, Algorithm 1; Chen et al. 2021 for adversarial training.
    Differs: after every step, where the paper takes one point per cycle, and under the schedule's falling rate, not a
    constant or cyclic one; running statistics are averaged, too, where the paper computes them anew.
    """

    start: float = 0.75

    def __post_init__(self) -> None:
        number("start of SWA (share of the run)", self.start, low=0.0, high=1.0, open_high=True)

    def weight(self, step: int, progress: float) -> float:
        if progress < self.start or not progress:
            return 1.0
        since = step * (1 - self.start / progress)  # steps made after the start, this one included
        return 1 / (1 + math.floor(since + 1e-6))  # whole steps: weights from before the start have no part in it


@torch.no_grad()
def update(average: dict[str, Tensor], newest: dict[str, Tensor], weight: float) -> None:
    """average <- (1 - weight) average + weight newest, in place; what is no number with fractions is copied."""
    for name, tensor in average.items():
        if weight < 1 and tensor.is_floating_point():
            tensor.lerp_(newest[name], weight)
        else:
            tensor.copy_(newest[name])
