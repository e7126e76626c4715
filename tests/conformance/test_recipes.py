"""Every registered recipe passes `check_attack`, in every kind of set, with its default and with other settings."""

from __future__ import annotations

import pytest
import torch

import potemkin as pk
from potemkin.attacks.laws.models import BINARY, Linear, normal
from potemkin.attacks.laws.trial import ROWS, WIDTH, Trial, inputs
from potemkin.attacks.parts.starts import Center, SignStep, Surface, TruncatedNormal
from potemkin.attacks.parts.variables import Blocks
from potemkin.attacks.program import Attack
from potemkin.core.registry import entries
from potemkin.threat.box import Box
from potemkin.threat.sets.base import PerturbationSet

BALLS = (pk.Linf(0.06), pk.L2(0.06), pk.L1(0.08))
LINF, L2 = (pk.Linf(0.1),), (pk.L2(0.25),)
NO_PEAK = {"interior": "KL runs away from the clean prediction, wherever that leads"}

IN_ALL_BALLS = [
    pk.fgsm(),
    pk.fast_gradient(),
    pk.fast_gradient(scale="max", label="predicted"),
    pk.step_ll(),
    pk.step_rnd(),
    pk.fast_entropy(),
    pk.r_fgsm(fraction=0.3, restarts=2),
    pk.bim(),
    pk.iterative_ll(),
    pk.pgd(),
    pk.mi_fgsm(),
    pk.ni_fgsm(),
    pk.apgd(steps=20),
    pk.noise(),
    pk.noise(kind="uniform", draws=3),
]
OTHERS: list[tuple[Attack, tuple[PerturbationSet, ...], dict[str, str]]] = [
    (pk.fgsm(label="predicted"), LINF, {}),
    (pk.bim(steps=40, step_size=0.02), L2, {}),
    (pk.iterative_ll(steps=12, step_size=0.02), LINF, {}),
    (pk.pgd(steps=20, restarts=2, relative_step_size=0.25), L2, {}),
    (pk.pgd(steps=1), LINF, {"interior": "one step of 2.5 eps cannot stop half-way"}),
    (pk.pgd(steps=30, step_size=0.02, objective=pk.Margin(), start=SignStep(0.3)), LINF, {}),
    (pk.pgd(steps=20, relative_step_size=0.2, objective=pk.DLR(), start=Center()), L2, {}),
    (pk.pgd(steps=20, relative_step_size=0.25, objective=pk.KL(), start=TruncatedNormal(0.4)), LINF, NO_PEAK),
    (pk.pgd(steps=20, objective=pk.ProbabilityMargin(), variable=Blocks(2), start=Surface()), LINF, {}),
    (pk.mi_fgsm(steps=20, mu=0.5, relative_step_size=0.1), LINF, {}),
    (pk.ni_fgsm(steps=12, mu=0.5, step_size=0.02), LINF, {}),
    (pk.apgd(steps=30, restarts=2, objective=pk.DLR(), rho=0.6), LINF, {}),
    (pk.apgd(steps=20, objective=pk.DLR(), targets=2), L2, {}),
    (pk.noise(kind="normal", draws=2), L2, {}),
]
SHAPED = [
    pk.Masked(pk.Linf(0.1), pk.Rectangle(1, 0, 3, 2)),
    pk.Masked(pk.L2(0.25), pk.Rectangle(0, 0, 4, 2)),
    pk.Grid(pk.Linf(0.1)),
    pk.Grid(pk.Masked(pk.Linf(0.1), pk.Rectangle(1, 0, 3, 2))),
]


@pytest.mark.parametrize("attack", IN_ALL_BALLS, ids=repr)
def test_a_recipe_conforms_in_every_ball(attack: Attack) -> None:
    found = pk.check_attack(attack, sets=BALLS)
    assert len(found.passed) + len(found.skipped) >= 3 * 15 - 2 * len(attack.exempt) + 2
    assert set(found.skipped) <= set(attack.exempt)


