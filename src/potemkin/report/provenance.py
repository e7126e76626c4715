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
    """The command that was run (or one for the same run, where it was started from Python), and two for its bundle."""
    given = record.environment.get("command")
    told = Command(given, "What was run.") if isinstance(given, str) and given else _equivalent(record)
    again = record.environment.get("again")
    known = isinstance(again, list) and all(isinstance(word, str) for word in again)
    bring = shlex.join(again) if known and again else "--model … --data …"
    name = shlex.quote(str(folder))
    return [
        told,
        Command(
            f"potemkin verify {name} {bring}", "Checks every adversarial example and every clean prediction again."
        ),
        Command(f"potemkin report {name}", "Draws this page again."),
    ]


def _equivalent(record: Record) -> Command:
    """The command line for a run that had none, and what of the record it cannot say."""
    settings, how = record.settings, record.data.sample.partition(" ")[0]
    parts = ["potemkin", "audit", record.model.name, record.data.name, "--threat", record.threat.notation]
    for attack in sorted(record.attacks, key=lambda summary: summary.order):
        parts += ["--attack", attack.recipe]
    parts += ["--examples", str(record.data.examples)]
    parts += ["--sample", how] if how in ("random", "balanced") else []
    parts += ["--seed", str(record.seed), "--rows", str(settings.rows)]
    parts += [] if settings.retire_cycles else ["--no-cycles"]
    low, high = record.threat.box
    if (low, high) != (0.0, 1.0):
        parts += ["--box", f"{'-inf' if low is None else low},{'inf' if high is None else high}"]
    parts += ["--device", settings.device_type]
    # The stride, the one setting without an option, moves no outcome.
    told = "The same run, which was started from Python, if these names bring the same model and data."
    if record.model.preprocessing:
        told += " Preprocessing is left out: unless the model brings it, give --mean, --std, --resize, --crop."
    return Command(shlex.join(parts), told)


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
        Group("Environment", _free({k: v for k, v in record.environment.items() if k not in ("command", "again")})),
        Group("Timing", _free(record.timing)),
    ]


def _free(entries: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _value(entries[name])) for name in sorted(entries)]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(item)}" for name, item in sorted(value.items()))
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
