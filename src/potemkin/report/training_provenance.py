"""What was run, in words: commands, settings with their values, what was attacked by what."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from potemkin.evaluate.bundle import Bundle
from potemkin.evaluate.record import Record
from potemkin.report import training_next as following
from potemkin.report.provenance import Command, Group
from potemkin.report.typeset import count, number
from potemkin.training.journal import Brought, Journal, RunInfo, resume_words

UNSET = {"evaluate_every": "each epoch", "checkpoint_every": "each epoch", "log_every": "50"}
"""What a setting means that nobody set; all others: none."""


def commands(journal: Journal, finished: bool) -> list[Command]:
    """What was run, and what to run with this folder; calls where it was started from Python."""
    info, folder = journal.info, shlex.quote(str(journal.folder))
    told = [Command(info.command, "What was run.")] if info.command else []
    if not finished:
        told.append(Command(resume_words(journal.folder), "Goes on from the last checkpoint, to the same end."))
    purpose = "A stronger audit than the run's own: more steps, more restarts, other random draws."
    if following.test_data(info) is None:
        purpose += " Put the name of your test data: data that the run has not seen."
    if following.named(info):
        told.append(Command(following.audit_command(journal), purpose))
    else:
        purpose += " my_models:net stands for the function that makes your network; run.model, where it trained."
        told.append(Command(following.audit_python(journal), purpose))
    return [*told, Command(f"potemkin report {folder}", "Draws this page again.")]


def groups(journal: Journal, audit: Bundle | None) -> list[Group]:
    """Everything that decides what is learnt, and where it ran."""
    info, record = journal.info, None if audit is None else audit.record
    run = [
        ("threat model", info.threat_notation),
        ("seed", str(info.seed)),
        ("steps", count(info.steps)),
        ("steps per epoch", count(info.steps_per_epoch)),
        ("training examples", count(info.examples)),
        ("processes", count(info.world)),
        ("threads each", count(info.threads)),
        ("potemkin", info.potemkin),
    ]
    brought = [("Model", info.model), ("Data", info.data), ("Extra data", info.extra)]
    environment = {name: value for name, value in info.environment.items() if name not in ("command", "again")}
    return [
        Group("Run", run),
        Group("Attacks", _attacks(journal, record)),
        Group("Settings", _settings(info, record)),
        *(Group(title, _brought(what)) for title, what in brought if what is not None),
        Group("Validation", _validation(info)),
        Group("Environment", _entries(environment)),
    ]


def held_out(info: RunInfo) -> bool:
    """Whether the validation examples were taken out of the training data, and not given."""
    used, total = (info.validation.details.get(name) for name in ("used", "examples"))
    return info.validation.spec is None and isinstance(used, int) and isinstance(total, int) and used < total


def _attacks(journal: Journal, record: Record | None) -> list[tuple[str, str]]:
    """What attacked when: the recipe says the first, the settings the second, the audit's record the third."""
    info = journal.info
    told = [("step while training", info.resolved["step"])] if "step" in info.resolved else []
    steps = info.settings.get("evaluation_steps")
    if isinstance(steps, int):
        sizes = {part: journal.evaluations(part) for part in ("validation", "train")}
        names = {"validation": "validation", "train": "training"}
        n = " and ".join(f"{count(lines[-1].n)} {names[part]}" for part, lines in sizes.items() if lines)
        told.append(
            (
                "evaluations",
                f"pgd(steps={steps}) as the multi-step check, fgsm() as the one step, and the training attack"
                + (f", on {n} examples" if n else ""),
            )
        )
    if record is None:
        none = info.settings.get("audit_examples") == 0
        return [*told, ("audit at the end", "none was asked for" if none else "not there")]
    recipes = ", ".join(attack.recipe for attack in sorted(record.attacks, key=lambda attack: attack.order))
    return [*told, ("audit at the end", f"{recipes}, on {count(record.n)} examples of {record.data.name}")]


def _settings(info: RunInfo, record: Record | None) -> list[tuple[str, str]]:
    told = []
    for name, value in sorted(info.settings.items()):
        words = UNSET[name] if value is None and name in UNSET else _word(value)
        words = info.resolved.get(name, words)
        if name == "audit_examples" and record is not None and value != record.n:
            words = f"{count(record.n)} audited, {words} asked for"
        if name == "holdout" and value is None and held_out(info):
            words = f"{_word(info.validation.details['used'])} by default"
        told.append((name.replace("_", " "), words))
    return told


def _brought(what: Brought) -> list[tuple[str, str]]:
    details = dict(what.details)
    if details.get("used") == details.get("examples"):  # nothing was left out on purpose
        details.pop("used", None)
    details = {name: value for name, value in details.items() if value not in (None, [])}
    return [
        ("name", what.name),
        ("brought as", what.spec or "an object, from Python"),
        *([("fingerprint", what.fingerprint)] if what.fingerprint else []),
        *_entries(details),
    ]


def _validation(info: RunInfo) -> list[tuple[str, str]]:
    """What was given, or what was held out of the training data, of which all else is said there."""
    if not held_out(info):
        return _brought(info.validation)
    used, total = (int(info.validation.details[name]) for name in ("used", "examples"))
    return [
        ("name", info.validation.name),
        ("brought as", "held out of the training data"),
        ("examples", f"{count(used)} of {count(total)}"),
    ]


def _entries(entries: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _word(entries[name])) for name in sorted(entries)]


def _word(value: object) -> str:
    """A value of JSON for people: nothing is "none", and what is none inside of something is left out."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        found = [f"{name} {_word(item)}" for name, item in sorted(value.items()) if item is not None]
        return ", ".join(found) or "none"
    if isinstance(value, list):
        return ", ".join(map(_word, value)) or "none"
    return "none" if value in (None, "", "()") else str(value)
