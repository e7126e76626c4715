"""Projections onto the papers' sets, for one example; `box` is (low, high), or None for no box."""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import Tensor

from .trace import Box


def clip(z: Tensor, box: Box) -> Tensor:
    """Into the pixel box."""
    return z if box is None else z.clamp(*box)


def linf(z: Tensor, x: Tensor, eps: float, box: Box) -> Tensor:
    """Clip_{X,eps}: elementwise into [x - eps, x + eps] and the box; the nearest point, since both are boxes."""
    return clip(torch.minimum(torch.maximum(z, x - eps), x + eps), box)


def l2_then_box(z: Tensor, x: Tensor, eps: float, box: Box) -> Tensor:
    """Scale onto the L2 ball, then clip: feasible, but not the nearest point of ball and box. What is widely used."""
    v = z - x
    length = (v**2).sum().sqrt()
    return clip(x + v / (length + 1e-12) * min(eps, float(length)), box)


def l2_and_box(z: Tensor, x: Tensor, eps: float, box: Box) -> Tensor:
    """The nearest point of the L2 ball intersected with the box.

    min |p - z|^2 subject to |p - x|^2 <= eps^2 and p in the box: for the ball's multiplier m >= 0 every coordinate is
    clip((z + m x) / (1 + m)), and |p - x| falls as m grows, so bisect for the smallest m that fits (a = 1 / (1 + m)).
    """
    if float((clip(z, box) - x).norm()) <= eps:
        return clip(z, box)
    low, high = 0.0, 1.0
    for _ in range(200):
        a = (low + high) / 2
        low, high = (a, high) if float((clip(x + a * (z - x), box) - x).norm()) <= eps else (low, a)
    return clip(x + low * (z - x), box)


def l1_and_box(z: Tensor, x: Tensor, eps: float, box: Box) -> Tensor:
    """The nearest point of the L1 ball intersected with the box, for x inside the box."""
    v = z - x
    return x + v.sign() * (v.abs() - l1_shortening(v, x, eps, box))


def l1_shortening(v: Tensor, x: Tensor, eps: float, box: Box) -> Tensor:
    """By how much the projection of x + v onto the L1 ball around x and the box shortens each |v_i|.

    By as much as it is outside of the box, by the ball's multiplier m >= 0 where that is more, and at most to zero:
    r_i(m) = min(max(m, outside_i), |v_i|). What is left, sum |v_i| - r_i(m), is piecewise linear in m and falls; its
    corners are outside_i and |v_i|. Find the piece on which it crosses eps, then solve there.

    Source: Croce & Hein 2021, section 2 (the projection onto the intersection of the L1 ball and the box).
    """
    length = v.abs()
    outside = torch.zeros_like(v)
    if box is not None:
        outside = torch.maximum(box[0] - (x + v), (x + v) - box[1]).clamp(min=0)
    outside = torch.minimum(outside, length)

    def shortened(m: float) -> Tensor:
        return torch.minimum(outside.clamp(min=m), length)

    def left(m: float) -> float:
        return float((length - shortened(m)).sum())

    if left(0.0) <= eps:
        return outside
    corners = [0.0, *torch.cat([outside, length]).flatten().sort().values.tolist()]  # the greatest leaves nothing
    i = bisect_left(corners, True, key=lambda m: left(m) <= eps)
    below, above = corners[i - 1], corners[i]
    m = below + (above - below) * (left(below) - eps) / (left(below) - left(above))
    return shortened(m)
