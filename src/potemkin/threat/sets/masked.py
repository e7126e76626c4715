"""Sets that may touch some coordinates only: a rectangle of pixels, or listed features."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from potemkin.core import rows
from potemkin.core.checks import instance, number
from potemkin.core.notation import Noted
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.threat.box import Box
from potemkin.threat.sets.base import PerturbationSet, Region, radii

Shape = tuple[int, ...]


class Where(Noted, ABC):
    """Which coordinates of a row may change."""

    @abstractmethod
    def mask(self, shape: Shape) -> Tensor:
        """A bool tensor of the row's shape, True where the row may change; ConfigError where it does not fit."""

    @abstractmethod
    def sentence(self) -> str:
        """The place in words."""


@register("part")
@dataclass(frozen=True, repr=False)
class Rectangle(Where):
    """A rectangle in the last two dimensions, the same in all channels; counted in pixels from the top left corner.

    >>> Rectangle(top=0, left=1, height=2, width=2).mask((2, 3)).int().tolist()
    [[0, 1, 1], [0, 1, 1]]
    """

    top: int
    left: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for name, low in (("top", 0), ("left", 0), ("height", 1), ("width", 1)):
            number(f"The {name} of Rectangle", getattr(self, name), low=low, integer=True)

    def mask(self, shape: Shape) -> Tensor:
        if len(shape) < 2 or self.top + self.height > shape[-2] or self.left + self.width > shape[-1]:
            raise ConfigError(
                f"{self!r} does not fit into inputs of shape {shape}: it needs at least {self.top + self.height} x "
                f"{self.left + self.width} pixels. Choose a smaller one, or Features(...) for tables."
            )
        inside = torch.zeros(shape, dtype=torch.bool)
        inside[..., self.top : self.top + self.height, self.left : self.left + self.width] = True
        return inside

    def sentence(self) -> str:
        return f"on the {self.height} x {self.width} rectangle at row {self.top}, column {self.left}"


@register("part")
@dataclass(frozen=True, repr=False, init=False)
class Features(Where):
    """Listed coordinates of the flattened row, counted from 0; with `shape`, only rows of that shape fit.

    >>> Features(3, 0) == Features(indices=(0, 3))
    True
    """

    indices: tuple[int, ...] = field(kw_only=True)
    shape: Shape | None = None

    def __init__(self, *flat: int, indices: Sequence[int] = (), shape: Sequence[int] | None = None) -> None:
        for index in (*flat, *indices):
            number("An index of Features", index, low=0, integer=True)
        listed = tuple(sorted({*flat, *indices}))
        if not listed:
            raise ConfigError("Features needs at least one index, found none; write for instance Features(0, 3).")
        object.__setattr__(self, "indices", listed)
        object.__setattr__(self, "shape", None if shape is None else tuple(shape))

    def mask(self, shape: Shape) -> Tensor:
        width = math.prod(shape)
        if self.shape not in (None, shape):
            raise ConfigError(f"The mask is for inputs of shape {self.shape}, but the inputs here have shape {shape}.")
        if self.indices[-1] >= width:
            raise ConfigError(
                f"Features has the index {self.indices[-1]}, but inputs of shape {shape} have 0 to {width - 1}."
            )
        inside = torch.zeros(width, dtype=torch.bool)
        inside[list(self.indices)] = True
        return inside.reshape(shape)

    def sentence(self) -> str:
        count = len(self.indices)
        return f"on {count} chosen coordinate{'s' if count > 1 else ''}"


