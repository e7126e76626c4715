"""Where an ascent begins: the `start` slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from potemkin.attacks.program import Rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.core.rows import spread

NOISE = 17
"""Purpose tag of the draws made here, so that no other part of a row's program shares them."""


class Start(Protocol):
    """Writes the first point of each row; `random` says whether restarts differ."""

    @property
    def random(self) -> bool: ...

    def point(self, rows: Rows) -> Tensor:
        """Return (B, *shape) points of the set."""


def _first(rows: Rows) -> Tensor:
    return torch.zeros_like(rows.steps)


@register("part")
@dataclass(frozen=True, repr=False)
class Center(Noted):
    """Begin at the clean input: x_0 = x.

    Source: Goodfellow et al. 2015, section 4; Kurakin et al. 2017, section 2.  Differs: none.
    """

    random = False

    def point(self, rows: Rows) -> Tensor:
        return rows.x


@register("part")
@dataclass(frozen=True, repr=False)
class Inside(Noted):
    """Begin uniformly inside the ball: x_0 = P(x + u), u ~ U(ball of radius eps).

    Source: Madry et al. 2018, section 2.1.  Differs: the point is projected into the box, too, which piles up
    probability on its faces, as every library does.
    """

    random = True

    def point(self, rows: Rows) -> Tensor:
        return rows.region.sample(rows.streams, _first(rows))


@register("part")
@dataclass(frozen=True, repr=False)
class Surface(Noted):
    """Begin on the ball's surface: x_0 = clip(x + eps * t / ||t||), t uniform (Linf) or normal (L2).

    Source: Croce and Hein 2020, the published implementation of APGD (the paper does not say).
    Differs: counter-based draws.
    """

    random = True

    def point(self, rows: Rows) -> Tensor:
        return rows.region.surface(rows.streams, _first(rows))


@register("part")
@dataclass(frozen=True, repr=False)
class SignStep(Noted):
    """Begin with a random sign step of a fraction of eps: x_0 = P(x + fraction * eps * sign(n)), n ~ N(0, I).

    Args:
        fraction: of eps, in [0, 1].

    Source: Tramèr et al. 2018, section 4.1 (R+FGSM).  Differs: signs are drawn directly.
    """

    fraction: float = 0.5
    random = True

    def __post_init__(self) -> None:
        number("fraction", self.fraction, low=0.0, high=1.0)

    def point(self, rows: Rows) -> Tensor:
        signs = rows.streams.sign(_first(rows), tuple(rows.x.shape[1:]), purpose=NOISE, dtype=rows.x.dtype)
        return rows.region.project(rows.x + spread(self.fraction * rows.region.eps, rows.x) * signs)


@register("part")
@dataclass(frozen=True, repr=False)
class TruncatedNormal(Noted):
    """Begin with noise drawn from N(0, sigma * eps) truncated to [-eps, eps]; a control, since noise hardly fools.

        x_0 = P(x + eps * t),  t ~ N(0, sigma^2) given |t| <= 1

    Args:
        sigma: standard deviation in units of eps, above 0.

    Source: Kurakin et al. 2017, appendix A (sigma 0.5; recalled).  Differs: drawn by inverting the truncated
    distribution on a fixed number of uniforms, not by rejection, so that the draw count is known.
    """

    sigma: float = 0.5
    random = True

    def __post_init__(self) -> None:
        number("sigma", self.sigma, low=0.0, open_low=True)

    def point(self, rows: Rows) -> Tensor:
        noise = _truncated_normal(rows.streams, _first(rows), tuple(rows.x.shape[1:]), self.sigma).to(rows.x.dtype)
        return rows.region.project(rows.x + spread(rows.region.eps, rows.x) * noise)


def _truncated_normal(streams: RowStreams, step: Tensor, shape: tuple[int, ...], sigma: float) -> Tensor:
    """Fold normals outside [-1, 1] away by redrawing a fixed four times; what is left (under 1e-5 of the draws at
    sigma 0.5) is clipped."""
    draw = streams.normal(step, shape, purpose=NOISE, dtype=torch.float64) * sigma
    for attempt in range(1, 5):
        again = streams.normal(step, shape, purpose=NOISE + attempt, dtype=torch.float64) * sigma
        draw = torch.where(draw.abs() > 1, again, draw)
    return draw.clamp(-1, 1)
