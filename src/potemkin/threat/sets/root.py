"""The root of an increasing function per row, without waiting for the device: what exact projections come down to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LARGEST = 1e100  # lengths are cut here, so that their squares stay finite in float64
TINY = 1e-300
_SHRINK = {4: 1e-6, 8: 1e-13}  # by element size

Function = Callable[[Tensor], Tensor]  # columns (B, 1) -> (B, 1)


def target_radius(eps: Tensor) -> Tensor:
    """The radius that projections aim at, a float64 column (B, 1): a hair below eps, so that rounding stays inside."""
    return eps.double().unsqueeze(1) * (1.0 - _SHRINK.get(eps.element_size(), 1e-2))


def narrow(value: Function, goal: Tensor, low: Tensor, high: Tensor, rounds: int) -> Tensor:
    """The lower end of the bracket [low, high] of the root of value(x) = goal, narrowed, for `value` increasing.

    Both ends have one sign, and it is the exponent that is bisected, so that a bracket over many powers of ten is no
    harder than a narrow one.
    """
    for _ in range(rounds):
        middle = (low.abs().sqrt() * high.abs().sqrt()).copysign(low)
        below = value(middle) <= goal
        low, high = middle.where(below, low), high.where(below, middle)
    return low


def climb(value: Function, slope: Function, corner: Function | None, goal: Tensor, x: Tensor, steps: int) -> Tensor:
    """Newton's steps from below the root of value(x) = goal: exact once x and the root lie on one linear piece.

    `slope` is the slope to the right of x, and `corner` the next place where it changes: no step goes beyond, so none
    passes the root. A concave function needs no corners.
    """
    for _ in range(steps):
        rise = slope(x)
        step = x + (goal - value(x)).clamp_min(0.0) / rise.clamp_min(TINY)
        x = step.where(rise > 0, x) if corner is None else torch.minimum(step, corner(x))
    return x
