"""The L2 ball: the Euclidean length of the change is at most eps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.core import rows
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.threat.box import Box
from potemkin.threat.sets.base import SAMPLE, SURFACE, Ball, Region, radii, room, tame
from potemkin.threat.sets.root import LARGEST, TINY, climb, narrow, target_radius


@register("set")
@dataclass(frozen=True, repr=False)
class L2(Ball):
    """The Euclidean length of the change is at most eps: ||x' - x||_2 <= eps.

        S(x) = {x' : ||x' - x||_2 <= eps and low <= x'_i <= high for all i}
        P(z) = clip(x + t (z - x), low, high)     with t in (0, 1] such that ||P(z) - x||_2 = eps, t = 1 if inside

    Shapes: rows (B, ...) of any rank >= 1. Units and range: eps in input units, finite, >= 0; 0.5 is usual for
    3 x 32 x 32 images in [0, 1]. Cost: no model calls; `project` some tens of elementwise passes in float64.
    Errors: ConfigError for an eps that is negative, infinite or not a number.

    >>> region = L2(1.0).around(torch.tensor([[0.5, 0.0]]), Box(0, 1))
    >>> region.project(torch.tensor([[2.5, 2.0]]))
    tensor([[1.0000, 0.8660]])

    Source: Rony et al., "Decoupling direction and norm" (CVPR 2019), section 3, for the ball alone.
    Differs: `project` is the nearest point of ball and box together; the usual "project, then clip" is not, and it is
    kept as `pull_in`.
    """

    norm_name = "L2"

    def around(self, center: Tensor, box: Box, eps: Tensor | None = None) -> L2Region:
        return L2Region(center, box, radii(center, eps, self.eps))


class L2Region(Region):
    """The L2 ball around given rows."""

    @torch.no_grad()
    def project(self, z: Tensor) -> Tensor:
        clipped = self.box.clip(z)
        offset, may = self._offset(z).clamp_(-LARGEST, LARGEST), self._offset(clipped).abs_()
        inside = self._settled(clipped, may)
        # Squared: how far each coordinate wants to go, and how far it may. It goes min(t |z - x|, room) for t <= 1.
        wish, may = offset.square(), may.clamp_max_(LARGEST).square_()
        goal = target_radius(self.eps).square()
        # At most as long as without the box; at least as long as the clipped point drawn back to the radius.
        low = goal / wish.sum(dim=1, keepdim=True).clamp_min(TINY)
        high = goal / may.sum(dim=1, keepdim=True).clamp_min(TINY)
        s = _stretch(wish, may, goal, low, high, rounds=12)
        return rows.select(inside, clipped, self._at(offset.mul_(s.sqrt())))

    @torch.no_grad()
    def pull_in(self, z: Tensor) -> Tensor:
        offset = self._offset(z).clamp_(-LARGEST, LARGEST)
        length = rows.norm(offset, 2).unsqueeze(1).clamp_min(TINY)
        pulled = self._at(offset * (target_radius(self.eps) / length))
        return rows.select(self._settled(z, offset.abs_()), self.box.clip(z), pulled)

    def measure(self, offset: Tensor) -> Tensor:
        return rows.norm(offset, 2, torch.float64)

    def sample(self, streams: RowStreams, step: Tensor) -> Tensor:
        # d coordinates of a point on the sphere in d + 2 dimensions are uniform in the ball in d: no power to take.
        width = rows.flat(self.center).shape[1]
        t = streams.normal(step, (width + 2,), SAMPLE, self.center.dtype).double()
        return self.project(self._at(t[:, :width] * (self._radius / rows.norm(t, 2).unsqueeze(1)), clip=False))

    def surface(self, streams: RowStreams, step: Tensor) -> Tensor:
        t = rows.flat(streams.normal(step, self.center.shape[1:], SURFACE, self.center.dtype)).double()
        length = rows.norm(t, 2).unsqueeze(1).clamp_min(TINY)
        return self.pull_in(self._at(t * (self._radius / length), clip=False))

    def steepest(self, gradient: Tensor, at: Tensor | None = None, size: Tensor | None = None) -> Tensor:
        wide = tame(gradient)
        length = rows.norm(wide, 2).unsqueeze(1)
        return (wide / length.clamp_min(TINY)).to(gradient.dtype).reshape(gradient.shape)

    @torch.no_grad()
    def maximiser(self, gradient: Tensor) -> Tensor:
        wide = tame(gradient)
        radius = target_radius(self.eps)
        wish, goal = wide.square(), radius.square()
        may = torch.minimum(room(self.center, self.box, wide), radius).square() * (wish > 0)
        low = goal / wish.sum(dim=1, keepdim=True).clamp_min(TINY)
        high = (may / wish.clamp_min(TINY)).amax(dim=1, keepdim=True)  # here every coordinate has come to its end
        s = _stretch(wish, may, goal, torch.minimum(low, high), high, rounds=64)
        # Where all ends together are still inside the ball, the ends it is.
        inside = may.sum(dim=1, keepdim=True) <= goal
        return self._at(torch.where(inside, may, torch.minimum(s * wish, may)).sqrt().copysign(wide))

    @property
    def _radius(self) -> Tensor:
        return self.eps.double().unsqueeze(1)


def _stretch(wish: Tensor, may: Tensor, goal: Tensor, low: Tensor, high: Tensor, rounds: int) -> Tensor:
    """s = t^2 (B, 1) with sum_i min(s wish_i, may_i) = goal: concave, increasing and piecewise linear in s."""
    work = torch.empty_like(wish)  # one buffer for all rounds: fresh memory would cost more than the arithmetic

    def value(s: Tensor) -> Tensor:
        torch.minimum(torch.mul(wish, s, out=work), may, out=work)
        return work.sum(dim=1, keepdim=True)

    def slope(s: Tensor) -> Tensor:
        torch.mul(wish, s, out=work).lt_(may)
        return work.mul_(wish).sum(dim=1, keepdim=True)

    return climb(value, slope, None, goal, narrow(value, goal, low, high, rounds), steps=3)