@pytest.mark.parametrize(("attack", "sets", "skip"), OTHERS, ids=lambda value: repr(value)[:60])
def test_a_recipe_conforms_with_other_settings(
    attack: Attack, sets: tuple[PerturbationSet, ...], skip: dict[str, str]
) -> None:
    found = pk.check_attack(attack, sets=sets, skip=skip)
    assert set(found.skipped) <= {*attack.exempt, *skip}


@pytest.mark.parametrize("perturbations", SHAPED, ids=repr)
@pytest.mark.parametrize("attack", [pk.fgsm(), pk.pgd(steps=20, relative_step_size=0.25)], ids=repr)
def test_masks_and_grids_hold_the_same_laws(attack: Attack, perturbations: PerturbationSet) -> None:
    pk.check_attack(attack, sets=[perturbations])


def test_every_registered_recipe_is_among_these() -> None:
    tried = {type(attack) for attack in IN_ALL_BALLS}
    assert tried == {entry.factory for entry in entries("attack")}


def test_few_checks_are_exempt_and_each_has_its_reason() -> None:
    """An exemption is a hole: this is the whole list of them."""
    exempt = {repr(attack): sorted(attack.exempt) for attack in IN_ALL_BALLS if attack.exempt}
    one_step = ["interior"]
    assert exempt == {
        "fgsm()": one_step,
        "fast_gradient()": one_step,
        "fast_gradient(scale='max', label='predicted')": ["closed_form/L1", "closed_form/Linf", "interior"],
        "step_ll()": one_step,
        "step_rnd()": one_step,
        "fast_entropy()": one_step,
        "r_fgsm(fraction=0.3, restarts=2)": ["closed_form", "interior"],
        "ni_fgsm()": ["longer"],
        "apgd(steps=20)": ["closed_form/L1", "longer", "parameters.program.ascent.step_size.share"],
        "noise()": ["closed_form", "interior", "targeted"],
        "noise(kind='uniform', draws=3)": ["closed_form", "interior", "targeted"],
    }


# ---- where the box cuts into the ball, and one step along the gradient is not the optimum ----------------------------


@pytest.mark.parametrize(
    ("attack", "perturbations"),
    [
        (pk.pgd(relative_step_size=0.25), pk.L2(0.5)),
        (pk.bim(steps=60, step_size=0.05), pk.L2(0.5)),
        (pk.mi_fgsm(steps=40, relative_step_size=0.1), pk.L2(0.5)),
        (pk.ni_fgsm(steps=40, relative_step_size=0.1), pk.L2(0.5)),
        (pk.apgd(steps=40), pk.L2(0.5)),
        (pk.bim(steps=100, step_size=0.05), pk.L1(1.0)),
        (pk.mi_fgsm(steps=40, relative_step_size=0.1), pk.L1(1.0)),
        (pk.ni_fgsm(steps=150, relative_step_size=0.02), pk.L1(1.0)),
        (pk.pgd(steps=60, relative_step_size=0.1, start=Center()), pk.L1(1.0)),
    ],
    ids=repr,
)
def test_the_optimum_of_a_linear_model_is_found_where_the_box_cuts_into_the_ball(
    attack: Attack, perturbations: PerturbationSet
) -> None:
    box = Box()
    x = inputs(box)
    weights = normal(21, WIDTH) + 0.05
    region = perturbations.around(x, box)
    steep = weights.float().reshape(x.shape[1:]).expand_as(x)
    low, high = region.maximiser(-steep).double(), region.maximiser(steep).double()
    # On most rows the naive step of the whole budget is not legal, so that this asks for more than `closed_form` does.
    cut = ~box.contains(x + perturbations.eps * region.steepest(steep), torch.zeros(()))
    assert cut.sum() >= ROWS // 2
    model = Linear(weights / 4, float(Linear(weights / 4).score(x).mean()), BINARY)
    label = torch.arange(ROWS) % 2
    run = Trial(attack, perturbations, model, x, label, 2, box).run()
    end = torch.where(label == 0, model.score(high), model.score(low))
    start = model.score(x.double())
    gain = (model.score(run.last.best.double()) - start) / (end - start)
    assert gain.min() >= 0.99, gain
    assert gain.max() <= 1 + 1e-5
