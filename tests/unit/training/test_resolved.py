"""Values that the notation leaves out, as a run writes them down."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from potemkin.core.notation import parse
from potemkin.core.registry import entries
from potemkin.training.journal import read_info
from potemkin.training.optimisers import Optimiser, Schedule
from potemkin.training.recipes.base import Recipe
from potemkin.training.resolved import in_full, step_size
from trained import quick

PARTS = [
    entry.name
    for entry in entries("part")
    if isinstance(entry.factory, type) and issubclass(entry.factory, Optimiser | Schedule)
]
RECIPES = {entry.name: f"{entry.name}()" for entry in entries("recipe")}
RECIPES["ensemble_at"] = "ensemble_at(sources=('a',))"


@pytest.mark.parametrize("name", PARTS)
def test_an_optimiser_or_schedule_in_full_is_the_same_and_leaves_nothing_out(name: str) -> None:
    made: Any = parse(f"{name}()", kind="part")
    full = in_full(made)
    assert parse(full, kind="part") == made
    assert all(f"{field.name}=" in full for field in dataclasses.fields(made))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_in_full_is_the_same_and_leaves_nothing_out(name: str) -> None:
    made: Any = parse(RECIPES[name], kind="recipe")
    full = in_full(made)
    assert all(f"{field.name}=" in full for field in dataclasses.fields(made))
    assert parse(full, kind="recipe") == made


@pytest.mark.parametrize(
    ("notation", "told"),
    [
        ("pgd_at(eps=0.1, steps=5)", "0.05 in input units (0.5 eps)"),
        ("pgd_at(eps=1.0, norm='L2', steps=5)", "1 in input units (1 eps)"),
        ("pgd_at(eps=0.3, steps=10, relative_step_size=0.2, stretch=1.1)", "0.066 in input units (0.22 eps)"),
        ("trades(eps=0.1)", "0.025 in input units (0.25 eps)"),
        ("n_fgsm(eps=0.1, noise=1.0)", "0.1 in input units (1 eps)"),
        ("fast(eps=HalfNormal(16/255, 8/255))", "1.25 eps"),
        ("kurakin()", "1 eps"),
        ("pgd_at(sets=(Linf(0.1), L2(0.5)), steps=5)", "0.5 eps"),
        ("standard(eps=0.1)", None),
        ("softplus(eps=0.1)", None),
        ("free(eps=0.1)", None),
    ],
)
def test_the_step(notation: str, told: str | None) -> None:
    recipe = parse(notation, kind="recipe")
    assert isinstance(recipe, Recipe)
    assert step_size(recipe) == told


def test_a_run_writes_them_down(tmp_path: Path) -> None:
    quick(tmp_path / "run", optimiser="SGD(learning_rate=0.05)")
    told = read_info(tmp_path / "run").resolved
    assert told["optimiser"].startswith("SGD(learning_rate=0.05, momentum=0.9")
    assert told["schedule"].startswith("Cyclic(") and "relative_step_size=None" in told["recipe"]
    assert told["step"] == "0.125 in input units (1.25 eps)"
