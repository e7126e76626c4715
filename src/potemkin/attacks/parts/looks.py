"""Where the gradient is taken: the `look` slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from potemkin.attacks.program import Rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.core.rows import spread


class GradientPoint(Protocol):
    """Maps the iterate to the point that the model is asked about."""

    @property
    def at_iterate(self) -> bool:
        """Whether the query is the iterate itself, which is always a point of the set."""

    def query(self, point: Tensor, size: Tensor, memory: Tensor | None, rows: Rows) -> Tensor:
        """Return the (B, *shape) query, given the next step size (B,) and the direction's accumulated gradient."""


@register("part")
@dataclass(frozen=True, repr=False)
class AtIterate(Noted):
    """Take the gradient at the iterate.

    Source: Goodfellow et al. 2015, section 4.  Differs: none.
    """

    at_iterate = True

    def query(self, point: Tensor, size: Tensor, memory: Tensor | None, rows: Rows) -> Tensor:
        return point


@register("part")
@dataclass(frozen=True, repr=False)
class LookAhead(Noted):
    """Take the gradient where the accumulated momentum would lead: x_nes = x_t + step_size * mu * g_t.

    The look-ahead point may lie outside the set: then meeting the goal there does not count.

    Args:
        mu: decay of the momentum, at least 0.

    Source: Lin et al. 2020 (NI-FGSM), equation (6).  Differs: none.
    """

    mu: float = 1.0
    at_iterate = False

    def __post_init__(self) -> None:
        number("mu", self.mu, low=0.0)

    def query(self, point: Tensor, size: Tensor, memory: Tensor | None, rows: Rows) -> Tensor:
        return point if memory is None else point + spread(size * self.mu, point) * memory