@register("set")
@dataclass(frozen=True, repr=False)
class Masked(PerturbationSet):
    """A set on some coordinates only; the others stay exactly at the centre.

        S'(x) = {x' in S(x) : x'_i = x_i for i outside `where`}

    `where` is Rectangle(top, left, height, width) or Features(indices...); `Masked.from_tensor` takes a mask tensor.
    Shapes: rows (B, ...) that the mask fits. Units and range: those of `set`. Cost: no model calls; that of `set` in
    the coordinates chosen, and one gather and scatter. Errors: ConfigError where the mask does not fit the inputs.

    >>> from potemkin.threat.sets.linf import Linf
    >>> region = Masked(Linf(0.25), Features(1)).around(torch.tensor([[0.5, 0.5]]), Box(0, 1))
    >>> region.project(torch.tensor([[1.0, 1.0]]))
    tensor([[0.5000, 0.7500]])

    Source: Brown et al., "Adversarial patch" (2017), section 2, for a rectangle that may change without limit.
    Differs: the change has a radius, and the place is fixed.
    """

    set: PerturbationSet
    where: Where
    eps: float = field(init=False, compare=False)
    norm_name: str = field(init=False, compare=False)
    separable: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        instance("The set of Masked", self.set, PerturbationSet, "a perturbation set such as Linf(8/255)")
        instance("where of Masked", self.where, Where, "Rectangle(top, left, height, width) or Features(indices...)")
        if isinstance(self.set, Masked):
            raise ConfigError(f"Masked cannot hold another Masked, found {self.set!r}; give one mask that is both.")
        for name in ("eps", "norm_name", "separable"):
            object.__setattr__(self, name, getattr(self.set, name))

    @classmethod
    def from_tensor(cls, set: PerturbationSet, mask: Tensor) -> Masked:
        """The set where `mask`, a tensor of the shape of one row, is True (or not zero)."""
        indices = rows.flat(mask.unsqueeze(0))[0].nonzero().flatten().tolist()
        if not indices:
            raise ConfigError(f"The mask of shape {tuple(mask.shape)} is False everywhere: nothing could change.")
        return cls(set, Features(indices=indices, shape=tuple(mask.shape)))

    def around(self, center: Tensor, box: Box, eps: Tensor | None = None) -> MaskedRegion:
        return MaskedRegion(self, center, box, radii(center, eps, self.eps))

    @property
    def any_shape(self) -> bool:
        return False

    def sentence(self) -> str:
        return f"{self.set.sentence()} {self.where.sentence()}, nothing elsewhere,"


class MaskedRegion(Region):
    """The set in the chosen coordinates of given rows, as rows of their own; its answers are put back in place."""

    def __init__(self, masked: Masked, center: Tensor, box: Box, eps: Tensor) -> None:
        super().__init__(center, box, eps)
        self._mask, self._index = (t.to(center.device) for t in _place(masked.where, tuple(center.shape[1:])))
        self._inner = masked.set.around(self._pick(center), box, eps)

    def bounds(self) -> tuple[Tensor, Tensor]:
        low, high = self._inner.bounds()
        return self._put(low, self.center), self._put(high, self.center)

    def project(self, z: Tensor) -> Tensor:
        return self._put(self._inner.project(self._pick(z)), self.center)

    def pull_in(self, z: Tensor) -> Tensor:
        return self._put(self._inner.pull_in(self._pick(z)), self.center)

    def measure(self, offset: Tensor) -> Tensor:
        return self._inner.measure(offset)

    def near(self, z: Tensor, ulp: Tensor) -> Tensor:
        return self._inner.near(self._pick(z), self._pick(ulp)) & rows.all_true((z == self.center) | self._mask)

    def sample(self, streams: RowStreams, step: Tensor) -> Tensor:
        return self._put(self._inner.sample(streams, step), self.center)

    def surface(self, streams: RowStreams, step: Tensor) -> Tensor:
        return self._put(self._inner.surface(streams, step), self.center)

    def steepest(self, gradient: Tensor, at: Tensor | None = None, size: Tensor | None = None) -> Tensor:
        inner = self._inner.steepest(self._pick(gradient), None if at is None else self._pick(at), size)
        return self._put(inner, torch.zeros_like(gradient))

    def maximiser(self, gradient: Tensor) -> Tensor:
        return self._put(self._inner.maximiser(self._pick(gradient)), self.center)

    def _pick(self, x: Tensor) -> Tensor:
        return rows.flat(x).index_select(1, self._index)

    def _put(self, values: Tensor, among: Tensor) -> Tensor:
        return rows.flat(among).index_copy(1, self._index, values).reshape(among.shape)


@functools.lru_cache(maxsize=64)
def _place(where: Where, shape: Shape) -> tuple[Tensor, Tensor]:
    """The mask for this shape of rows, and the flat indices of its True entries; found on the CPU, once."""
    mask = where.mask(shape)
    return mask, mask.flatten().nonzero().flatten()
