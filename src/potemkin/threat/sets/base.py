"""What every perturbation set answers, and what every set around given rows (a region) answers."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from potemkin.core import rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.random import RowStreams
from potemkin.errors import ConfigError, DataError
from potemkin.threat.box import Box

# What a draw is for: two draws of one row at one step must not see the same random bits.
SAMPLE = 101
SAMPLE_SIGN = 102
SURFACE = 103


class PerturbationSet(Noted, ABC):
    """Where x' may lie around each x: a radius `eps` in a norm; `around` binds it to rows, intersected with the box."""

    eps: float
    norm_name: str
    separable: bool = False  # whether each coordinate has an interval of its own, whatever the others do

    @abstractmethod
    def around(self, center: Tensor, box: Box, eps: Tensor | None = None) -> Region:
        """The set around `center` (B, ...) inside `box`; `eps` (B,) replaces the set's own radius row by row."""

    @property
    def any_shape(self) -> bool:
        """Whether inputs of every shape fit; a mask is made for one."""
        return True

    @abstractmethod
    def sentence(self) -> str:
        """The set in words, as reports print it."""


@dataclass(frozen=True, repr=False)
class Ball(PerturbationSet):
    """The ball of radius `eps` in one norm, all coordinates alike."""

    eps: float

    def __post_init__(self) -> None:
        number(f"eps of {type(self).__name__} (the radius, in input units, such as 8/255)", self.eps, low=0)
        object.__setattr__(self, "eps", float(self.eps))

    def sentence(self) -> str:
        return f"{self.norm_name} distance at most {spoken(self.eps)}"


class Region(ABC):
    """A perturbation set around `center` (B, ...), intersected with `box`; `eps` is (B,) in the centre's dtype.

    Rows never look at each other, and nothing here waits for the device (but a `Grid` once, when it is made: it refuses
    rows out of reach of every level). The centre is assumed to be inside the box.
    """

    def __init__(self, center: Tensor, box: Box, eps: Tensor) -> None:
        self.center = center
        self.box = box
        self.eps = eps

    @abstractmethod
    def project(self, z: Tensor) -> Tensor:
        """The nearest point (Euclidean) of the set intersected with the box: (B, ...) -> (B, ...).

        Points inside come back bit for bit. Infinity is a very far point; NaN stays NaN, which `contains` refuses.
        """

    def pull_in(self, z: Tensor) -> Tensor:
        """The field's project onto the ball, then clip to the box: feasible, but not always the nearest point."""
        return self.project(z)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The interval of each coordinate, low and high (B, ...); separable sets only."""
        raise NotImplementedError(f"{type(self).__name__} has no interval per coordinate.")

    @abstractmethod
    def measure(self, offset: Tensor) -> Tensor:
        """The set's norm of each row of `offset`, in float64: (B, ...) -> (B,)."""

    def distance(self, z: Tensor) -> Tensor:
        """||z - center|| per row in the set's own norm, computed in float64: (B, ...) -> (B,)."""
        return self.measure(self._offset(z))

    def near(self, z: Tensor, ulp: Tensor) -> Tensor:
        """Whether each row lies in the ball, box aside, if every coordinate may first move by `ulp`: (B,) bool."""
        return self._within(self._offset(z).abs_(), rows.flat(ulp))

    def contains(self, z: Tensor) -> Tensor:
        """Whether each row lies in the set and in the box, computed in float64: (B, ...) -> (B,) bool.

        A point counts as inside if moving each coordinate by at most one ulp (of z's dtype, at the greater of z and
        centre) brings it inside. NaN and infinity are outside.
        """
        ulp = rows.ulps(z, self.center)
        return self.near(z, ulp) & self.box.contains(z, ulp)

    @abstractmethod
    def sample(self, streams: RowStreams, step: Tensor) -> Tensor:
        """A point drawn uniformly from the ball, then projected: (B, ...)."""

    @abstractmethod
    def surface(self, streams: RowStreams, step: Tensor) -> Tensor:
        """APGD's start, far out in a random direction and pulled in: (B, ...).

        Linf and L2 scale a draw to the ball's boundary; L1 projects a normal draw, which may lie inside.
        """

    @abstractmethod
    def steepest(self, gradient: Tensor, at: Tensor | None = None, size: Tensor | None = None) -> Tensor:
        """The direction u with ||u|| <= 1 in the set's norm that maximises <gradient, u>; 0 where the gradient is 0.

        Where the set knows better with them: `at` is the point that a step of length `size` (B,) along u starts from.
        """

    @abstractmethod
    def maximiser(self, gradient: Tensor) -> Tensor:
        """A point of the set and the box that maximises <gradient, x> exactly: the optimum of a linear model."""

    def _offset(self, z: Tensor) -> Tensor:
        """z - center, flat in float64: (B, d)."""
        return rows.flat(z) - self._wide_center

    def _within(self, length: Tensor, slack: Tensor) -> Tensor:
        """Whether the offset with these absolute values (B, d) is in the ball, each first shortened by `slack`."""
        return self.measure((length - slack).clamp_min_(0.0)) <= self.eps.double()

    def _settled(self, z: Tensor, length: Tensor) -> Tensor:
        """Whether z, at the absolute offsets `length` (B, d), is in the ball but for the rounding of its coordinates.

        A projection leaves such points alone, so its own results come back bit for bit. Nothing counts as rounding
        beyond eps: with eps = 0 only the centre is settled.
        """
        half_ulp = torch.maximum(rows.flat(z).abs(), rows.flat(self.center).abs()).mul_(torch.finfo(z.dtype).eps / 2)
        return self._within(length, torch.minimum(half_ulp, self.eps.unsqueeze(1)))

    def _at(self, offset: Tensor, clip: bool = True) -> Tensor:
        """The point at `offset` (B, d) from the centre, in the centre's dtype and shape."""
        x = (self._wide_center + offset).to(self.center.dtype).reshape(self.center.shape)
        return self.box.clip(x) if clip else x

    @functools.cached_property
    def _wide_center(self) -> Tensor:
        return rows.flat(self.center).double()


