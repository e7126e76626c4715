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
    3 x 32 x 32 images in [0, 1]. Cost: no model calls; `project` about 150 elementwise passes in float64.
    Errors: ConfigError for an eps that is negative, infinite or not a number.

    >>> region = L1(1.0).around(torch.tensor([[0.5, 0.0]]), Box(0, 1))
    >>> region.project(torch.tensor([[2.5, 0.75]]))
    tensor([[1.0000, 0.5000]])

    Source: Croce and Hein, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers" (ICML 2021),
    proposition 2.1 (projection) and 3.1 (steepest ascent).
    Differs: lambda is found by bisection instead of sorting; `steepest` moves one coordinate, the lowest index on ties.
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
        return rows.select(inside, clipped, self._at(self._shorten(offset, may).copysign_(offset)))

    @torch.no_grad()
    def pull_in(self, z: Tensor) -> Tensor:
        offset = self._offset(z)
        may = offset.abs()
        inside = self._settled(z, may)
        return rows.select(inside, self.box.clip(z), self._at(self._shorten(offset, may).copysign_(offset)))

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
        return self.pull_in(self.project(self.center + t))

    def steepest(self, gradient: Tensor, at: Tensor | None = None) -> Tensor:
        wide = tame(gradient)
        size = wide.abs()
        if at is not None:
            place = rows.flat(at)
            stuck = ((wide > 0) & (place >= self.box.high)) | ((wide < 0) & (place <= self.box.low))
            size = size.masked_fill(stuck, 0.0)
        first = size.argmax(dim=1, keepdim=True)  # the lowest index among ties
        sign = wide.sign().gather(1, first) * (size.gather(1, first) > 0)
        return torch.zeros_like(wide).scatter(1, first, sign).to(gradient.dtype).reshape(gradient.shape)

    def maximiser(self, gradient: Tensor) -> Tensor:
        wide = tame(gradient)
        radius = target_radius(self.eps)
        may = torch.minimum(room(self.center, self.box, wide), radius) * (wide != 0)
        # The budget goes to the steepest coordinates first, each up to its end.
        order = wide.abs().argsort(dim=1, descending=True, stable=True)
        ends = may.gather(1, order)
        spent = ends.cumsum(dim=1) - ends
        moves = torch.minimum((radius - spent).clamp_min(0.0), ends)
        return self._at(torch.zeros_like(wide).scatter(1, order, moves).copysign(wide))

    def _shorten(self, offset: Tensor, may: Tensor) -> Tensor:
        """clip(|offset| - lambda, 0, may) (B, d) with the sum eps, for rows where lambda = 0 would give a greater sum.

        Written as clip(x - gap, 0, may) with gap = anchor - |offset| and lambda = anchor - x. The anchor is 0 or the
        greatest |offset|, whichever is nearer to lambda, so that nothing cancels however large the offset is.
        """
        wish = offset.abs().clamp_max_(LARGEST)
        goal = target_radius(self.eps)
        peak = wish.amax(dim=1, keepdim=True)
        half = peak / 2
        near_zero = torch.minimum((wish - half).clamp_min_(0.0), may).sum(dim=1, keepdim=True) <= goal
        gap = torch.where(near_zero, 0.0, peak) - wish
        end = gap + may
        # With the peak as anchor no coordinate moves by more than x; with 0 as anchor x is -lambda.
        least = torch.minimum(goal / wish.shape[1], half)
        low, high = torch.where(near_zero, -half, least), torch.where(near_zero, -1e-30 * half, half)

        work = torch.empty_like(wish)  # one buffer for all rounds: fresh memory costs more than the arithmetic
        zero, never = wish.new_zeros(()), wish.new_full((), math.inf)

        def value(x: Tensor) -> Tensor:
            return torch.clamp(torch.sub(x, gap, out=work), zero, may, out=work).sum(dim=1, keepdim=True)

        def slope(x: Tensor) -> Tensor:
            return ((gap <= x) & (x < end)).sum(dim=1, keepdim=True).double()

        def corner(x: Tensor) -> Tensor:
            beyond = torch.where(gap > x, gap, torch.where(end > x, end, never, out=work), out=work)
            return beyond.amin(dim=1, keepdim=True)

        low, _ = narrow(value, goal, low, high, rounds=24)
        x = climb(value, slope, corner, goal, low, steps=5)
        total = value(x)
        # x is rounded at the size of the offset, which may be far above eps: share out what is amiss at eps's own size.
        moving = (gap <= x) & (work < may)
        work += moving * ((goal - total) / moving.sum(dim=1, keepdim=True).clamp_min(1))
        total = torch.clamp(work, zero, may, out=work).sum(dim=1, keepdim=True)
        return work.mul_((goal / total.clamp_min(TINY)).clamp_max(1.0))
