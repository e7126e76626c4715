"""What the training report's templates need beyond the journal: where the run stands, alarms, cost, commands."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from potemkin.evaluate.bundle import Bundle
from potemkin.report.charts import Segment, stack
from potemkin.report.provenance import Command, Group, _free
from potemkin.report.sections import FEW
from potemkin.report.typeset import count, number
from potemkin.training.journal import AlarmLine, Brought, Cost, Journal, Passes, RunInfo


@dataclass(frozen=True)
class State:
    """Where the log ends."""

    kind: Literal["finished", "stopped", "unfinished"]
    text: str


def state(journal: Journal) -> State:
    """What the last mark says; a log without one is that of a run that goes on, or was killed."""
    info, last = journal.info, journal.lines[-1] if journal.lines else None
    if last is None:
        return State("unfinished", f"Nothing was logged yet: 0 of {count(info.steps)} steps.")
    where = f"step {count(last.step)} of {count(info.steps)} (epoch {number(last.epoch)})"
    ends = [mark for mark in journal.marks() if mark.what in ("finished", "stopped", "resumed")]
    if ends and ends[-1].what == "finished":
        return State("finished", f"The run finished at {where}.")
    if ends and ends[-1].what == "stopped":
        return State("stopped", f"The run was stopped at {where}: {ends[-1].message}")
    return State("unfinished", f"The log ends at {where}: the run still goes on, or was killed.")


@dataclass(frozen=True)
class AlarmGroup:
    """All alarms of one name, by their first."""

    first: AlarmLine
    last: AlarmLine
    times: int


def alarm_groups(journal: Journal) -> list[AlarmGroup]:
    """By name, in the order in which they were first raised."""
    by_name: dict[str, list[AlarmLine]] = {}
    for alarm in journal.alarms():
        by_name.setdefault(alarm.name, []).append(alarm)
    return [AlarmGroup(alarms[0], alarms[-1], len(alarms)) for alarms in by_name.values()]


@dataclass(frozen=True)
class Detector:
    """What was watched for, and why it could have seen nothing (None: it could)."""

    name: str
    text: str
    blind: str | None


_DETECTORS = (
    ("Label leaking", "evaluation", "Accuracy under the training attack above clean accuracy: the attack gives the "
     "label away, and the model reads it there."),
    ("Catastrophic overfitting", "evaluation", "One step holds, the multi-step check falls: the model has learnt to "
     "bend the gradient that one step follows."),
    ("Robust overfitting", "evaluation", "Robust accuracy rises on the training examples and falls on validation."),
    ("Gradient masking", "evaluation", "An attack with more effort does worse than one with less."),
    ("Not learning", "evaluation", "Half of the run is over, and one answer for all would be right as often."),
    ("Dead inner attack", "adversary", "Rows whose gradients are zero or not finite: nothing was attacked."),
    ("Not a number", "steps", "A loss that is NaN or infinite."),
)  # fmt: skip


def detectors(journal: Journal) -> list[Detector]:
    """Each with what it lacked in this run, so that no alarm is not mistaken for nothing to be alarmed about."""
    steps = journal.steps()
    evaluated = bool(journal.evaluations("validation") or journal.evaluations("train"))
    attacked = any(line.eps is not None for line in steps)
    blind = {
        "evaluation": None if evaluated else "there was no evaluation to see it in",
        "adversary": None if attacked else "no step had an adversary",
        "steps": None if steps else "there was no step to see it in",
    }
    return [Detector(name, text, blind[needs]) for name, needs, text in _DETECTORS]


@dataclass(frozen=True)
class CostRow:
    """Passes for one purpose; `share` of all the run's equivalents."""

    kind: str
    name: str
    text: str
    passes: Passes
    share: float | None


