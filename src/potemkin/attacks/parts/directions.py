"""From gradient to direction: the `direction` slot. Parts chain; their order is their meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from potemkin.attacks.program import Rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.core.rows import norm, spread
from potemkin.errors import ConfigError


class Direction(Protocol):
    """Turns a gradient into a direction, with per-row memory."""

    def init(self, point: Tensor) -> Any:
        """Return the state before the first gradient (tensors, or () for none)."""

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        """Return the (B, *shape) direction and the new state; `size` (B,) is how far the step will go along it."""

    def memory(self, state: Any) -> Tensor | None:
        """Return the accumulated gradient, where this part keeps one."""


class _Stateless(Noted):
    def init(self, point: Tensor) -> tuple[()]:
        return ()

    def memory(self, state: Any) -> Tensor | None:
        return None


@register("part")
@dataclass(frozen=True, repr=False)
class Steepest(_Stateless):
    """The unit direction of steepest ascent in the set's own norm: argmax <g, u> over ||u|| <= 1.

    Linf: sign(g). L2: g / ||g||. L1: the largest coordinates, each as far as the box lets it go, until the step is used
    up. A zero gradient gives zero.

    Source: Goodfellow et al. 2015, section 4 (max norm); Boyd and Vandenberghe 2004, section 9.4.
    Differs: L1 regards the box, see `L1`.
    """

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        return rows.region.steepest(gradient, point, size), state


@register("part")
@dataclass(frozen=True, repr=False)
class Raw(_Stateless):
    """The gradient as it comes.

    Source: steepest ascent with a given step length; APGD for L1 makes its own sparse direction.  Differs: none.
    """

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        return gradient, state


@register("part")
@dataclass(frozen=True, repr=False)
class Normalize(_Stateless):
    """Scale to unit p-norm per row: g / ||g||_p; a zero gradient stays zero.

    Args:
        p: 1, 2 or inf.

    Source: Dong et al. 2018, equation (6), p = 1; Kurakin et al. 2017, appendix A, p = 2 and inf.  Differs: none.
    """

    p: float = 1

    def __post_init__(self) -> None:
        if self.p not in (1, 2, float("inf")):
            raise ConfigError(f"Normalize(p={self.p!r}): p must be 1, 2 or inf.")

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        length = norm(gradient, self.p)
        # The reciprocal of a subnormal length is infinite: such a gradient counts as zero.
        scale = torch.where(length > torch.finfo(length.dtype).tiny, 1 / length, torch.zeros_like(length))
        return gradient * spread(scale, gradient), state


@register("part")
@dataclass(frozen=True, repr=False)
class Momentum(Noted):
    """Accumulate what comes in: m_{t+1} = mu * m_t + g_t, m_0 = 0.

    Args:
        mu: decay, at least 0; 1 is a plain sum.

    Source: Dong et al. 2018, equation (6).  Differs: none (behind `Normalize(p=1)`).
    """

    mu: float = 1.0

    def __post_init__(self) -> None:
        number("mu", self.mu, low=0.0)

    def init(self, point: Tensor) -> Tensor:
        return torch.zeros_like(point)

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        accumulated = self.mu * state + gradient
        return accumulated, accumulated

    def memory(self, state: Any) -> Tensor | None:
        return state  # type: ignore[no-any-return]


@register("part")
@dataclass(frozen=True, repr=False)
class Chain(Noted):
    """Apply directions one after the other: the order written is the order run.

    Args:
        parts: at least one; `Steepest()`, where it stands, stands last: what follows a sign is not a gradient any more.

    Source: composition as in optax.chain.  Differs: none.
    """

    parts: tuple[Any, ...] = (Steepest(),)

    def __post_init__(self) -> None:
        if not self.parts:
            raise ConfigError(
                "Chain(parts=()): give at least one direction, for example Chain((Momentum(), Steepest()))."
            )
        if any(isinstance(part, Steepest) for part in self.parts[:-1]):
            raise ConfigError(
                "Chain: Steepest() must come last. Accumulating signs instead of gradients is a known fault of "
                "MI-FGSM implementations; write Chain((Normalize(p=1), Momentum(mu), Steepest()))."
            )

    def init(self, point: Tensor) -> tuple[Any, ...]:
        return tuple(part.init(point) for part in self.parts)

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        new = []
        for part, own in zip(self.parts, state, strict=True):
            gradient, own = part.update(gradient, own, point, rows, size)
            new.append(own)
        return gradient, tuple(new)

    def memory(self, state: Any) -> Tensor | None:
        kept = [part.memory(own) for part, own in zip(self.parts, state, strict=True)]
        return next((memory for memory in reversed(kept) if memory is not None), None)
