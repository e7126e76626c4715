"""The commands that the report shows: what checks the bundle can be typed as it stands."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bundles import record_of
from potemkin.report.provenance import commands

UNKNOWN = "potemkin verify runs/a --model … --data …"


def check(environment: dict[str, object]) -> str:
    return commands(record_of([], (1, 8, 8), environment=environment), Path("runs/a"))[1].text


def test_the_check_brings_the_model_as_the_audit_did() -> None:
    given = [
        *("potemkin", "audit", "--overwrite", "my nets.py:make", "--threat", "Linf(0.1)", "--weights", "a b.pt"),
        *("test.npz", "--mean", "-0.5,0.5", "--std=0.25", "--box=-1,1", "--attack", "apgd()", "--examples", "20"),
        *("--eight-bit", "--image-size", "32", "--out", "runs/a", "--device", "cpu"),
    ]
    told = shlex.split(check({"command": shlex.join(given)}))
    assert told == [
        *("potemkin", "verify", "runs/a", "--model", "my nets.py:make", "--data", "test.npz", "--weights", "a b.pt"),
        *("--mean", "-0.5,0.5", "--std=0.25", "--box=-1,1", "--image-size", "32"),
    ]


def test_names_given_as_options_count() -> None:
    command = "potemkin audit --threat 'L2(1)' --data=x.npz net.py:make"
    assert check({"command": command}).endswith("runs/a --model net.py:make --data=x.npz")


@pytest.mark.parametrize(
    "command", ["python run.py a b", "potemkin audit a", "potemkin audit a b c", "potemkin audit 'a"]
)
def test_what_cannot_be_told_is_left_open(command: str) -> None:
    assert check({"command": command}) == UNKNOWN
    assert check({}) == UNKNOWN


def test_every_option_of_audit_is_known() -> None:
    """A new switch, or a new option of the model, must be told to `provenance`, too."""
    import dataclasses

    from potemkin.cli.audit import KeepOptions, RunOptions
    from potemkin.cli.gates import GateOptions
    from potemkin.cli.options import AnswerOptions, ModelOptions
    from potemkin.cli.threats import AdversaryOptions
    from potemkin.report import provenance

    rooms = (AdversaryOptions, ModelOptions, RunOptions, GateOptions, KeepOptions, AnswerOptions)
    fields = [field for room in rooms for field in dataclasses.fields(room)]
    switches = {"--" + field.name.replace("_", "-") for field in fields if "bool" in str(field.type)}
    assert switches == set(provenance._SWITCHES)
    brought = {"--" + field.name.replace("_", "-") for field in dataclasses.fields(ModelOptions)} - {"--device"}
    assert brought | {"--model", "--data"} == set(provenance._BRING)