def cost_rows(cost: Cost) -> list[CostRow]:
    """Attack, learning, evaluation: what the passes were for. The kinds are the fills of the audit's bars."""
    named = (
        ("broken", "Attack", "finding the adversarial examples that are learnt from", cost.attack),
        ("held", "Learning", "the passes that move the weights", cost.learning),
        ("budget", "Evaluation", "measuring, as the charts above show", cost.evaluation),
    )
    total = sum(passes.equivalents for *_, passes in named)
    return [
        CostRow(kind, name, text, passes, passes.equivalents / total if total else None)
        for kind, name, text, passes in named
    ]


def cost_bar(rows: list[CostRow]) -> list[Segment]:
    """The shares as one stacked bar."""
    return stack([(row.kind, row.passes.equivalents) for row in rows])


def duration(seconds: float) -> str:
    """Wall clock for people.

    >>> duration(11_542.0).replace(chr(0x202F), " ")
    '3 h 12 min'
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "not measured"
    if seconds < 120:
        return f"{number(seconds)}\u202fs"
    minutes = round(seconds / 60)
    return f"{count(minutes // 60)}\u202fh {minutes % 60}\u202fmin" if minutes >= 60 else f"{minutes}\u202fmin"


def per_second(journal: Journal) -> float | None:
    """Training examples per second of wall clock, evaluations and all."""
    steps, info = journal.steps(), journal.info
    if not steps or not info.steps_per_epoch or not 0 < steps[-1].seconds < math.inf:
        return None
    return steps[-1].step / info.steps_per_epoch * info.examples / steps[-1].seconds


def next_steps(journal: Journal, audit: Bundle | None) -> list[str]:
    """What a careful owner would do now, most urgent first."""
    best, where = journal.best(), state(journal).kind
    n = best.n if best is not None else 0
    told = [
        (where != "finished", "Let the run go on to its end, with potemkin train --resume, if it is not going on now."),
        (bool(journal.alarms()), "Read the alarms: each says what to do. Until then, do not ship these weights."),
        (
            audit is None,
            "Audit the kept weights on data that neither trained the model nor picked the epoch: the check that runs "
            "during training is cheap, and a stronger attack can only lower the figure.",
        ),
        (0 < n < FEW, f"Evaluate on more than {n} validation examples: the interval is wide."),
        (
            journal.lines != [] and not n,
            "Set examples aside for validation: without, nobody sees how robust the model is.",
        ),
        (
            audit is not None,
            "Have somebody else run potemkin verify on the audit: it checks every adversarial example again.",
        ),
    ]
    return [text for applies, text in told if applies]


def commands(journal: Journal, audit: Bundle | None) -> list[Command]:
    """What was run, and what to run with this folder."""
    info, folder = journal.info, shlex.quote(str(journal.folder))
    test = info.model.details.get("options", {}).get("test")
    data = shlex.quote(str(test)) if test else "TEST_DATA"
    told = [Command(info.command, "What was run.")] if info.command else []
    if state(journal).kind != "finished":
        told.append(Command(f"potemkin train --resume {folder}", "Goes on from the last checkpoint, to the same end."))
    purpose = "Attacks the kept weights in full." if test else (
        "Attacks the kept weights in full. Put the name of your test data: data that the run has not seen."
    )  # fmt: skip
    told.append(Command(f"potemkin audit {folder} {data} --threat {shlex.quote(info.threat_notation)}", purpose))
    return told


def groups(info: RunInfo) -> list[Group]:
    """Everything that decides what is learnt, and where it ran."""
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
    brought = [("Model", info.model), ("Data", info.data), ("Validation", info.validation), ("Extra data", info.extra)]
    environment: Mapping[str, object] = {k: v for k, v in info.environment.items() if k not in ("command", "again")}
    return [
        Group("Run", run),
        Group("Settings", _free(info.settings)),
        *(Group(title, _brought(what)) for title, what in brought if what is not None),
        Group("Environment", _free(environment)),
    ]


def _brought(what: Brought) -> list[tuple[str, str]]:
    return [
        ("name", what.name),
        ("brought as", what.spec or "a Python object"),
        *([("fingerprint", what.fingerprint)] if what.fingerprint else []),
        *_free(what.details),
    ]