def radii(center: Tensor, eps: Tensor | None, default: float) -> Tensor:
    """The radius of each row, (B,) in the centre's dtype, after the shapes and the dtype have been checked.

    A radius beyond 1e100, or a quarter of what the dtype can hold, is cut there, so that no sum or square overflows.
    """
    if not center.is_floating_point() or center.ndim < 2:
        raise DataError(
            f"A set lies around a floating-point tensor (B, ...), found shape {tuple(center.shape)} of {center.dtype}; "
            "give inputs as float32 with the rows first."
        )
    count = center.shape[0]
    most = min(torch.finfo(center.dtype).max / 4, 1e100)
    if eps is None:
        return center.new_full((count,), min(default, most))
    if eps.shape != (count,):
        raise ConfigError(f"eps per row must have shape ({count},), one radius each, found {tuple(eps.shape)}.")
    return eps.to(center).clamp(0.0, most)


def room(center: Tensor, box: Box, direction: Tensor) -> Tensor:
    """How far each coordinate can go in the sign of `direction` before it meets the box: (B, d) in float64, >= 0."""
    wide = rows.flat(center).to(torch.float64)
    return torch.where(direction > 0, box.high - wide, wide - box.low).clamp_min(0.0)


def tame(gradient: Tensor) -> Tensor:
    """The gradient (B, d) in float64 with max |g| = 1 per row, so that no square under- or overflows.

    NaN counts as 0: a direction must stay finite, and who reports non-finite gradients is the search, not the set.
    """
    wide = rows.flat(gradient).double().nan_to_num(nan=0.0)  # infinity becomes the largest number
    peak = wide.abs().amax(dim=1, keepdim=True)
    return wide / peak.where(peak > 0, torch.ones_like(peak))


def spoken(value: float) -> str:
    """A radius in words: multiples of 1/255 as people write them, with the decimal beside.

    >>> spoken(8 / 255), spoken(0.3), spoken(1.0)
    ('8/255 (0.0314)', '0.3', '1')
    """
    steps = round(value * 255) if value <= 1 else 0
    if steps > 0 and steps / 255 == value and len(f"{steps}/255") < len(repr(value)):
        return f"{steps}/255 ({value:.3g})"
    return f"{value:.6g}"
