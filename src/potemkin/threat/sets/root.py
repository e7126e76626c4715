"""The root of an increasing function per row, without waiting for the device: what exact projections come down to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

SHRINK = {8: 1e-13}  # by element size: how far inside the radius a projected point is put, so that rounding keeps it in
SHRINK_FLOAT32 = 1e-6
LARGEST = 1e100  # lengths are cut here, so that their squares stay finite in float64
TINY = 1e-300

Function = Callable[[Tensor], Tensor]


def target_radius(eps: Tensor) -> Tensor:
    """The radius that projections aim at: eps (B,) a hair smaller, as a float64 column (B, 1)."""
    return eps.double().unsqueeze(1) * (1.0 - SHRINK.get(eps.element_size(), SHRINK_FLOAT32))


def increasing_root(
    value: Function,
    slope: Function,
    goal: Tensor,
    low: Tensor,
    high: Tensor,
    rounds: int,
    concave: bool = False,
) -> Tensor:
    """x in [low, high] with value(x) = goal, for `value` increasing and piecewise linear, 0 <= low <= high: (B, 1).

    Bisections of the exponent narrow the bracket however wide it is. Newton's steps from its lower end then solve the
    linear piece exactly. Should another piece begin within the bracket, the last check lets the lower end stand in, so
    that value(x) <= goal up to rounding. `concave` says that value(0) = 0 and the slope falls: then value(x) / x falls
    too, and x goal / value(x) bounds the root from the same side as x does, and closer.
    """
    for _ in range(rounds):
        middle = low.sqrt() * high.sqrt()
        reached = value(middle)
        bound = middle * (goal / reached.clamp_min(TINY)) if concave else middle
        below = reached <= goal
        low, high = bound.where(below, low), high.where(below, bound)
    root = low
    for _ in range(3):
        rise = slope(root)
        step = root + (goal - value(root)) / rise.clamp_min(TINY)
        root = torch.minimum(torch.maximum(step, low), high).where(rise > 0, root)
    return root.where(value(root) <= goal * (1.0 + 4e-14), low)
