"""Where an ascent begins: the `start_at` slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from potemkin.attacks.program import Rows
from potemkin.core import quantiles
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.core.rows import spread

NOISE = 17
"""Purpose tag of the draws made here, so that no other part of a row's program shares them."""


class Start(Protocol):
    """Writes the first point of each row; `random` says whether restarts differ."""

    lead: float = 0.0
    """How far the start has gone already on its way, in units of eps; a draw from the ball leads nowhere."""

    @property
    def random(self) -> bool: ...

    def point(self, rows: Rows) -> Tensor:
        """Return (B, *shape) points of the set."""


def _first(rows: Rows) -> Tensor:
    return torch.zeros_like(rows.steps)


@register("part")
@dataclass(frozen=True, repr=False)
class Center(Noted, Start):
    """Begin at the clean input: x_0 = x.

    Source: Goodfellow et al. 2015, section 4; Kurakin et al. 2017, section 2.  Differs: none.
    """

    random = False

    def point(self, rows: Rows) -> Tensor:
        return rows.x


@register("part")
@dataclass(frozen=True, repr=False)
class Inside(Noted, Start):
    """Begin uniformly inside the ball: x_0 = P(x + u), u ~ U(ball of radius share * eps).

    Args:
        share: of eps, in (0, 1].

    Source: Madry et al. 2018, section 2.1.  Differs: the point is projected into the box, too, which piles up
    probability on its faces, as every library does.
    """

    share: float = 1.0
    random = True

    def __post_init__(self) -> None:
        number("share", self.share, low=0.0, high=1.0, open_low=True)

    def point(self, rows: Rows) -> Tensor:
        region = rows.region
        if self.share < 1.0:
            region = rows.set.around(rows.x, region.box, self.share * region.eps)
        return region.sample(rows.streams, _first(rows))


@register("part")
@dataclass(frozen=True, repr=False)
class Surface(Noted, Start):
    """Begin far out in a random direction: a draw t brought to the ball's boundary, then into the box.

        Linf, L2:  x_0 = clip(x + eps * t / ||t||), t uniform (Linf) or normal (L2)
        L1:        x_0 = P(x + t), t normal: on the boundary where t reaches beyond the ball, inside where it does not

    Source: Croce and Hein 2020, the published implementation of APGD (the paper does not say).
    Differs: counter-based draws.
    """

    random = True

    def point(self, rows: Rows) -> Tensor:
        return rows.region.surface(rows.streams, _first(rows))


@register("part")
@dataclass(frozen=True, repr=False)
class SignStep(Noted, Start):
    """Begin with a random sign step of a fraction of eps: x_0 = P(x + fraction * eps * sign(n)), n ~ N(0, I).

    Args:
        fraction: of eps, in [0, 1].

    Source: Tramèr et al. 2018, section 4.1 (R+FGSM).  Differs: signs are drawn directly.
    """

    fraction: float = 0.5
    random = True

    def __post_init__(self) -> None:
        number("fraction", self.fraction, low=0.0, high=1.0)

    @property
    def lead(self) -> float:  # type: ignore[override]
        return self.fraction

    def point(self, rows: Rows) -> Tensor:
        signs = rows.streams.sign(_first(rows), tuple(rows.x.shape[1:]), purpose=NOISE, dtype=rows.x.dtype)
        return rows.region.project(rows.x + spread(self.fraction * rows.region.eps, rows.x) * signs)


@register("part")
@dataclass(frozen=True, repr=False)
class TruncatedNormal(Noted, Start):
    """Begin with normal noise that stays within eps of each coordinate; a control, since noise hardly fools.

        x_0 = P(x + eps * t),  t ~ N(0, sigma^2) given |t| <= 1

    Args:
        sigma: standard deviation in units of eps (of the normal before it is truncated), above 0.

    Source: Kurakin et al. 2017, appendix A (sigma 0.5; recalled).  Differs: drawn by inverting the truncated
    distribution at one uniform per coordinate, not by rejection, so that the draw count is known.
    """

    sigma: float = 0.5
    random = True

    def __post_init__(self) -> None:
        number("sigma", self.sigma, low=0.0, open_low=True)

    def point(self, rows: Rows) -> Tensor:
        noise = _truncated_normal(rows.streams, _first(rows), tuple(rows.x.shape[1:]), self.sigma).to(rows.x.dtype)
        return rows.region.project(rows.x + spread(rows.region.eps, rows.x) * noise)


def _truncated_normal(streams: RowStreams, step: Tensor, shape: tuple[int, ...], sigma: float) -> Tensor:
    """(B, *shape) of N(0, sigma^2) given |t| <= 1, by inversion: t = sigma Q(u P(0 < Z < 1/sigma)), u in (-1, 1)."""
    u = streams.uniform(step, shape, purpose=NOISE, dtype=torch.float64)
    # (2k + 1) / 2^53 - 1: symmetric about 0, exact, and never an end, where the quantile may be infinite.
    u = u.mul_(2).sub_(1).add_(2.0**-53)
    size = quantiles.normal_central(u.abs().mul_(quantiles.central_mass(1 / sigma)))
    return size.mul_(sigma).clamp_(max=1.0).copysign_(u)  # beyond 1 only by rounding
