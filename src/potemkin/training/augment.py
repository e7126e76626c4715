"""Augmentation as a function of (seed, example, epoch): the same after a resume, and on every rank but for partners."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.core.rows import spread
from potemkin.errors import ConfigError
from potemkin.training.examples import Examples

SHIFT, FLIP, CUTOUT, MIX, PLACE = 301, 302, 303, 304, 305
"""Purpose tags of the draws made here."""


class Augmentation(Protocol):
    """Changes the rows of a batch."""

    def apply(self, given: Examples) -> Examples:
        """The examples, augmented; all inputs stay in the box."""


@register("part")
@dataclass(frozen=True, repr=False)
class Shift(Noted):
    """Move the picture by up to `pixels` in both directions; what comes in is 0 (pad, then crop at random).

    Source: He et al. 2016, section 4.2 (4 pixels).  Differs: none.
    """

    pixels: int = 4

    def __post_init__(self) -> None:
        number("pixels of Shift", self.pixels, low=1, integer=True)

    def apply(self, given: Examples) -> Examples:
        x = _pictures(given.x, self)
        height, width, reach = x.shape[2], x.shape[3], self.pixels
        moves = given.streams.integers(0, 2 * reach + 1, (2,), purpose=SHIFT)
        padded = F.pad(x, (reach,) * 4)
        down = moves[:, :1] + torch.arange(height, device=x.device)
        right = moves[:, 1:] + torch.arange(width, device=x.device)
        rows = torch.arange(len(x), device=x.device)[:, None, None]
        # (B, H, W, C), so the channels come last in memory, as fast convolutions want them.
        moved = padded.permute(0, 2, 3, 1)[rows, down[:, :, None], right[:, None, :]]
        return replace(given, x=moved.permute(0, 3, 1, 2))


@register("part")
@dataclass(frozen=True, repr=False)
class Flip(Noted):
    """Mirror left and right with probability 1/2.

    Source: He et al. 2016, section 4.2.  Differs: none.
    """

    def apply(self, given: Examples) -> Examples:
        x = _pictures(given.x, self)
        mirrored = given.streams.sign(0, (), purpose=FLIP) > 0
        return replace(given, x=torch.where(spread(mirrored, x), x.flip(3), x))


@register("part")
@dataclass(frozen=True, repr=False)
class Cutout(Noted):
    """Blank a square of `size` pixels around a random place to 0; at the border less of it is inside.

    Source: DeVries and Taylor 2017, section 3 (16 for CIFAR-10); Rice, Wong and Kolter 2020 (14).  Differs: none.
    """

    size: int = 14

    def __post_init__(self) -> None:
        number("size of Cutout", self.size, low=1, integer=True)

    def apply(self, given: Examples) -> Examples:
        inside = _square(given, _pictures(given.x, self), CUTOUT, self.size)
        return replace(given, x=given.x.masked_fill(inside, 0.0))


@register("part")
@dataclass(frozen=True, repr=False)
class Mixup(Noted):
    """Blend each row with the next one of this process's share of the batch, and their labels alike.

        x = s x_i + (1 - s) x_j,   s ~ U(1/2, 1): the attack steers by the heavier label

    Source: Zhang et al. 2018 (mixup), equation (1).
    Differs: s is uniform on [1/2, 1] per row, in place of max(s, 1 - s) of a Beta(1, 1) draw per batch: the same law.
    """

    def apply(self, given: Examples) -> Examples:
        share = 0.5 + 0.5 * given.streams.uniform(0, (), purpose=MIX)
        mixed = torch.lerp(_next(given.x), given.x, spread(share, given.x))
        return replace(given, x=mixed, partner=_next(given.y), share=share)


@register("part")
@dataclass(frozen=True, repr=False)
class Cutmix(Noted):
    """Paste a square of the next row (of this process's share) into each, and mix the labels by area.

    Source: Yun et al. 2019 (CutMix), section 3.1.
    Differs: a square of up to half the area (so that the attack steers by the label of the larger part), per row.
    """

    def apply(self, given: Examples) -> Examples:
        x = _pictures(given.x, self)
        area = 0.5 * given.streams.uniform(0, (), purpose=MIX)
        pixels = x.shape[2] * x.shape[3]
        # Rounded up, the largest squares would have more than half, and the label of the smaller part be steered by.
        side = (area * pixels).sqrt().round().long().clamp_(max=math.isqrt(pixels // 2))
        inside = _square(given, x, PLACE, side)
        share = 1 - inside.float().mean(dim=(1, 2, 3))
        return replace(given, x=torch.where(inside, _next(x), x), partner=_next(given.y), share=share)


def _next(rows: Tensor) -> Tensor:
    return rows.roll(-1, dims=0)


def _square(given: Examples, x: Tensor, purpose: int, size: int | Tensor) -> Tensor:
    """(B, 1, H, W) bool: the square with this side around a place drawn per row."""
    height, width = x.shape[2], x.shape[3]
    places = given.streams.uniform(0, (2,), purpose=purpose)
    side = torch.as_tensor(size, device=x.device).expand(len(x)).unsqueeze(1)

    def band(place: Tensor, length: int) -> Tensor:
        first = (place * length).long().unsqueeze(1) - side // 2
        along = torch.arange(length, device=x.device)
        return (along >= first) & (along < first + side)

    down, right = band(places[:, 0], height), band(places[:, 1], width)
    return (down[:, :, None] & right[:, None, :]).unsqueeze(1)


def _pictures(x: Tensor, part: object) -> Tensor:
    if x.dim() != 4:
        raise ConfigError(
            f"{part!r} is for pictures (channels, height, width); these inputs have shape {tuple(x.shape[1:])}. "
            "Leave it out."
        )
    return x
