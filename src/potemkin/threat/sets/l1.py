"""The L1 ball: the sum of the absolute changes is at most eps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.core import rows
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.threat.box import Box
from potemkin.threat.sets.base import SAMPLE, SAMPLE_SIGN, SURFACE, Ball, Region, radii, room, tame
from potemkin.threat.sets.root import LARGEST, TINY, climb, narrow, target_radius


@register("set")
@dataclass(frozen=True, repr=False)
class L1(Ball):
    """The sum of the absolute changes is at most eps: ||x' - x||_1 <= eps.

        S(x) = {x' : sum_i |x'_i - x_i| <= eps and low <= x'_i <= high for all i}
        P(z) = x + sign(z - x) clip(|z - x| - lambda, 0, room)     with lambda >= 0 such that ||P(z) - x||_1 = eps

    where room is how far a coordinate can go before it meets the box, and lambda = 0 if the clipped point is inside.
    Shapes: rows (B, ...) of any rank >= 1. Units and range: eps in input units, finite, >= 0; 12 is usual for
    3 x 32 x 32 images in [0, 1]. Cost: no model calls; `project` about 130 elementwise passes in float64.
    Errors: ConfigError for an eps that is negative, infinite or not a number.

    >>> region = L1(1.0).around(torch.tensor([[0.5, 0.0]]), Box(0, 1))
    >>> region.project(torch.tensor([[2.5, 0.75]]))
    tensor([[1.0000, 0.5000]])

    Source: Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers" (ICML 2021),
    section 2 (projection) and section 3 (steepest ascent).
    Differs: lambda is found by bisection instead of sorting; `steepest` fills the
    largest coordinates up to the box until the step is used up.
    """

    norm_name = "L1"

    def around(self, center: Tensor, box: Box, eps: Tensor | None = None) -> L1Region:
        return L1Region(center, box, radii(center, eps, self.eps))


class L1Region(Region):
    """The L1 ball around given rows."""

    @torch.no_grad()
    def project(self, z: Tensor) -> Tensor:
        clipped = self.box.clip(z)
        offset, may = self._offset(z), self._offset(clipped).abs_()
        inside = self._settled(clipped, may)
        return rows.select(inside, clipped, self._at(_shorten(offset, may, self.eps).copysign_(offset)))

    @torch.no_grad()
    def pull_in(self, z: Tensor) -> Tensor:
        offset = self._offset(z)
        may = offset.abs()
        inside = self._settled(z, may)
        return rows.select(inside, self.box.clip(z), self._at(_shorten(offset, may, self.eps).copysign_(offset)))

    def measure(self, offset: Tensor) -> Tensor:
        return rows.norm(offset, 1, torch.float64)

    def sample(self, streams: RowStreams, step: Tensor) -> Tensor:
        # d of the shares of d + 1 exponential draws are uniform under the simplex; random signs make it the ball.
        width, dtype = rows.flat(self.center).shape[1], self.center.dtype
        shares = streams.exponential(step, (width + 1,), SAMPLE, dtype).double()
        offset = shares[:, :width] / shares.sum(dim=1, keepdim=True) * self.eps.double().unsqueeze(1)
        return self.project(self._at(offset * streams.sign(step, (width,), SAMPLE_SIGN, dtype).double(), clip=False))

    def surface(self, streams: RowStreams, step: Tensor) -> Tensor:
        t = streams.normal(step, self.center.shape[1:], SURFACE, self.center.dtype)
        return self.project(self.center + t)

    def steepest(self, gradient: Tensor, at: Tensor | None = None, size: Tensor | None = None) -> Tensor:
        wide = tame(gradient)
        if at is None or size is None:
            first = wide.abs().argmax(dim=1, keepdim=True)  # the lowest index among ties
            u = torch.zeros_like(wide).scatter(1, first, wide.sign().gather(1, first))
        else:
            # One coordinate would be cut off at the box, and what the step could still do would be lost: then the same
            # few coordinates are raised for ever, as fast as the projection lowers them.
            length = size.double().unsqueeze(1)
            ends = torch.minimum(room(at, self.box, wide), length) * (wide != 0)
            u = _filled(wide, ends, length) / length.clamp_min(TINY)
        return u.to(gradient.dtype).reshape(gradient.shape)

    def maximiser(self, gradient: Tensor) -> Tensor:
        wide = tame(gradient)
        radius = target_radius(self.eps)
        ends = torch.minimum(room(self.center, self.box, wide), radius) * (wide != 0)
        return self._at(_filled(wide, ends, radius))


def _filled(gradient: Tensor, ends: Tensor, budget: Tensor) -> Tensor:
    """(B, d) offsets that spend `budget` (B, 1) on the steepest coordinates first, each up to its end."""
    order = gradient.abs().argsort(dim=1, descending=True, stable=True)
    ends = ends.gather(1, order)
    spent = ends.cumsum(dim=1) - ends
    moves = torch.minimum((budget - spent).clamp_min(0.0), ends)
    return torch.zeros_like(gradient).scatter(1, order, moves).copysign(gradient)


def _shorten(offset: Tensor, may: Tensor, eps: Tensor) -> Tensor:
    """clip(|offset| - lambda, 0, may) (B, d) with the sum eps, for rows where lambda = 0 would give a greater sum.

    Written as clip(x - gap, 0, may) with gap = anchor - |offset| and lambda = anchor - x. The anchor is 0 or the
    greatest |offset|, whichever is nearer to lambda, so that nothing cancels however large the offset is.
    """
    wish = offset.abs().clamp_max_(LARGEST)
    goal = target_radius(eps)
    peak = wish.amax(dim=1, keepdim=True)
    half = peak / 2
    near_zero = torch.minimum((wish - half).clamp_min_(0.0), may).sum(dim=1, keepdim=True) <= goal
    ramps = _Ramps(torch.where(near_zero, 0.0, peak) - wish, may)
    # With the peak as anchor no coordinate moves by more than x; with 0 as anchor x is -lambda.
    least = torch.minimum(goal / wish.shape[1], half)
    low, high = torch.where(near_zero, -half, least), torch.where(near_zero, -1e-9 * half, half)
    low = narrow(ramps.total, goal, low, high, rounds=24)
    x = climb(ramps.total, ramps.slope, ramps.corner, goal, low, steps=3)
    # x is rounded at the size of the offset, which may be far above eps: share out what is amiss at eps's own size.
    amiss, moves = goal - ramps.total(x), ramps.work
    moving = (ramps.gap <= x) & (moves < may)
    moves += moving * (amiss / moving.sum(dim=1, keepdim=True).clamp_min(1))
    total = torch.minimum(moves.clamp_min_(0.0), may, out=moves).sum(dim=1, keepdim=True)
    return moves.mul_((goal / total.clamp_min(TINY)).clamp_max(1.0))


class _Ramps:
    """x -> sum_i clip(x - gap_i, 0, may_i) per row: every coordinate is a ramp between two corners."""

    def __init__(self, gap: Tensor, may: Tensor) -> None:
        self.gap, self.may, self.end = gap, may, gap + may
        self.work = torch.empty_like(gap)  # one buffer for all rounds: fresh memory costs more than the arithmetic
        self._zero, self._never = gap.new_zeros(()), gap.new_full((), math.inf)

    def total(self, x: Tensor) -> Tensor:
        """The sum; `work` then holds the summands."""
        torch.clamp(torch.sub(x, self.gap, out=self.work), self._zero, self.may, out=self.work)
        return self.work.sum(dim=1, keepdim=True)

    def slope(self, x: Tensor) -> Tensor:
        """How many coordinates move to the right of x."""
        return ((self.gap <= x) & (x < self.end)).sum(dim=1, keepdim=True).double()

    def corner(self, x: Tensor) -> Tensor:
        """The next place where the slope changes, inf if there is none."""
        torch.where(self.end > x, self.end, self._never, out=self.work)
        return torch.where(self.gap > x, self.gap, self.work, out=self.work).amin(dim=1, keepdim=True)
