"""The commands that the report shows: what checks the bundle can be typed as it stands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from bundles import record_of
from potemkin.report.provenance import Command, commands

UNKNOWN = "potemkin verify runs/a --model … --data …"


def shown(**other: Any) -> list[Command]:
    return commands(record_of([], (1, 8, 8), **other), Path("runs/a"))


def test_the_check_brings_the_model_as_the_audit_did() -> None:
    again = ["--model", "my nets.py:make", "--data", "test.npz", "--mean", "-0.5,0.5", "--weights", "a b.pt"]
    told, check, _ = shown(environment={"command": "potemkin audit …", "again": again})
    assert told.text == "potemkin audit …"
    assert shlex.split(check.text) == ["potemkin", "verify", "runs/a", *again]


@pytest.mark.parametrize("again", [None, [], "--model a", ["--model", 3], {"--model": "a"}])
def test_what_cannot_be_told_is_left_open(again: object) -> None:
    assert shown(environment={"command": "potemkin audit a b", "again": again})[1].text == UNKNOWN
    assert shown(environment={})[1].text == UNKNOWN


def test_a_run_from_python_is_told_with_all_that_differs_from_the_usual() -> None:
    usual = record_of([], (1, 8, 8))
    told = shown(
        environment={},
        seed=7,
        data=usual.data.model_copy(update={"sample": "balanced 100 of 500 (seed 7)"}),
        settings=usual.settings.model_copy(update={"rows": 64, "retire_cycles": False, "device_type": "cuda"}),
        threat=usual.threat.model_copy(update={"box": (None, 2.5), "notation": "ThreatModel(L2(1.0), eight_bit=True)"}),
        model=usual.model.model_copy(update={"preprocessing": "Preprocessing(mean=0.5)"}),
    )[0]
    assert "--threat 'ThreatModel(L2(1.0), eight_bit=True)'" in told.text
    assert told.text.endswith(
        "--examples 0 --sample balanced --seed 7 --rows 64 --no-cycles --box -inf,2.5 --device cuda"
    )
    assert "Preprocessing is left out" in told.purpose


def test_what_is_usual_is_not_said() -> None:
    told = shown(environment={})[0]
    assert told.text.endswith("--examples 0 --seed 0 --rows 128 --device cpu")
    assert "Preprocessing" not in told.purpose
