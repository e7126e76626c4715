"""Toy models for `check_attack`, whose optima are known or whose answers are hostile.

Each maps (B, *shape) to logits (B, K) row by row, in the dtype of its input, by elementwise products and sums over
one row alone: no matrix kernel can make a row's last bit depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from potemkin.core.rows import dot, flat

Logits: TypeAlias = Callable[[Tensor], Tensor]
"""(B, *shape) -> (B, K)."""

BINARY = ((-0.5, 0.5), (0.0, 0.0))
THREE = ((-1.0, 0.0, 1.0), (0.0, 0.0, 0.0))
FOUR = ((-1.0, -0.3, 0.4, 1.0), (0.1, 0.0, -0.2, 0.0))
"""Slopes and offsets of the classes' logits along the one direction that a `Linear` model looks at."""


@dataclass(frozen=True)
class Linear:
    """Linear logits that all lean on one direction: z_j = slope_j * s + offset_j with s = <weights, x> - center.

    Whatever an objective makes of such logits is a function of the number s, and the values of s that a set allows are
    an interval whose ends `Region.maximiser` finds: so the optimum of every objective has a closed form.
    """

    weights: Tensor
    center: Tensor | float = 0.0
    """One for all rows, or one per row (B,)."""
    classes: tuple[tuple[float, ...], tuple[float, ...]] = BINARY

    def score(self, x: Tensor) -> Tensor:
        """s of each row, (B,)."""
        weights = self.weights.to(x.dtype).expand(x.shape[0], -1)
        return dot(x, weights) - self.center

    def of_score(self, score: Tensor) -> Tensor:
        """(B,) -> (B, K)."""
        table = torch.tensor(self.classes, dtype=score.dtype)
        return score.unsqueeze(1) * table[0] + table[1]

    def __call__(self, x: Tensor) -> Tensor:
        return self.of_score(self.score(x))


@dataclass(frozen=True)
class Peak:
    """Class 0 has its highest logit at a point of each row's own, and falls off alike in all directions.

    z_0 = s,  z_1 = 0.1,   s = -|x - peak|^2 / scale^2
    """

    peak: Tensor
    scale: float

    def score(self, x: Tensor) -> Tensor:
        """s of each row, (B,)."""
        return -((flat(x) - flat(self.peak).to(x.dtype)) / self.scale).square().sum(dim=1)

    def of_score(self, score: Tensor) -> Tensor:
        """(B,) -> (B, K)."""
        return torch.stack((score, torch.full_like(score, 0.1)), dim=1)

    def __call__(self, x: Tensor) -> Tensor:
        return self.of_score(self.score(x))


@dataclass(frozen=True)
class Rugged:
    """A network with many hills: z = V h / (1 + h^2), h = (W x + b); W (H, d), V (K, H).

    Large weights, and a unit that rises and falls: no two ways of searching end in the same place.
    """

    inner: Tensor
    bias: Tensor
    outer: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        h = (flat(x).unsqueeze(1) * self.inner.to(x.dtype)).sum(dim=2) + self.bias.to(x.dtype)
        hills = h / (1 + h * h)
        return (hills.unsqueeze(1) * self.outer.to(x.dtype)).sum(dim=2)


def rugged(width: int, roughness: float, classes: int = 4, hidden: int = 16) -> Rugged:
    """A rugged model for rows of `width` numbers; `roughness` is about 1 / the distance between two hills."""
    inner = normal(1, hidden, width) * roughness
    return Rugged(inner, normal(2, hidden) * 2, normal(3, classes, hidden) * 3)


def normal(seed: int, *shape: int) -> Tensor:
    """Normal numbers from a generator of their own, in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(seed: int, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1) from a generator of their own, in float64."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hostile(width: int) -> dict[str, Logits]:
    """Models that break careless attacks, by what is wrong with them."""
    weights = normal(4, width)
    base = Linear(weights, float(weights.sum()) / 2, FOUR)  # both signs of s occur in the box [0, 1]

    def without_gradient(x: Tensor) -> Tensor:
        return base(x.detach()) + 0 * base(x)

    def detached(x: Tensor) -> Tensor:
        return base(x.detach())

    def plateau(x: Tensor) -> Tensor:
        return base.of_score((base.score(x).abs() - 1).relu() - 0.3)

    def saturated(x: Tensor) -> Tensor:
        return base(x) * 1e4

    def huge(x: Tensor) -> Tensor:
        return base(x) * 1e30

    def tiny(x: Tensor) -> Tensor:
        return base(x) * 1e-30

    def nan_gradient(x: Tensor) -> Tensor:
        # sqrt has an infinite slope at 0, and infinity times zero is NaN: a loss that is fine, a gradient that is not.
        return base(x) + ((x - x.detach()) ** 2).flatten(1).sum(dim=1, keepdim=True).sqrt()

    def some_nan(x: Tensor) -> Tensor:
        return base(x).where((base.score(x) < 0).unsqueeze(1), torch.nan)

    def infinite(x: Tensor) -> Tensor:
        return base(x).masked_fill((base.score(x) > 0).unsqueeze(1), torch.inf)

    models: tuple[Logits, ...] = (
        without_gradient, detached, plateau, saturated, huge, tiny, nan_gradient, some_nan, infinite,
    )  # fmt: skip
    return {model.__name__.replace("_", " "): model for model in models}
