"""Gates: which side is which, what is not measured passes none, and nonsense is refused before anything runs."""

from __future__ import annotations

import pytest

from potemkin.cli.gates import Gate, GateOptions
from potemkin.errors import ConfigError
from potemkin.evaluate.record import Rates

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
