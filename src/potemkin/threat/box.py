"""The box: the range that every coordinate of a legal input lies in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from potemkin.core import rows
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.errors import ConfigError


@register("part")
@dataclass(frozen=True, repr=False)
class Box(Noted):
    """The interval [low, high] that every coordinate of a legal input lies in.

    Shapes: any; the interval is the same for all coordinates. Units and range: the model's input units, low < high;
    `-inf` and `inf` leave a side open. Errors: ConfigError for NaN or low >= high.

    >>> Box(), Box.of((-1, 1)).sentence()
    (Box(), 'inside the box [-1, 1]')
    """

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            number(f"The {name} of a Box", value, infinite=True)
            object.__setattr__(self, name, float(value))
        if not self.low < self.high:
            raise ConfigError(
                f"A box needs low < high, found low={self.low!r} and high={self.high!r}; "
                "images are usually Box(0, 1), and Box(-inf, inf) means no box."
            )

    @classmethod
    def of(cls, box: Box | tuple[float, float]) -> Box:
        """The box itself, or the one from a pair (low, high)."""
        if isinstance(box, Box):
            return box
        if isinstance(box, (tuple, list)) and len(box) == 2:
            return cls(box[0], box[1])
        raise ConfigError(f"A box is Box(low, high) or a pair (low, high), found {box!r}; images are usually (0, 1).")

    @property
    def bounded(self) -> bool:
        """Whether both sides are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def clip(self, x: Tensor) -> Tensor:
        """The nearest point of the box; NaN stays NaN."""
        return x.clamp(self.low, self.high)

    def contains(self, x: Tensor, ulp: Tensor) -> Tensor:
        """(B, ...) -> (B,) bool: whether the whole row is finite and inside, give or take `ulp`."""
        wide = x.double()
        return rows.all_true((wide >= self.low - ulp) & (wide <= self.high + ulp) & wide.isfinite())

    def sentence(self) -> str:
        """The box in words, as reports print it."""
        if math.isinf(self.low) and math.isinf(self.high):
            return "without a box"
        if self.bounded:
            return f"inside the box [{self.low:g}, {self.high:g}]"
        side = f"at least {self.low:g}" if math.isinf(self.high) else f"at most {self.high:g}"
        return f"with coordinates {side}"
