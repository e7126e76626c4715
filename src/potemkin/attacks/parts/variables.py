"""What is searched: the `variable` slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.errors import ConfigError


class Variable(Protocol):
    """Maps the gradient with respect to the input onto the directions that are searched."""

    def restrict(self, gradient: Tensor) -> Tensor:
        """Return the orthogonal projection of a (B, *shape) gradient onto the searched subspace."""

    def begin(self, point: Tensor, x: Tensor) -> Tensor:
        """Return the start (B, *shape) moved into the searched subspace around `x`."""


@register("part")
@dataclass(frozen=True, repr=False)
class Identity(Noted):
    """Search the input itself.

    Source: Goodfellow et al. 2015.  Differs: none.
    """

    def restrict(self, gradient: Tensor) -> Tensor:
        return gradient

    def begin(self, point: Tensor, x: Tensor) -> Tensor:
        return point


@register("part")
@dataclass(frozen=True, repr=False)
class Blocks(Noted):
    """Search perturbations that are constant on size x size blocks of the picture: low spatial frequencies only.

        g' = U U^T g,  U the orthonormal basis of block-constant pictures (the block mean, written back)

    Args:
        size: side of a block in pixels, at least 1; it must divide the picture's height and width.

    Source: after Guo et al. 2019 (low frequency adversarial perturbation).  Differs: block means instead of the low
    discrete cosine frequencies; clipping at the box can break a block.
    """

    size: int = 4

    def __post_init__(self) -> None:
        number("size", self.size, low=1, integer=True)

    def restrict(self, gradient: Tensor) -> Tensor:
        if gradient.ndim != 4 or gradient.shape[2] % self.size or gradient.shape[3] % self.size:
            raise ConfigError(
                f"Blocks(size={self.size}) needs pictures (channels, height, width) whose height and width are "
                f"multiples of {self.size}; the inputs are {tuple(gradient.shape[1:])}."
            )
        return F.interpolate(F.avg_pool2d(gradient, self.size), scale_factor=float(self.size), mode="nearest")

    def begin(self, point: Tensor, x: Tensor) -> Tensor:
        return x + self.restrict(point - x)
