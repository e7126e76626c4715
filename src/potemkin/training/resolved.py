"""What a run's notation leaves out, for run.json and the page: every default, and how long a step of the attack is."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from potemkin.attacks.parts.step_sizes import Constant
from potemkin.core.canonical import show
from potemkin.core.notation import Noted
from potemkin.training.radius import is_radius
from potemkin.training.recipes.base import Recipe
from potemkin.training.settings import Settings


def resolved(recipe: Recipe, settings: Settings) -> dict[str, str]:
    """Recipe, optimiser and schedule with all their values; `step`: that of the inner attack, where it has a length."""
    found = {"recipe": recipe, "optimiser": settings.optimiser, "schedule": settings.schedule}
    step = step_size(recipe)
    return {name: in_full(part) for name, part in found.items()} | ({} if step is None else {"step": step})


def in_full(part: Noted) -> str:
    """The notation with every argument in it.

    >>> from potemkin.training.optimisers import Cosine
    >>> in_full(Cosine())
    'Cosine(warmup=0.05)'
    """
    values = (f"{each.name}={show(getattr(part, each.name))}" for each in fields(part))  # type: ignore[arg-type]
    return f"{type(part).__name__}({', '.join(values)})"


def step_size(recipe: Recipe) -> str | None:
    """How long a step of the inner attack is, in input units and in eps; None where nothing steps.

    >>> from potemkin.training.recipes import pgd_at
    >>> step_size(pgd_at(eps=0.1, steps=5))
    '0.05 in input units (0.5 eps)'
    """
    adversary = recipe.adversary
    if adversary is None:
        return None
    program: Any = adversary.attack.program(10, recipe.threats[0].norm_name, targeted=False)
    size = getattr(program, "step_size", None)
    if not isinstance(size, Constant):
        return None
    if size.relative is None:
        return f"{size.size:.4g} in input units"
    share = size.relative * adversary.stretch
    if is_radius(recipe.eps) or len(recipe.threats) > 1:  # drawn row by row, or one for each set
        return f"{share:.4g} eps"
    return f"{share * recipe.radius:.4g} in input units ({share:.4g} eps)"
