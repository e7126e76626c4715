"""`check_attack` catches broken attacks: one test per fault, each by the check that is meant for it."""

from __future__ import annotations

import pytest

import potemkin as pk
from potemkin.attacks.conformance import NAMES
from potemkin.attacks.program import Attack
from potemkin.errors import ConfigError, ConformanceError, EvaluationError
from potemkin.threat.sets.base import PerturbationSet

from . import mutants

LINF, L2 = pk.Linf(0.1), pk.L2(0.25)
ALL_BUT_NOTATION = {name: "not what this test is about" for name in NAMES if name != "notation"}
NOT_REGISTERED = {"notation": "an attack of the tests has no name in the registry"}


def failed(attack: Attack, perturbations: PerturbationSet = LINF, only: str | None = None) -> dict[str, str]:
    """Check -> what was found; empty if the attack passes. `only`: one check is enough."""
    others = {} if only is None else {name: "not what this test is about" for name in NAMES if name != only}
    try:
        pk.check_attack(attack, sets=[perturbations], skip={**others, **NOT_REGISTERED})
    except ConformanceError as error:
        lines = str(error).splitlines()
        assert repr(attack) in lines[0]
        return {line.removeprefix("- ").split(" in ")[0].split(":")[0]: line for line in lines[1:]}
    return {}


@pytest.mark.parametrize("perturbations", [LINF, L2, pk.L1(0.3)], ids=repr)
def test_the_attack_that_the_mutants_are_made_from_passes(perturbations: PerturbationSet) -> None:
    assert failed(mutants.honest(), perturbations) == {}


@pytest.mark.parametrize(
    ("mutant", "check", "perturbations"),
    [
        (mutants.returns_the_clean_input, "moves", LINF),
        (mutants.beyond_the_set, "inside", LINF),
        (mutants.beyond_the_box, "inside", LINF),
        (mutants.ignores_the_rows_eps, "inside", LINF),
        (mutants.claims_points_outside, "inside", L2),
        (mutants.climbs_down, "moves", LINF),
        (mutants.ignores_restarts, "parameters", LINF),
        (mutants.ignores_the_step_size, "parameters", LINF),
        (mutants.ignores_the_look_ahead, "parameters", LINF),
        (mutants.accumulates_signs, "closed_form", L2),
        (mutants.divides_by_zero, "hostile_models", L2),
        (mutants.looks_at_the_whole_batch, "invariance", LINF),
        (mutants.draws_from_the_global_generator, "randomness", LINF),
        (mutants.says_it_is_random, "randomness", LINF),
        (mutants.declares_too_little, "cost", LINF),
        (mutants.declares_backwards_it_does_not_make, "cost", LINF),
        (mutants.counts_its_own_steps, "cost", LINF),
        (mutants.forgets_the_last_iterate, "moves", LINF),
        (mutants.ignores_the_last_answer, "best", LINF),
        (mutants.keeps_the_last_instead_of_the_best, "best", LINF),
        (mutants.lifts_interior_points, "interior", L2),
        (mutants.takes_targets_for_labels, "targeted", LINF),
        (mutants.writes_into_the_input, "side_effects", LINF),
        (mutants.signs_in_place, "side_effects", LINF),
        (mutants.hides_its_memory, "recurrence", LINF),
        (mutants.asks_in_float32, "shapes", LINF),
        (mutants.shortens_with_its_length, "longer", LINF),
        (mutants.crashes, "inside", LINF),
    ],
)
def test_a_broken_attack_is_caught(mutant: type[mutants.honest], check: str, perturbations: PerturbationSet) -> None:
    assert check in failed(mutant(), perturbations, only=check)


def test_the_global_generator_is_named() -> None:
    assert (
        "torch's global generator"
        in failed(mutants.draws_from_the_global_generator(), only="side_effects")["side_effects"]
    )


def test_restarts_that_repeat_each_other_are_caught() -> None:
    assert (
        "3 runs without random draws"
        in failed(mutants.restarts_at_the_same_point(restarts=3), only="randomness")["randomness"]
    )


def test_a_crash_is_named() -> None:
    found = failed(mutants.crashes())
    assert "ZeroDivisionError: one over nothing" in found["inside"]
    assert len(found) > 10


def test_findings_say_what_was_expected_and_found() -> None:
    assert "distance 0.101 where 0.1 is allowed" in failed(mutants.beyond_the_set(), only="inside")["inside"]
    assert "were counted and (" in failed(mutants.declares_backwards_it_does_not_make(), only="cost")["cost"]
    ahead = failed(mutants.ignores_the_look_ahead(), only="parameters")["parameters"]
    assert ahead.startswith("- parameters: program.look.mu as 0.25 or 1.0")
    assert "restarts as 2 or 5" in failed(mutants.ignores_restarts(), only="parameters")["parameters"]


def test_an_attack_that_is_not_registered_has_no_notation() -> None:
    with pytest.raises(ConformanceError, match=r"notation: the notation does not read back; is it registered"):
        pk.check_attack(mutants.honest(), sets=[LINF], skip=ALL_BUT_NOTATION)


def test_an_attack_that_can_be_changed_is_refused() -> None:
    with pytest.raises(ConformanceError, match="notation: loose is not a frozen dataclass"):
        pk.check_attack(mutants.loose(), sets=[LINF], skip=ALL_BUT_NOTATION)


def test_skips_need_a_known_check_and_a_reason() -> None:
    with pytest.raises(ConfigError, match=r"no check 'closedform' to skip.*closed_form"):
        pk.check_attack(pk.fgsm(), sets=[LINF], skip={"closedform": "because"})
    with pytest.raises(ConfigError, match="say why"):
        pk.check_attack(pk.fgsm(), sets=[LINF], skip={"closed_form": "  "})


def test_a_skip_is_made_and_reported_with_its_reason() -> None:
    found = pk.check_attack(
        mutants.ignores_the_step_size(),
        sets=[LINF],
        skip={**NOT_REGISTERED, "parameters.relative": "known", "longer/Linf": "slow", "moves/L2": "not in this set"},
    )
    assert found.skipped == {"parameters.relative": "known", "longer/Linf": "slow", **NOT_REGISTERED}
    assert "moves/Linf" in found.passed
    assert "longer/Linf" not in found.passed
    assert "skipped longer/Linf: slow" in str(found)


def test_what_is_no_attack_or_no_set_is_refused() -> None:
    with pytest.raises(ConfigError, match="attack must be an attack with its settings"):
        pk.check_attack(pk.pgd)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="eps above 0"):
        pk.check_attack(pk.pgd(), sets=[pk.Linf(0)])
    with pytest.raises(ConfigError, match="eps above 0"):
        pk.check_attack(pk.pgd(), sets=[])


def test_a_failed_check_is_a_failed_evaluation() -> None:
    assert issubclass(ConformanceError, EvaluationError)
    assert ConformanceError("x").exit_code == 4
