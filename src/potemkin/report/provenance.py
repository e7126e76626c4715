"""Everything that it takes to run the same evaluation again, as names and values."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from potemkin.evaluate.record import Record
from potemkin.report.typeset import count, number


@dataclass(frozen=True)
class Command:
    """A command line, and what it is good for."""

    text: str
    purpose: str


@dataclass(frozen=True)
class Group:
    """Names and values under one heading."""

    title: str
    entries: list[tuple[str, str]]


def commands(record: Record, folder: Path) -> list[Command]:
    """The command that was run (or its equivalent, where the record has none), and those that check its bundle."""
    given = record.environment.get("command")
    if isinstance(given, list):
        given = shlex.join(map(str, given))
    told = Command(given, "What was run.") if isinstance(given, str) and given else _equivalent(record)
    name = shlex.quote(str(folder))
    return [
        told,
        Command(
            f"potemkin verify {name} {_bring(told.text if told.text == given else '')}",
            "Checks every adversarial example again.",
        ),
        Command(f"potemkin report {name}", "Draws this page again."),
    ]


_SWITCHES = ("--no-cycles", "--overwrite", "--no-report", "--eight-bit", "--json", "--debug")
_BRING = ("--weights", "--box", "--mean", "--std", "--resize", "--crop", "--image-size", "--model", "--data")


def _bring(command: str) -> str:
    """The model, the data and their options as `potemkin verify` takes them; "…" where the command does not tell.

    >>> _bring("potemkin audit net.py:make x.npz --threat 'Linf(0.1)' --mean -0.5,0.5 --overwrite --box=-1,1")
    '--model net.py:make --data x.npz --mean -0.5,0.5 --box=-1,1'
    """
    try:
        words = shlex.split(command)
    except ValueError:  # a record that was edited by hand
        words = []
    named: list[str] = []
    plain: list[str] = []
    rest = iter(words[2:] if words[:2] == ["potemkin", "audit"] else ())
    for word in rest:
        option, joined, _ = word.partition("=")
        if not word.startswith("--"):
            plain.append(word)
        elif word not in _SWITCHES:
            value = [] if joined else [next(rest, "…")]
            named += [word, *value] if option in _BRING else []
    by_name = {word.partition("=")[0] for word in named}
    left = [name for name in ("--model", "--data") if name not in by_name]
    if len(left) != len(plain):
        return "--model … --data …"
    return shlex.join([part for pair in zip(left, plain, strict=True) for part in pair] + named)


def _equivalent(record: Record) -> Command:
    parts = ["potemkin", "audit", record.model.name, record.data.name, "--threat", record.threat.notation]
    for attack in sorted(record.attacks, key=lambda summary: summary.order):
        parts += ["--attack", attack.recipe]
    parts += ["--examples", str(record.data.examples), "--seed", str(record.seed), "--rows", str(record.settings.rows)]
    return Command(shlex.join(parts), "What was run, as far as the record tells: it was started from Python.")


def groups(record: Record) -> list[Group]:
    """What was evaluated, with what, where and for how long."""
    threat, model, data, settings = record.threat, record.model, record.data, record.settings
    low, high = ("unbounded" if side is None else number(side) for side in threat.box)
    return [
        Group(
            "Threat model",
            [
                ("notation", threat.notation),
                ("goal", threat.goal),
                ("access", threat.access),
                ("box", f"[{low}, {high}]"),
                ("eight-bit round trip", "required" if threat.eight_bit else "not required"),
            ],
        ),
        Group(
            "Model",
            [
                ("name", model.name),
                ("fingerprint", model.fingerprint),
                ("parameters", count(model.parameters)),
                ("classes", f"{model.classes}{' (from one logit)' if model.one_logit else ''}"),
                ("input shape", " × ".join(map(str, model.input_shape))),
                ("preprocessing", model.preprocessing or "none declared"),
            ],
        ),
        Group(
            "Data",
            [
                ("name", data.name),
                ("fingerprint", data.fingerprint),
                ("examples", f"{count(data.examples)} of {count(data.total)}, sample: {data.sample}"),
            ],
        ),
        Group(
            "Run",
            [
                ("potemkin", record.potemkin),
                ("record schema", record.schema_version),
                ("seed", str(record.seed)),
                *((name.replace("_", " "), _value(value)) for name, value in settings.model_dump().items()),
                ("batch fill", "not measured" if record.batch_fill is None else f"{100 * record.batch_fill:.1f} %"),
            ],
        ),
        Group("Environment", _free({k: v for k, v in record.environment.items() if k != "command"})),
        Group("Timing", _free(record.timing)),
    ]


def _free(entries: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _value(entries[name])) for name in sorted(entries)]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
