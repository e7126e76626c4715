"""Values that the notation leaves out: what the page reads from the source is what the classes themselves say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from potemkin.attacks.parts.step_sizes import Constant
from potemkin.core.notation import parse
from potemkin.core.registry import entries
from potemkin.report.training_provenance import UNSET
from potemkin.report.training_resolved import arguments, in_full, step_size
from potemkin.report.typeset import number
from potemkin.training.optimisers import Optimiser, Schedule
from potemkin.training.recipes.base import Recipe
from potemkin.training.watch import LOG_EVERY

PARTS = [
    entry.name
    for entry in entries("part")
    if isinstance(entry.factory, type) and issubclass(entry.factory, Optimiser | Schedule)
]
RECIPES = [entry.name for entry in entries("recipe")]


@pytest.mark.parametrize("name", PARTS)
def test_an_optimiser_or_schedule_in_full_is_the_same_and_leaves_nothing_out(name: str) -> None:
    full = in_full(f"{name}()")
    made: Any = parse(f"{name}()", kind="part")
    assert parse(full, kind="part") == made
    assert full == name + "(" + ", ".join(f"{f.name}={getattr(made, f.name)!r}" for f in dataclasses.fields(made)) + ")"


def test_there_are_optimisers_and_schedules() -> None:
    assert {"SGD", "AdamW", "RMSProp", "Cyclic", "Cosine", "Stepwise"} <= set(PARTS)


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_of_a_recipe_is_there(name: str) -> None:
    [entry] = [entry for entry in entries("recipe") if entry.name == name]
    assert isinstance(entry.factory, type)
    with_defaults = [f.name for f in dataclasses.fields(entry.factory) if f.default is not dataclasses.MISSING]
    assert sorted(arguments(f"{name}()")) == sorted(with_defaults)


def test_what_is_given_goes_before_the_default() -> None:
    assert (
        in_full("SGD(0.5, nesterov=True)") == "SGD(learning_rate=0.5, momentum=0.9, weight_decay=0.0005, nesterov=True)"
    )


@pytest.mark.parametrize(
    "notation", ["", "nope()", "SGD", "SGD(", "<script>", "x" * 5000, "(" * 300, "SGD()()", "a.b()", "\0"]
)
def test_what_is_not_known_stays_as_it_is(notation: str) -> None:
    assert in_full(notation) == notation
    assert step_size(notation) is None


def true_step(recipe: Recipe) -> float | None:
    """In input units, from the very program that the recipe runs."""
    adversary = recipe.adversary
    if adversary is None:
        return None
    within = recipe.threats[0]
    program: Any = adversary.attack.program(10, within.norm_name, targeted=False)
    size = getattr(program, "step_size", None)
    if not isinstance(size, Constant):
        return None
    return float(size.relative) * float(within.eps) * adversary.stretch


@pytest.mark.parametrize(
    "notation",
    [
        "pgd_at(eps=0.1, steps=7)", "pgd_at(eps=8/255)", "pgd_at(eps=1.0, norm='L2', steps=5)",
        "pgd_at(eps=0.3, steps=10, relative_step_size=0.2, stretch=1.1)", "trades(eps=0.1)", "mart(eps=0.1, steps=4)",
        "fast(eps=0.1)", "n_fgsm(eps=0.1)", "n_fgsm(eps=0.1, noise=1.0)", "grad_align(eps=0.1)",
    ],
)  # fmt: skip
def test_the_step_is_the_one_that_the_attack_takes(notation: str) -> None:
    recipe = parse(notation, kind="recipe")
    assert isinstance(recipe, Recipe)
    true = true_step(recipe)
    assert true is not None
    assert (step_size(notation) or "").startswith(f"{number(true)} in input units (")


@pytest.mark.parametrize("notation", ["standard(eps=0.1)", "softplus(eps=0.1)", "l1_logistic()"])
def test_without_an_attack_there_is_no_step(notation: str) -> None:
    assert true_step(parse(notation, kind="recipe")) is None  # type: ignore[arg-type]
    assert step_size(notation) is None


def test_a_radius_that_is_drawn_leaves_the_step_in_units_of_it() -> None:
    assert step_size("fast(eps=HalfNormal(16/255, 8/255))") == "1.25 eps"
    assert step_size("kurakin()") == "1 eps"
    assert step_size("pgd_at(sets=(Linf(0.1), L2(0.5)), steps=5)") == "0.5 eps"


def test_what_nobody_set_is_what_happens() -> None:
    assert UNSET["log_every"] == str(LOG_EVERY)
