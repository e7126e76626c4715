"""Optimisers and learning-rate schedules as notation; a schedule is a function of progress, so it has no state."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.core.checks import flag, number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.errors import ConfigError


@dataclass(frozen=True, repr=False)
class Optimiser(Noted, ABC):
    """Makes a torch optimiser; `learning_rate` is the peak that the schedule scales."""

    @abstractmethod
    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        """The optimiser over these parameters."""

    def _check(self, **least: float) -> None:
        for name, low in least.items():
            number(f"{name} of {type(self).__name__}", getattr(self, name), low=low, open_low=name == "learning_rate")


@register("part")
@dataclass(frozen=True, repr=False)
class SGD(Optimiser):
    """Stochastic gradient descent with momentum: what most robust networks are trained with.

    Source: Madry et al. 2018; Rice, Wong and Kolter 2020 (learning rate 0.1, momentum 0.9, weight decay 5e-4).
    Differs: none.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = False

    def __post_init__(self) -> None:
        self._check(learning_rate=0.0, momentum=0.0, weight_decay=0.0)
        flag("nesterov of SGD", self.nesterov)
        if self.nesterov and not self.momentum:
            raise ConfigError("SGD(nesterov=True) needs a momentum above 0.")

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, self.learning_rate, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
        )


@register("part")
@dataclass(frozen=True, repr=False)
class AdamW(Optimiser):
    """Adam with decoupled weight decay.

    Source: Loshchilov and Hutter 2019, Algorithm 2.
    Differs: the decay is learning_rate * weight_decay, as torch has it; the paper's is not scaled by the learning rate.
    """

    learning_rate: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        self._check(learning_rate=0.0, weight_decay=0.0)
        for name in ("beta1", "beta2"):
            number(f"{name} of AdamW", getattr(self, name), low=0.0, high=1.0, open_high=True)

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters, self.learning_rate, (self.beta1, self.beta2), weight_decay=self.weight_decay
        )


@register("part")
@dataclass(frozen=True, repr=False)
class RMSProp(Optimiser):
    """RMSProp, as the Inception networks of Kurakin et al. were trained with.

    Source: Kurakin et al. 2017, section 4 (learning rate 0.045 for 50 machines of 32).
    Differs: smoothing 0.9, momentum 0.9 and damping 1 are Inception's, recalled; damping is added outside of the root.
    """

    learning_rate: float = 0.045
    smoothing: float = 0.9
    momentum: float = 0.9
    damping: float = 1.0
    weight_decay: float = 4e-5

    def __post_init__(self) -> None:
        self._check(learning_rate=0.0, momentum=0.0, weight_decay=0.0)
        number("smoothing of RMSProp", self.smoothing, low=0.0, high=1.0, open_high=True)
        number("damping of RMSProp", self.damping, low=0.0, open_low=True)

    def make(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            parameters, self.learning_rate, self.smoothing, self.damping, self.weight_decay, momentum=self.momentum
        )


class Schedule(Noted, ABC):
    """The learning rate in units of its peak, as a function of the run's progress in [0, 1)."""

    @abstractmethod
    def factor(self, progress: float) -> float: ...


@register("part")
@dataclass(frozen=True, repr=False)
class Cyclic(Schedule):
    """Up to the peak in a straight line, and down to 0 in another: one cycle.

    Source: Wong, Rice and Kolter 2020, section 5; de Jorge et al. 2022.  Differs: the peak, at 1/2 in Wong's code.

    >>> Cyclic(peak=0.5).factor(0.25)
    0.5
    """

    peak: float = 0.4

    def __post_init__(self) -> None:
        number("peak of Cyclic (share of the run)", self.peak, low=0.0, high=1.0, open_low=True, open_high=True)

    def factor(self, progress: float) -> float:
        return progress / self.peak if progress < self.peak else (1 - progress) / (1 - self.peak)


@register("part")
@dataclass(frozen=True, repr=False)
class Cosine(Schedule):
    """Up over `warmup`, then down to 0 along half a cosine.

    Source: Loshchilov and Hutter 2017, equation (5), one period.  Differs: the warm-up, common practice.
    """

    warmup: float = 0.05

    def __post_init__(self) -> None:
        number("warmup of Cosine (share of the run)", self.warmup, low=0.0, high=1.0, open_high=True)

    def factor(self, progress: float) -> float:
        if progress < self.warmup:
            return progress / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))


@register("part")
@dataclass(frozen=True, repr=False)
class Stepwise(Schedule):
    """Multiplied by `ratio` at each of the given shares of the run.

    Source: Madry et al. 2018; Rice, Wong and Kolter 2020 (a tenth at 1/2 and 3/4).  Differs: none.
    """

    at: tuple[float, ...] = (0.5, 0.75)
    ratio: float = 0.1

    def __post_init__(self) -> None:
        for place in self.at:
            number("at of Stepwise (shares of the run)", place, low=0.0, high=1.0)
        number("ratio of Stepwise", self.ratio, low=0.0, open_low=True)

    def factor(self, progress: float) -> float:
        return float(self.ratio ** sum(progress >= place for place in self.at))


@register("part")
@dataclass(frozen=True, repr=False)
class Flat(Schedule):
    """Always the peak.

    Source: none.  Differs: none.
    """

    def factor(self, progress: float) -> float:
        return 1.0
