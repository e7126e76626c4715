"""Iterative attacks with momentum, made for transfer: MI-FGSM and NI-FGSM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from potemkin.attacks.ascent import Ascent
from potemkin.attacks.parts.directions import Chain, Momentum, Normalize, Steepest
from potemkin.attacks.parts.looks import LookAhead
from potemkin.attacks.parts.step_sizes import Constant
from potemkin.attacks.program import Program
from potemkin.attacks.recipes.base import Recipe, check_steps, constant_step
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.threat.objectives import CrossEntropy


@register("attack")
@dataclass(frozen=True, repr=False)
class mi_fgsm(Recipe):
    """Momentum iterative FGSM: accumulate l1-normalised gradients, step along the sign of the sum.

        g_{t+1} = mu * g_t + grad J(x_t, y) / ||grad J(x_t, y)||_1;   x_{t+1} = P(x_t + step_size * sign(g_{t+1}))

    Args:
        steps: moves, at least 1.
        mu: decay of the accumulated gradient, at least 0; 0 is BIM.
        step_size: input units.  relative_step_size: multiples of eps. Neither given: eps / steps, as in the paper.

    Cost: steps + 1 forwards, steps backwards.
    Source: Dong et al. 2018, Algorithm 1 and equations (6), (7).
    Differs: keeps the best iterate; outside Linf the sign is the norm's steepest direction.
    """

    steps: int = 10
    mu: float = 1.0
    step_size: float | None = None
    relative_step_size: float | None = None

    def __post_init__(self) -> None:
        check_steps(self.steps)
        number("mu", self.mu, low=0.0)
        self._size()

    def steps_for(self, eps: float) -> int:
        return self.steps

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(CrossEntropy(), direction=self._direction(), step_size=self._size())

    def _size(self) -> Constant:
        return constant_step(self.step_size, self.relative_step_size, 1 / self.steps)

    def _direction(self) -> Chain:
        return Chain((Normalize(p=1), Momentum(self.mu), Steepest()))


@register("attack")
@dataclass(frozen=True, repr=False)
class ni_fgsm(mi_fgsm):
    """Nesterov iterative FGSM: MI-FGSM with the gradient taken where the momentum leads.

        x_nes = x_t + step_size * mu * g_t;   g_{t+1} = mu * g_t + grad J(x_nes, y) / ||grad J(x_nes, y)||_1
        x_{t+1} = P(x_t + step_size * sign(g_{t+1}))

    Args:
        steps, mu, step_size, relative_step_size: as for `mi_fgsm`.

    Cost: steps + 1 forwards, steps backwards.
    Source: Lin et al. 2020, section 3.2, equations (6) to (8).
    Differs: a look-ahead point counts as adversarial only where it lies inside the set; keeps the best such point.
    """

    @property
    def exempt(self) -> Mapping[str, str]:
        return {
            "longer": "only the last query is an iterate; with more steps the same one is passed by, not asked about"
        }

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        return Ascent(CrossEntropy(), look=LookAhead(self.mu), direction=self._direction(), step_size=self._size())
