"""Auto-PGD: no step size to choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from potemkin.attacks.ascent import Ascent
from potemkin.attacks.parts.directions import Raw, Steepest
from potemkin.attacks.parts.looks import AtIterate
from potemkin.attacks.parts.moves import HeavyBall, Project
from potemkin.attacks.parts.sparsity import SparsityOnStall
from potemkin.attacks.parts.starts import Surface
from potemkin.attacks.parts.step_sizes import HalveOnStall
from potemkin.attacks.parts.targets import TopClasses, TrueLabel
from potemkin.attacks.phases import Phases
from potemkin.attacks.program import Program, Targeting
from potemkin.attacks.recipes.base import Recipe, check_steps
from potemkin.core.checks import number
from potemkin.core.registry import register
from potemkin.errors import ConfigError
from potemkin.threat.objectives import CrossEntropy, Objective


@register("attack")
@dataclass(frozen=True, repr=False)
class apgd(Recipe):
    """Auto-PGD: heavy-ball ascent whose step halves, and which returns to its best point, where progress stalls.

        z = P(x_t + size * u_t);   x_{t+1} = P(x_t + 0.75 (z - x_t) + 0.25 (x_t - x_{t-1}));   size starts at 2 eps

    In L1: sparse sign steps whose sparsity is learnt, at 3 eps, then 2 eps, then eps (`Phases`).

    Args:
        steps: moves per run, at least 1.
        restarts: independent starts, at least 1.
        objective: `CrossEntropy()`, `DLR()`, or any other.
        targets: 0 steers away from the true class; n > 0 runs once towards each of the n likeliest wrong classes
            (with `DLR()` this is APGD-T). The targeted DLR needs 4 classes; with fewer, `Margin()` stands in.
        rho: share of rising moves that a step must have to keep its length, in (0, 1].

    Cost: (steps + 1) forwards and steps backwards per run (L1: steps + 3 forwards), runs = restarts * max(1, targets).
    Example:
        >>> from potemkin.threat.objectives import DLR
        >>> apgd(objective=DLR(), targets=9)
        apgd(objective=DLR(), targets=9)

    Source: Croce and Hein 2020, Algorithm 1; L1: Croce and Hein 2021.
    Differs: three habits of the published code, listed at `HalveOnStall`; L2 clips after projecting, as there.
    """

    steps: int = 100
    restarts: int = 1
    objective: Objective = CrossEntropy()
    targets: int = 0
    rho: float = 0.75

    def __post_init__(self) -> None:
        check_steps(self.steps)
        number("restarts", self.restarts, low=1, integer=True)
        number("targets", self.targets, low=0, integer=True)
        number("rho", self.rho, low=0.0, high=1.0, open_low=True)
        if not callable(getattr(self.objective, "fallback", None)) or isinstance(self.objective, type):
            raise ConfigError(f"objective={self.objective!r} is no objective; for example objective=DLR().")

    @property
    def exempt(self) -> Mapping[str, str]:
        return {
            "closed_form/L1": "the published sparsity never falls below two coordinates, the optimum may be one",
            "longer": "checkpoints are shares of the number of steps",
            "parameters.program.ascent.step_size.share": "the starts of its L1 phases have moved, and set their own",
        }

    @property
    def runs(self) -> int:
        return self.restarts

    @property
    def targeting(self) -> Targeting:
        return TopClasses(self.targets) if self.targets else TrueLabel()

    def steps_for(self, eps: float) -> int:
        return self.steps

    def program(self, classes: int, norm: str, targeted: bool) -> Program:
        objective = self.objective.fallback(classes, targeted or self.targets > 0)
        if norm == "L1":
            return Phases(Ascent(objective, Surface(), AtIterate(), Raw(), SparsityOnStall(), Project()))
        return Ascent(objective, Surface(), AtIterate(), Steepest(), HalveOnStall(rho=self.rho), HeavyBall())
