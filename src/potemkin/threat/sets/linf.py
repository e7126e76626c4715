"""The Linf ball: every coordinate may move by eps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.core import rows
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.threat.box import Box
from potemkin.threat.sets.base import SAMPLE, SURFACE, Ball, Region, radii


@register("set")
@dataclass(frozen=True, repr=False)
class Linf(Ball):
    """Every coordinate may move by at most eps: max_i |x'_i - x_i| <= eps.

        S(x) = {x' : |x'_i - x_i| <= eps and low <= x'_i <= high for all i}

    Shapes: rows (B, ...) of any rank >= 1. Units and range: eps in input units, finite, >= 0; 8/255 is usual for
    images in [0, 1]. Cost: no model calls; `project` is two elementwise passes, exact (the set is a box).
    Errors: ConfigError for an eps that is negative, infinite or not a number.

    >>> region = Linf(0.25).around(torch.tensor([[0.0, 0.5]]), Box(0, 1))
    >>> region.project(torch.tensor([[-1.0, 1.0]]))
    tensor([[0.0000, 0.7500]])

    Source: Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples" (ICLR 2015), section 4.
    Differs: none.
    """

    norm_name = "Linf"
    separable = True

    def around(self, center: Tensor, box: Box, eps: Tensor | None = None) -> LinfRegion:
        return LinfRegion(center, box, radii(center, eps, self.eps))


class LinfRegion(Region):
    """The Linf ball around given rows: a box of its own, `low` to `high` (B, ...)."""

    def __init__(self, center: Tensor, box: Box, eps: Tensor) -> None:
        super().__init__(center, box, eps)
        self._reach = rows.spread(eps, center)
        self.low, self.high = box.clip(center - self._reach), box.clip(center + self._reach)

    def bounds(self) -> tuple[Tensor, Tensor]:
        return self.low, self.high

    def project(self, z: Tensor) -> Tensor:
        return z.clamp(self.low, self.high)

    def measure(self, offset: Tensor) -> Tensor:
        return rows.norm(offset, math.inf, torch.float64)

    def sample(self, streams: RowStreams, step: Tensor) -> Tensor:
        u = streams.uniform(step, self.center.shape[1:], SAMPLE, self.center.dtype)
        return self.project(self.center + self._reach * (2 * u - 1))

    def surface(self, streams: RowStreams, step: Tensor) -> Tensor:
        t = 2 * streams.uniform(step, self.center.shape[1:], SURFACE, self.center.dtype) - 1
        peak = rows.norm(t, math.inf)
        return self.pull_in(self.center + self._reach * t / rows.spread(peak.where(peak > 0, torch.ones_like(peak)), t))

    def steepest(self, gradient: Tensor, at: Tensor | None = None, size: Tensor | None = None) -> Tensor:
        return gradient.nan_to_num(nan=0.0).sign()

    def maximiser(self, gradient: Tensor) -> Tensor:
        return torch.where(gradient > 0, self.high, torch.where(gradient < 0, self.low, self.center))
