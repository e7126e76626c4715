"""What a threat model and a list of attacks give away before any model is asked."""

from __future__ import annotations

import math

import pytest
import torch

import potemkin as pk
from potemkin.core.registry import entries
from potemkin.evaluate.smells.plan import suspect_plan
from potemkin.threat.sets.base import PerturbationSet

UNIT, LINF = pk.Box(0, 1), pk.Linf(0.1)
X, Y = torch.full((4, 3), 0.5), torch.zeros(4, dtype=torch.int64)


def names(attacks: list[pk.Attack], near: PerturbationSet = LINF, box: pk.Box = UNIT) -> list[tuple[str, str]]:
    return [(smell.name, smell.severity) for smell in suspect_plan(attacks, pk.ThreatModel(near), box)]


SHORT = [
    pk.pgd(steps=10, step_size=1e-6),
    pk.pgd(steps=40, step_size=0.1 / 41),
    pk.pgd(steps=10, relative_step_size=0.09),
    pk.bim(steps=3, step_size=0.03),
    pk.mi_fgsm(steps=5, step_size=0.019),
]


@pytest.mark.parametrize("attack", SHORT, ids=repr)
def test_steps_that_do_not_add_up_to_eps_are_told(attack: pk.Attack) -> None:
    assert names([attack]) == [("short_of_the_edge", "alarm")]
    assert names([attack, pk.noise()]) == [("short_of_the_edge", "alarm")]
    assert names([attack, pk.apgd()]) == [("short_of_the_edge", "warning")]
    [smell] = suspect_plan([attack], pk.ThreatModel(pk.Linf(0.1)), UNIT)
    assert repr(attack) in smell.message and float(smell.evidence["reach"]) < 0.1


@pytest.mark.parametrize("near", [pk.Linf(0.1), pk.Linf(0.3), pk.L2(0.5), pk.L1(12.0)], ids=repr)
def test_no_recipe_is_short_of_the_edge_by_default(near: PerturbationSet) -> None:
    attacks = [entry.factory() for entry in entries("attack")]
    fitting = [attack for attack in attacks if attack.misfit(near, UNIT) is None]
    assert len(fitting) >= 10
    for attack in fitting:
        told = [name for name, _ in names([attack], near)]
        assert told == (["only_controls"] if attack.control else []), attack
    assert names([pk.r_fgsm(fraction=0.3), pk.pgd(steps=7, step_size=near.eps / 7)], near) == []


def test_a_search_that_stops_short_is_no_news_at_eps_zero() -> None:
    assert names([pk.pgd()], pk.Linf(0.0)) == []


def test_an_eps_beyond_the_box_is_told() -> None:
    def told(near: PerturbationSet, box: pk.Box) -> str:
        return "".join(s.advice for s in suspect_plan([pk.apgd()], pk.ThreatModel(near), box))

    assert "Did you mean 8/255?" in told(pk.Linf(8.0), UNIT)
    assert "units of the inputs" in told(pk.Linf(8.0), pk.Box(0, 2))
    for fine in ((pk.Linf(1.0), UNIT), (pk.Linf(8.0), pk.Box(0, 255)), (pk.L2(8.0), UNIT)):
        assert told(*fine) == ""
    assert told(pk.Linf(8.0), pk.Box(-math.inf, math.inf)) == ""
    assert told(pk.Masked(pk.Linf(8.0), pk.Features(0)), UNIT) == ""  # a patch without a limit leaves the rest alone


def test_both_entrances_tell_it() -> None:
    net = torch.nn.Linear(3, 2)
    record = pk.audit(net, (X, Y), "Linf(8)", "pgd(steps=2, step_size=1e-6)")
    assert {"eps_wider_than_box", "short_of_the_edge"} <= {smell.name for smell in record.smells}
    with pytest.warns(UserWarning, match=r"short_of_the_edge: pgd.*can not cross the set"):
        found = pk.perturb(net, X, Y, "Linf(0.1)", "pgd(steps=2, step_size=1e-6)")
    assert "alarm: short_of_the_edge" in str(found)
