"""Iterative attacks from the clean input: basic iterative, iterative least-likely."""

from __future__ import annotations

import math
from dataclasses import dataclass

from potemkin.attacks.ascent import Ascent
from potemkin.attacks.parts.step_sizes import Constant
from potemkin.attacks.parts.targets import LeastLikelyClass
from potemkin.attacks.program import Program, Targeting
from potemkin.attacks.recipes.base import Recipe, check_steps
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.threat.box import Box
from potemkin.threat.objectives import CrossEntropy
from potemkin.threat.sets.base import PerturbationSet

GREY_LEVELS = 255
"""Kurakin et al. count eps, step and iterations in grey levels of 8-bit pictures; inputs here are in [0, 1]."""


def kurakin_steps(eps: float) -> int:
    """N = int(min(eps + 4, 1.25 eps)) iterations, eps in grey levels, at least 1: enough to reach the edge and turn.

    >>> [kurakin_steps(level / 255) for level in (2, 4, 8, 16)]
    [2, 5, 10, 20]
    """
    levels = eps * GREY_LEVELS
    # A rounding below a whole number of levels must not cost an iteration.
    return max(1, math.floor(min(levels + 4, 1.25 * levels) + 1e-9))


@register("attack")
@dataclass(frozen=True, repr=False)
class bim(Recipe):
    """Basic iterative method: small sign steps from the clean input.

        x_0 = x;   x_{t+1} = P(x_t + step_size * sign(grad_x J(x_t, y)))

    Args:
        steps: moves; None is Kurakin's count N = min(eps + 4, 1.25 eps), eps in grey levels of pictures in [0, 1]; in
            other sets and boxes it has to be given.
        step_size: input units; one grey level by default.

    Cost: N + 1 forwards, N backwards.
    Source: Kurakin et al. 2017, section 2.  Differs: keeps the best iterate; outside Linf the sign is the norm's
    steepest direction.
    """

    steps: int | None = None
    step_size: float = 1 / GREY_LEVELS

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_steps(self.steps)
        number("step_size", self.step_size, low=0.0, open_low=True)

    def steps_for(self, eps: float) -> int:
        return kurakin_steps(eps) if self.steps is None else self.steps

    def misfit(self, perturbations: PerturbationSet, box: Box) -> str | None:
        if self.steps is not None or (perturbations.norm_name == "Linf" and box == Box(0, 1)):
            return None
        return (
            f"it counts its moves in grey levels, of pictures in [0, 1] under Linf, and this is "
            f"{perturbations.norm_name} {box.sentence()}. Give both numbers, for example "
            f"{type(self).__name__}(steps=10, step_size={perturbations.eps / 4:.3g})."
        )

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(CrossEntropy(), step_size=Constant(size=self.step_size))


@register("attack")
@dataclass(frozen=True, repr=False)
class iterative_ll(bim):
    """Iterative least-likely class method: small steps towards the class that the model finds least likely.

        x_0 = x;   x_{t+1} = P(x_t - step_size * sign(grad_x J(x_t, y_ll)))

    Args:
        steps: moves; None is Kurakin's count N = min(eps + 4, 1.25 eps), eps in grey levels of pictures in [0, 1]; in
            other sets and boxes it has to be given.
        step_size: input units; one grey level by default.

    Cost: N + 1 forwards, N backwards.
    Source: Kurakin et al. 2017, section 2.  Differs: keeps the best iterate; the true class is never the target.
    """

    @property
    def targeting(self) -> Targeting:
        return LeastLikelyClass()
