"""Projected gradient descent (on the defender's objective; an ascent here, since everything is maximised)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from potemkin.attacks.ascent import Ascent
from potemkin.attacks.parts.directions import Steepest
from potemkin.attacks.parts.looks import AtIterate
from potemkin.attacks.parts.moves import Project
from potemkin.attacks.parts.starts import Inside, Start
from potemkin.attacks.parts.step_sizes import Constant
from potemkin.attacks.parts.variables import Identity, Variable
from potemkin.attacks.program import Program
from potemkin.attacks.recipes.base import Recipe, check_steps, constant_step
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.threat.box import Box
from potemkin.threat.objectives import CrossEntropy, Objective
from potemkin.threat.sets.base import PerturbationSet


@register("attack")
@dataclass(frozen=True, repr=False)
class pgd(Recipe):
    """Projected gradient ascent from a random point of the set, repeated from several.

        x_0 ~ U(set);   x_{t+1} = P(x_t + step_size * u_t),   u_t the steepest direction: sign(g) in Linf, g/||g|| in L2

    Args:
        steps: moves per restart, at least 1.
        restarts: independent starts, at least 1; an example that falls pays for no further one.
        step_size: input units.  relative_step_size: multiples of eps. Neither given: 2.5 eps / steps, in L2 twice that.
        objective: what is climbed; `Margin()` and `DLR()` survive saturated logits.
        start: where restarts begin; `Center()` makes restarts pointless.
        variable: what is searched; `Blocks(size)` keeps to low spatial frequencies (Linf, L2).

    Cost: (steps + 1) forwards and steps backwards per restart.
    Example:
        >>> pgd(steps=50, restarts=5)
        pgd(steps=50, restarts=5)

    Source: Madry et al. 2018, equation (2.2) and section 2.1; 2.5 eps / steps: the authors' challenge code.
    Differs: keeps the best iterate; projects exactly onto set and box; L1 fills the largest coordinates up to the box;
    in L2, where 2.5 eps of path do not turn a random start to within 1 % of a linear model's optimum, 5 eps / steps.
    """

    steps: int = 40
    restarts: int = 1
    step_size: float | None = None
    relative_step_size: float | None = None
    objective: Objective = CrossEntropy()
    start: Start = Inside()
    variable: Variable = Identity()

    def __post_init__(self) -> None:
        check_steps(self.steps)
        number("restarts", self.restarts, low=1, integer=True)
        self._size("L2")
        _check_parts(self.objective, self.start, self.variable)
        if self.restarts > 1 and not self.start.random:
            raise ConfigError(
                f"pgd(restarts={self.restarts}, start={self.start!r}): every restart would be the same; use a random "
                "start such as Inside(), or restarts=1."
            )

    @property
    def exempt(self) -> Mapping[str, str]:
        if not isinstance(self.variable, Identity):
            why = f"searches {self.variable!r} only"
            return dict.fromkeys(("closed_form", "interior", "moves/L1", "shapes"), why)
        path = self.steps * (self._size("L2").relative or math.inf)
        if path < 4 and self.start.random:
            return {
                "closed_form/L2": f"{path:g} eps of path do not turn every random start to within 1 % of the optimum"
            }
        return {}

    def misfit(self, perturbations: PerturbationSet, box: Box) -> str | None:
        if perturbations.norm_name == "L1" and not isinstance(self.variable, Identity):
            return f"L1 moves single coordinates, which leave what {self.variable!r} searches. Use Linf or L2."
        return None

    @property
    def runs(self) -> int:
        return self.restarts

    def steps_for(self, eps: float) -> int:
        return self.steps

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        objective = self.objective.fallback(classes, targeted)
        return Ascent(objective, self.start, AtIterate(), Steepest(), self._size(norm), Project(), self.variable)

    def _size(self, norm: str) -> Constant:
        path = 5.0 if norm == "L2" else 2.5
        return constant_step(self.step_size, self.relative_step_size, path / self.steps)


def _check_parts(objective: object, start: object, variable: object) -> None:
    for name, part, needs, example in (
        ("objective", objective, "fallback", "CrossEntropy()"),
        ("start", start, "point", "Inside()"),
        ("variable", variable, "restrict", "Identity()"),
    ):
        if not callable(getattr(part, needs, None)) or isinstance(part, type):
            raise ConfigError(f"{name}={part!r} is no {name}; for example {name}={example}.")
