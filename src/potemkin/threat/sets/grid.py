"""Sets of representable points: the 256 values of an 8-bit image, or any other number of levels."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from potemkin.core import rows
from potemkin.core.checks import instance, number
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.errors import ConfigError, DataError
from potemkin.threat.box import Box
from potemkin.threat.sets.base import SAMPLE, PerturbationSet, Region, radii


@register("set")
@dataclass(frozen=True, repr=False)
class Grid(PerturbationSet):
    """The points of a set whose coordinates are levels of the box: what an image file can hold.

        S'(x) = {x' in S(x) : x'_i = low + k_i (high - low) / (levels - 1), k_i in 0, ..., levels - 1}

    Shapes: rows (B, ...). Units and range: those of `set`, which must be separable (Linf, or Masked Linf); levels from
    2 to 65,536; the box finite. Cost: no model calls; `project` (exact: the nearest level, coordinate by coordinate)
    a few elementwise passes. Not convex. Errors: ConfigError for a set that is not separable or an open box;
    DataError where the centre is off the grid and a coordinate has no level within reach.

    >>> from potemkin.threat.sets.linf import Linf
    >>> region = Grid(Linf(0.3), levels=5).around(torch.tensor([[0.5, 0.0]]), Box(0, 1))
    >>> region.project(torch.tensor([[0.9, 0.1]]))
    tensor([[0.7500, 0.0000]])

    Source: Rony et al., "Decoupling direction and norm" (CVPR 2019), section 3 (quantised adversarial examples).
    Differs: the grid is part of the set, so the search never leaves it.
    """

    set: PerturbationSet
    levels: int = 256
    eps: float = field(init=False, compare=False)
    norm_name: str = field(init=False, compare=False)
    separable: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        instance("The set of Grid", self.set, PerturbationSet, "a separable set such as Linf(8/255)")
        number("The levels of Grid", self.levels, low=2, high=65_536, integer=True)
        if not self.set.separable:
            raise ConfigError(
                f"Grid needs a separable set (Linf, or Masked Linf), found {self.set!r}: the nearest grid point of the "
                "others cannot be found coordinate by coordinate. ThreatModel(..., eight_bit=True) checks the rounded "
                "input instead."
            )
        object.__setattr__(self, "eps", self.set.eps)
        object.__setattr__(self, "norm_name", self.set.norm_name)
        object.__setattr__(self, "separable", False)  # a grid of a grid is refused

    def around(self, center: Tensor, box: Box, eps: Tensor | None = None) -> GridRegion:
        return GridRegion(self, center, box, radii(center, eps, self.eps))

    @property
    def any_shape(self) -> bool:
        return self.set.any_shape

    def sentence(self) -> str:
        return f"{self.set.sentence()} on a grid of {self.levels:,} levels"


class GridRegion(Region):
    """The grid points within reach of given rows: the levels from `_first` to `_last`, coordinate by coordinate."""

    def __init__(self, grid: Grid, center: Tensor, box: Box, eps: Tensor) -> None:
        super().__init__(center, box, eps)
        if not box.bounded:
            raise ConfigError(f"Grid needs a finite box, found {box!r}: the levels divide it. Give Box(0, 1), say.")
        self._inner = grid.set.around(center, box, eps)
        self._top = grid.levels - 1
        # Levels are computed at the box's scale, and so is what rounding may move them.
        self._ulp = torch.finfo(center.dtype).eps * max(abs(box.low), abs(box.high))
        low, high = self._inner.bounds()
        self._first = self._position(low.double() - self._ulp).ceil()
        self._last = self._position(high.double() + self._ulp).floor()
        self._refuse_empty()

    def project(self, z: Tensor) -> Tensor:
        return self._value(self._position(z.double()).round())

    def pull_in(self, z: Tensor) -> Tensor:
        return self.project(self._inner.pull_in(z))

    def measure(self, offset: Tensor) -> Tensor:
        return self._inner.measure(offset)

    def contains(self, z: Tensor) -> Tensor:
        within_reach = self._value(self._position(z.double()).round())
        on_a_level = rows.all_true((z.double() - within_reach.double()).abs() <= self._ulp)
        return on_a_level & self._inner.near(z, torch.full_like(z, self._ulp, dtype=torch.float64))

    def sample(self, streams: RowStreams, step: Tensor) -> Tensor:
        u = streams.uniform(step, self.center.shape[1:], SAMPLE, self.center.dtype).double()
        return self._value(self._first + (u * (self._last - self._first + 1)).floor())

    def surface(self, streams: RowStreams, step: Tensor) -> Tensor:
        return self.project(self._inner.surface(streams, step))

    def steepest(self, gradient: Tensor, at: Tensor | None = None, size: Tensor | None = None) -> Tensor:
        return self._inner.steepest(gradient, at, size)

    def maximiser(self, gradient: Tensor) -> Tensor:
        still = self._position(self.center.double()).round()
        return self._value(torch.where(gradient > 0, self._last, torch.where(gradient < 0, self._first, still)))

    def _position(self, x: Tensor) -> Tensor:
        """Where x (float64) lies on the scale of levels, 0 to levels - 1."""
        return (x - self.box.low) / (self.box.high - self.box.low) * self._top

    def _value(self, level: Tensor) -> Tensor:
        """The value at a level within reach; the centre's own bits where it is that level up to rounding."""
        k = torch.minimum(torch.maximum(level, self._first), self._last)
        # k / 255 as a division in the dtype: the same bits as those of an 8-bit image read as float.
        share = k.to(self.center.dtype) / self._top
        x = self.box.clip(self.box.low + share * (self.box.high - self.box.low))
        return self.center.where((x.double() - self.center.double()).abs() <= self._ulp, x)

    def _refuse_empty(self) -> None:
        empty = rows.flat(self._first > self._last)
        if bool(empty.any()):
            row, place = (int(i) for i in empty.nonzero()[0])
            value = float(rows.flat(self.center)[row, place])
            raise DataError(
                f"{int(empty.sum())} coordinates have no grid point within reach: the first is {value!r} (row {row}, "
                f"coordinate {place}), between two of the {self._top + 1} levels of [{self.box.low:g}, "
                f"{self.box.high:g}]. Round the data to the grid first, or use a larger eps or more levels."
            )
