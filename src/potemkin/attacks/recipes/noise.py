"""Random-noise controls: what the budget does without any search. What falls to noise is robust to nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from potemkin.attacks.ascent import Ascent
from potemkin.attacks.parts.starts import Inside, SignStep, Start, TruncatedNormal
from potemkin.attacks.program import Program
from potemkin.attacks.recipes.base import Recipe
from potemkin.core.checks import choice, number
from potemkin.core.registry import register

_KINDS: dict[str, Start] = {"sign": SignStep(1.0), "normal": TruncatedNormal(0.5), "uniform": Inside()}


@register("attack")
@dataclass(frozen=True, repr=False)
class noise(Recipe):
    """Random noise of the full budget, the best of several draws: a control, not an attack.

        "sign":     x' = P(x + eps * sign(n)), n ~ N(0, I)
        "normal":   x' = P(x + eps * t), t ~ N(0, 0.5^2) truncated to [-1, 1]
        "uniform":  x' ~ U(set)

    Args:
        kind: which of the three.
        draws: independent draws, at least 1.

    Cost: 1 forward per draw; asks for decisions only.
    Source: Kurakin et al. 2017, appendix A (random controls; recalled); Goodfellow et al. 2015, section 6.
    Differs: several draws per example.
    """

    kind: Literal["sign", "normal", "uniform"] = "sign"
    draws: int = 1

    def __post_init__(self) -> None:
        choice("kind of noise", self.kind, tuple(_KINDS))
        number("draws", self.draws, low=1, integer=True)

    @property
    def exempt(self) -> Mapping[str, str]:
        return dict.fromkeys(("closed_form", "interior", "targeted"), "a control: it draws and does not search")

    @property
    def runs(self) -> int:
        return self.draws

    @property
    def control(self) -> bool:
        return True

    def steps_for(self, eps: float) -> int:
        return 0

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(start_at=_KINDS[self.kind], gradient_free=True)
