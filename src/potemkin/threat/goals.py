"""What the adversary wants of a row's outputs. Right means that the true class is strictly the greatest."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from potemkin.core import rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.errors import ConfigError

NO_TARGET = -1
RANDOM_TARGET = 201  # what the draw is for, so that no other draw of the row sees the same bits


@dataclass
class Aim:
    """What rows steer at: `label` (B,), `target` (B,) with -1 for none, `clean` (B, K) the clean logits if known."""

    label: Tensor
    target: Tensor
    clean: Tensor | None = None

    def rows(self, index: Tensor) -> Aim:
        """The aim of the rows that `index` picks (int64 positions or a bool mask)."""
        return Aim(self.label[index], self.target[index], None if self.clean is None else self.clean[index])

    @property
    def targeted(self) -> Tensor:
        """(B,) bool: the rows that have a target."""
        return self.target >= 0


def class_mask(outputs: Tensor, classes: Tensor) -> Tensor:
    """(B, K) bool: True at each row's own class. A negative class (none) gives a row of False."""
    return torch.arange(outputs.shape[1], device=outputs.device) == classes.unsqueeze(1)


def best_other(outputs: Tensor, classes: Tensor) -> Tensor:
    """The greatest output among the other classes, (B,); -inf, never 0, stands in for the class itself."""
    return outputs.masked_fill(class_mask(outputs, classes), -math.inf).amax(dim=1)


def output_of(outputs: Tensor, classes: Tensor) -> Tensor:
    """The output of each row's own class, (B,); class 0 where there is none (negative), for the caller to mask."""
    return outputs.gather(1, classes.clamp_min(0).unsqueeze(1)).squeeze(1)


def strictly_right(outputs: Tensor, label: Tensor) -> Tensor:
    """(B,) bool: whether the true class is strictly the greatest. Ties are wrong, and so is a row with NaN.

    >>> strictly_right(torch.tensor([[2.0, 1.0], [1.0, 1.0]]), torch.tensor([0, 0])).tolist()
    [True, False]
    """
    return output_of(outputs, label) > best_other(outputs, label)


def _without_nan(outputs: Tensor) -> Tensor:
    return ~rows.flat(outputs.isnan()).any(dim=1)


@dataclass(frozen=True, repr=False)
class Goal(Noted, ABC):
    """What counts as success for a row, and which class, if any, the search should steer at."""

    targeted: ClassVar[bool]

    @abstractmethod
    def is_met(self, outputs: Tensor, aim: Aim) -> Tensor:
        """(B, K) outputs -> (B,) bool. False where a row has NaN: that is an error of the model, not a success."""

    @abstractmethod
    def targets(self, clean: Tensor, label: Tensor, streams: RowStreams) -> Tensor:
        """The class each row steers at, from the clean logits (B, K): (B,) int64, -1 for none."""

    @abstractmethod
    def sentence(self) -> str:
        """The goal in words, as reports print it."""


@register("goal")
@dataclass(frozen=True, repr=False)
class Untargeted(Goal):
    """Any class but the true one: met when the true class is not strictly the greatest (ties count as met).

    >>> aim = Aim(label=torch.tensor([0, 0]), target=torch.tensor([-1, -1]))
    >>> Untargeted().is_met(torch.tensor([[2.0, 1.0], [1.0, 1.0]]), aim).tolist()
    [False, True]
    """

    targeted: ClassVar[bool] = False

    def is_met(self, outputs: Tensor, aim: Aim) -> Tensor:
        return ~strictly_right(outputs, aim.label) & _without_nan(outputs)

    def targets(self, clean: Tensor, label: Tensor, streams: RowStreams) -> Tensor:
        return torch.full_like(label, NO_TARGET)

    def sentence(self) -> str:
        return "untargeted"


@dataclass(frozen=True, repr=False)
class _Steered(Goal):
    """Met when the row's target is strictly the greatest; a row without a target can never meet it."""

    targeted: ClassVar[bool] = True

    def is_met(self, outputs: Tensor, aim: Aim) -> Tensor:
        return strictly_right(outputs, aim.target) & aim.targeted


@register("goal")
@dataclass(frozen=True, repr=False)
class Targeted(_Steered):
    """One class for all rows: met when `target` is strictly the greatest.

    A row whose true class already is the target has nothing to steer at: its target is -1, and it is never met.
    Errors: ConfigError for a negative target, or one that the model has no class for.

    >>> Targeted(3).sentence()
    'targeted at class 3'
    """

    target: int

    def __post_init__(self) -> None:
        number("The target class of Targeted", self.target, low=0, integer=True)

    def targets(self, clean: Tensor, label: Tensor, streams: RowStreams) -> Tensor:
        classes = clean.shape[1]
        if self.target >= classes:
            raise ConfigError(f"Targeted({self.target}): the model has classes 0 to {classes - 1}; choose among them.")
        return torch.full_like(label, self.target).masked_fill(label == self.target, NO_TARGET)

    def sentence(self) -> str:
        return f"targeted at class {self.target}"


@register("goal")
@dataclass(frozen=True, repr=False)
class LeastLikely(_Steered):
    """The class that the model holds least likely on the clean input, the true class excluded; ties: the lowest number.

    Source: Kurakin, Goodfellow and Bengio, "Adversarial examples in the physical world" (2017), section 2.3.
    Differs: the true class is never chosen, even where it is the least likely.
    """

    def targets(self, clean: Tensor, label: Tensor, streams: RowStreams) -> Tensor:
        finite = clean.nan_to_num()  # so that infinity marks the true class alone
        return finite.masked_fill(class_mask(clean, label), math.inf).argmin(dim=1)

    def sentence(self) -> str:
        return "targeted at the least likely class"


@register("goal")
@dataclass(frozen=True, repr=False)
class RandomTarget(_Steered):
    """A class drawn uniformly from the others, by the row's own random stream: the batch around it does not matter."""

    def targets(self, clean: Tensor, label: Tensor, streams: RowStreams) -> Tensor:
        drawn = streams.integers(torch.zeros_like(label), clean.shape[1] - 1, purpose=RANDOM_TARGET)
        return drawn + (drawn >= label).to(drawn.dtype)  # skip over the true class

    def sentence(self) -> str:
        return "targeted at a random other class"
