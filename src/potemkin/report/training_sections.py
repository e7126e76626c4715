"""What the training report's templates need beyond the journal: where the run stands, alarms, cost, what to do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from potemkin.evaluate.bundle import Bundle
from potemkin.evaluate.record import Record, Smell
from potemkin.report import training_next as following
from potemkin.report.charts import Segment, stack
from potemkin.report.sections import FEW
from potemkin.report.typeset import count, number
from potemkin.training.alarms import ALARMS, title
from potemkin.training.journal import ENDS, AlarmLine, Cost, Journal, Passes, resume_words

MOST = 4
"""Advice that stands in the verdict; the section of the alarms has the rest."""


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
    ends = [mark for mark in journal.marks() if mark.what in (*ENDS, "resumed")]
    if ends and ends[-1].what == "finished":
        return State("finished", f"The run finished at {where}.")
    if ends and ends[-1].what in ("stopped", "interrupted"):
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


def detectors(journal: Journal) -> list[Detector]:
    """Each with what it lacked in this run, so that no alarm is not mistaken for nothing to be alarmed about."""
    steps = journal.steps()
    evaluations = [*journal.evaluations("validation"), *journal.evaluations("train")]
    unseen = None if evaluations else "there was no evaluation to see it in"
    attacked = any(line.attacked for line in evaluations)
    blind = {
        "evaluation": unseen,
        "attacked evaluation": unseen or (None if attacked else "the recipe trains against no attack"),
        "attacked step": None if any(line.eps is not None for line in steps) else "no step had an adversary",
        "step": None if steps else "there was no step to see it in",
    }
    return [
        Detector(title(alarm.name), f"{alarm.meaning[0].upper()}{alarm.meaning[1:]}.", blind[alarm.needs])
        for alarm in ALARMS.values()
    ]


@dataclass(frozen=True)
class CostRow:
    """Passes for one purpose; `share` of all the run's equivalents."""

    kind: str
    name: str
    text: str
    passes: Passes
    share: float | None


def cost_rows(cost: Cost, record: Record | None) -> list[CostRow]:
    """Attack, learning, evaluation, audit: what the passes were for. The kinds are the fills of the audit's bars."""
    named = [
        ("broken", "Attack", "finding the adversarial examples that are learnt from", cost.attack),
        ("held", "Learning", "the passes that move the weights", cost.learning),
        ("budget", "Evaluation", "measuring, as the charts above show", cost.evaluation),
    ]
    if record is not None:
        spent = record.cost.physical
        passes = Passes(forwards=spent.forwards, backwards=spent.backwards)
        named.append(("clean_wrong", "Audit at the end", "attacking the kept weights", passes))
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
    steps, info, seconds = journal.steps(), journal.info, journal.seconds()
    if not steps or not info.steps_per_epoch or seconds is None or not 0 < seconds < math.inf:
        return None
    return steps[-1].step / info.steps_per_epoch * (info.learnt_per_epoch or info.examples) / seconds


@dataclass(frozen=True)
class Step:
    """Something to do now, and the command for it where there is one."""

    text: str
    command: str | None = None


def next_steps(journal: Journal, audit: Bundle | None) -> list[Step]:
    """What a careful owner would do now, most urgent first."""
    steps = _go_on(journal)
    steps += [Step(f"{title(group.first.name)}: {group.first.advice}") for group in alarm_groups(journal)[:MOST]]
    steps += [Step(f"{title(smell.name)}, in the audit: {smell.advice}") for smell in smells(audit)[:MOST]]
    if journal.alarms() or (audit is not None and audit.record.alarms):
        steps.append(Step("Until the alarms are dealt with, do not ship these weights."))
    return [*steps, *_measure(journal, audit)]


def _go_on(journal: Journal) -> list[Step]:
    """What becomes of a run that is not finished; one that was stopped would only stop again."""
    ends = [mark for mark in journal.marks() if mark.what in (*ENDS, "resumed")]
    if not ends or ends[-1].what in ("interrupted", "resumed"):
        told = "Let the run go on to its end, if it is not going on now."
        return [Step(told, resume_words(journal.folder))]
    if any(alarm.name == "not_a_number" and alarm.action == "stopped" for alarm in journal.alarms()):
        told = (
            "Start again, into another folder, with a lower learning rate, clip=1 or rollback: resumed, this run meets"
        )
        return [Step(f"{told} the same numbers.")]
    return []


def _measure(journal: Journal, audit: Bundle | None) -> list[Step]:
    """How to come to know more."""
    best, info = journal.best(), journal.info
    if best is None:
        told = "Nothing was evaluated before the run ended, so no weights were kept: set evaluate_every to fewer steps."
        return [Step(told)] if journal.lines else []
    n = best.n if audit is None else audit.record.n
    stronger = following.audit_command(journal) if following.named(info) else following.audit_python(journal)
    why = (
        "Audit the kept weights on data that neither trained the model nor picked the epoch: the check that runs "
        "during training is cheap, and a stronger attack can only lower the figure."
        if audit is None
        else "Audit again, with more steps, more restarts and other random draws, before you quote the figure: a "
        "stronger attack can only lower it."
    )
    steps = [Step(why, stronger)]
    if n < FEW:
        what = "validation" if audit is None else "audited"
        steps.append(Step(f"Take more than {n} {what} examples: the interval is wide."))
    if audit is not None:
        told = "Have somebody else check every adversarial example of the audit again."
        steps.append(Step(told, following.verify_command(journal)))
    return steps


def smells(audit: Bundle | None) -> list[Smell]:
    """What is suspicious in the audit at the end: its alarms, then its warnings."""
    found = [] if audit is None else audit.record.smells
    return [smell for severity in ("alarm", "warning") for smell in found if smell.severity == severity]
