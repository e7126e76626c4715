"""What `potemkin train` shows: a line every few seconds, every evaluation and alarm as it comes, and the end."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from potemkin.cli.progress import SECONDS_BETWEEN_LINES, told_time
from potemkin.cli.session import Session, paragraph, plain, program

if TYPE_CHECKING:
    from potemkin.training.journal import MarkLine
    from potemkin.training.telling import Tick
    from potemkin.training.train import Run


def first_process() -> bool:
    """Whether this process speaks and draws: under torchrun the first one alone does."""
    return os.environ.get("RANK", "0") == "0"


class Lines:
    """Progress for people; nothing for machines, and nothing from any process but the first."""

    def __init__(self, session: Session | None) -> None:
        self._session = session if session is not None and not session.json else None
        self._warns = session
        self._began, self._last = time.monotonic(), time.monotonic()
        self._first: int | None = None
        self._audits, self._evaluates_slowly, self._evaluated = False, True, self._began

    def stopping(self) -> None:
        """Called from a signal handler at the first interrupt."""
        if self._session is not None:
            self._session.say("Stopping in good order: what is done will be kept. Once more aborts.")

    def update(self, tick: Tick) -> None:
        from potemkin.training.journal import AlarmLine, EvaluationLine

        if self._first is None:
            self._first = tick.step - 1
        if isinstance(tick.line, AlarmLine) and self._warns is not None:
            self._warns.warn(f"alarm {tick.line.name}: {tick.line.message} {tick.line.advice}")
        if self._session is None:
            return
        if isinstance(tick.line, EvaluationLine):
            line = tick.line
            above = f" (at most {line.robust_upper.short()}: {line.undecided} undecided)" if line.undecided else ""
            self._session.say(
                f"epoch {line.epoch:.4g}: {line.part} robust accuracy {line.robust_accuracy.short()}{above}, clean "
                f"{line.clean_accuracy.short()} (n = {line.n})"
            )
            self._evaluates_slowly = time.monotonic() - self._evaluated > SECONDS_BETWEEN_LINES
        if tick.evaluating:
            self._evaluated = time.monotonic()
            if self._evaluates_slowly:
                self._session.say("evaluating …")
        if tick.audited is not None and not self._audits:
            self._audits = True
            self._session.say(f"Auditing the best weights with APGD on {tick.audited[1]} examples …")
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        if tick.audited is not None:
            self._last = now
            self._session.say(f"auditing the best weights: {tick.audited[0]} of {tick.audited[1]} examples done")
        elif tick.rows:
            self._last = now
            done, seconds = tick.step - self._first, now - self._began
            left = told_time(seconds / done * (tick.steps - tick.step)) if done > 5 else "time left not known yet"
            speed = f"{done / seconds:.3g} steps/s, " if done > 5 else ""  # the first ones warm up
            self._session.say(f"step {tick.step} of {tick.steps} (epoch {tick.epoch:.2f}); {speed}{left}")


@dataclass
class Trained:
    """The end of a run, for people and for machines."""

    run: Run
    report: Path | None
    audit_report: Path | None

    @property
    def interrupted(self) -> bool:
        """Whether somebody stopped it, so that it is not done."""
        return self._end is not None and self._end.what == "interrupted"

    @property
    def _end(self) -> MarkLine | None:
        """How it ended, the last time."""
        from potemkin.training.journal import ENDS

        return next((mark for mark in reversed(self.run.journal.marks()) if mark.what in ENDS), None)

    @property
    def _speed(self) -> float | None:
        from potemkin.report.training_sections import per_second

        return per_second(self.run.journal)

    def data(self) -> dict[str, Any]:
        """As JSON can say it."""
        best, record = self.run.journal.best(), self.run.record
        return {
            "run": str(self.run.folder),
            "best": None if best is None else best.model_dump(mode="json"),
            "audit": None if record is None else record.model_dump(mode="json"),
            "alarms": [line.model_dump(mode="json") for line in self.run.journal.alarms()],
            "examples_per_second": self._speed,
            "report": None if self.report is None else str(self.report),
            "audit_report": None if self.audit_report is None else str(self.audit_report),
        }

    def show(self, console: Console) -> None:
        """The verdict, the alarms, and what to do next."""
        self._figures(console)
        self._warnings(console)
        for name, path in (("Report", self.report), ("Audit report", self.audit_report)):
            if path is not None:
                _line(console, name, str(path))
        if told := self._next():
            _line(console, "Next", told)

    def _figures(self, console: Console) -> None:
        journal, record = self.run.journal, self.run.record
        best, speed = journal.best(), self._speed
        if record is not None:
            paragraph(console, Text.assemble(("Robust accuracy ", "bold"), str(record.rates.robust_accuracy)))
            _line(console, "Clean accuracy", str(record.rates.clean_accuracy))
            _line(console, "Threat", journal.info.threat)
            _line(console, "Audited on", f"{record.data.name}, with APGD (cross-entropy, targeted DLR)")
        if best is not None:
            clean = f"clean {best.clean_accuracy.short()} at epoch {best.epoch:.4g}, the best"
            _line(console, "Validation", f"robust {best.robust_accuracy}, {clean}")
        if speed is not None:
            _line(console, "Speed", f"{speed:,.0f} examples/s on average, evaluations included")

    def _warnings(self, console: Console) -> None:
        """Alarms of the run, what is suspicious in the audit, and why it stopped."""
        for line in self.run.journal.alarms():
            told = f"alarm {line.name} at epoch {line.epoch:.4g}: {line.message} {line.advice}"
            paragraph(console, Text(plain(told), "red"))
        for smell in self.run.record.smells if self.run.record is not None else ():
            if smell.severity != "note":
                told = f"{smell.severity} {smell.name} in the audit: {smell.message} {smell.advice}"
                paragraph(console, Text(plain(told), "red" if smell.severity == "alarm" else "yellow"))
        if self._end is not None and self._end.what != "finished":
            paragraph(console, Text(plain(f"{self._end.what.capitalize()}: {self._end.message}."), "yellow"))

    def _next(self) -> str | None:
        """What goes on with an interrupted run; of any other, an audit stronger than the one it ended with."""
        from potemkin.report.training_next import audit_words, fresh, named

        journal = self.run.journal
        if self.interrupted:
            return shlex.join([*program(), "train", "--resume", str(self.run.folder)])
        if journal.best() is None or not named(journal.info):
            return None
        return shlex.join([*program(), *audit_words(journal, fresh(journal.folder))])


def _line(console: Console, name: str, text: str) -> None:
    paragraph(console, Text(f"{name:<16}{plain(text)}"))


def draw_pages(session: Session, run: Run) -> tuple[Path | None, Path | None]:
    """The run's page and, before it, that of its audit, which it links to; None for what could not be drawn."""
    session.say("Drawing the report …")
    from potemkin.report.render import render
    from potemkin.report.training import render_training
    from potemkin.training.journal import AUDIT

    audited = None if run.record is None else _drawn(session, "audit's report", lambda: render(run.folder / AUDIT))
    return _drawn(session, "report", lambda: render_training(run.folder)), audited


def _drawn(session: Session, name: str, draw: Callable[[], Path]) -> Path | None:
    try:
        return draw()
    except Exception as error:  # noqa: BLE001 (told, and the run stands all the same)
        session.warn(f"The run stands, but its {name} could not be drawn: {error}")
        return None
