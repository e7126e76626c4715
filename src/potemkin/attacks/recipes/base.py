"""What recipes share: defaults of `Attack`, and the two ways to give a step size."""

from __future__ import annotations

from collections.abc import Mapping

from potemkin.attacks.parts.step_sizes import Constant
from potemkin.attacks.parts.targets import TrueLabel
from potemkin.attacks.program import Attack, Targeting
from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.errors import ConfigError


class Recipe(Noted, Attack):
    """One job steering by the true label, unless a recipe says otherwise."""

    @property
    def targeting(self) -> Targeting:
        return TrueLabel()

    @property
    def runs(self) -> int:
        return 1


class OneStep(Recipe):
    """One move of length eps from the clean input: 2 forwards, 1 backward."""

    @property
    def exact(self) -> frozenset[str]:
        return frozenset({"Linf"})

    @property
    def exempt(self) -> Mapping[str, str]:
        return {"interior": "one move of the whole budget cannot stop half-way"}

    def steps_for(self, eps: float) -> int:
        return 1


def check_steps(steps: int) -> None:
    """Refuse a step count that is not a positive whole number."""
    number("steps", steps, low=1, integer=True)


def constant_step(step_size: float | None, relative_step_size: float | None, default: float) -> Constant:
    """The constant step that a recipe's two arguments mean; at most one of them is given."""
    if step_size is not None and relative_step_size is not None:
        raise ConfigError(
            f"step_size={step_size} (input units) and relative_step_size={relative_step_size} (multiples of eps) say "
            "the same thing twice; give one of them."
        )
    if step_size is not None:
        number("step_size", step_size, low=0.0, open_low=True)
        return Constant(size=step_size)
    if relative_step_size is not None:
        number("relative_step_size", relative_step_size, low=0.0, open_low=True)
    return Constant(relative=default if relative_step_size is None else relative_step_size)
