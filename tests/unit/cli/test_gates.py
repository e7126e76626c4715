"""Gates: which side is which, what is not measured passes none, and nonsense is refused before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

from bundles import line_of, record_of
from potemkin.cli.gates import Gate, GateOptions, all_passed, because_of
from potemkin.errors import ConfigError
from potemkin.evaluate.rates import Rates
from potemkin.evaluate.record import Record, Smell

OUTCOMES = {"clean_wrong": 2, "broken": 3, "budget": 1, "held": 4, "invalid": 0, "error": 0}
RATES = Rates.of(OUTCOMES, clean_right=8)


@pytest.mark.parametrize(
    ("side", "limit", "passes"),
    [
        ("under", 0.39, True),
        ("under", 0.4, True),
        ("under", 0.41, False),
        ("over", 0.39, False),
        ("over", 0.4, True),
        ("over", 0.41, True),
    ],
)
def test_the_limit_itself_passes(side: str, limit: float, passes: bool) -> None:
    gate = Gate(side, "robust_accuracy", limit)  # type: ignore[arg-type]
    assert gate.passes(RATES) is passes
    assert gate.sentence(RATES).startswith("gate passed" if passes else "gate FAILED")


def test_what_was_not_measured_passes_no_gate() -> None:
    empty = Rates.of(dict.fromkeys(OUTCOMES, 0), clean_right=0)
    for side in ("under", "over"):
        gate = Gate(side, "robust_accuracy", 0.0 if side == "under" else 1.0)  # type: ignore[arg-type]
        assert not gate.passes(empty)
        assert "was not measured" in gate.sentence(empty)


def record(*severities: str) -> Record:
    """Half of ten held; one smell of each severity, named after it and its place."""
    smells = [
        Smell(name=f"{severity}_{place}", severity=severity, message="m", advice="a")  # type: ignore[arg-type]
        for place, severity in enumerate(severities)
    ]
    rng = np.random.default_rng(0)
    return record_of([line_of(i, "broken" if i % 2 else "held", rng) for i in range(10)], (2,), smells=smells)


@pytest.mark.parametrize(
    ("severities", "passes"),
    [((), True), (("note", "warning"), True), (("alarm",), False), (("note", "alarm", "alarm"), False)],
)
def test_a_rate_beside_an_alarm_passes_no_gate(severities: tuple[str, ...], passes: bool) -> None:
    found, gates = record(*severities), [Gate("under", "robust_accuracy", 0.4), Gate("over", "robust_accuracy", 0.6)]
    assert all_passed(gates, found) is all_passed(gates[:1], found) is passes
    assert all_passed([], found), "without a gate, nothing fails"
    for gate in gates:
        assert gate.sentence(found.rates, found.alarms).startswith("gate passed" if passes else "gate FAILED")
    assert not all_passed([Gate("under", "robust_accuracy", 0.6)], found)


def test_the_reason_names_every_alarm_and_nothing_else() -> None:
    told = because_of(record("note", "alarm", "warning", "alarm").alarms)
    assert told == "gates FAILED for the alarms alarm_1, alarm_3: rates with alarms pass no gate"
    assert "for the alarm alarm_0:" in because_of(record("alarm").alarms)


def test_every_rate_of_the_record_can_be_gated() -> None:
    for name in Rates.model_fields:
        [gate] = GateOptions(fail_under=[f"{name}=0.25"]).gates()
        assert gate == Gate("under", name, 0.25)
    both = GateOptions(fail_under=["clean_accuracy = 0.9"], fail_over=["attack_success_rate=1e-1"]).gates()
    assert both == [Gate("under", "clean_accuracy", 0.9), Gate("over", "attack_success_rate", 0.1)]


@pytest.mark.parametrize(
    "text", ["", "=0.4", "robust=0.4", "robust_accuracy", "robust_accuracy=", "robust_accuracy=-0.1"]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        GateOptions(fail_under=[text]).gates()
