"""What `potemkin train` shows: a line every few seconds, every evaluation and alarm as it comes, and the end."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from potemkin.cli.progress import SECONDS_BETWEEN_LINES, told_time
from potemkin.cli.session import Session, paragraph, plain, program

if TYPE_CHECKING:
    from potemkin.training.train import Run
    from potemkin.training.watch import Tick


class Lines:
    """Progress for people; nothing for machines, and nothing from any process but the first."""

    def __init__(self, session: Session | None, every: float = SECONDS_BETWEEN_LINES) -> None:
        self._session = session if session is not None and not session.json else None
        self._warns = session
        self._every, self._began, self._last = every, time.monotonic(), time.monotonic()
        self._first: int | None = None

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
            self._session.say(
                f"epoch {line.epoch:.4g}: {line.part} robust accuracy {line.robust_accuracy.short()}, clean "
                f"{line.clean_accuracy.short()} (n = {line.n})"
            )
        now = time.monotonic()
        if now - self._last < self._every:
            return
        if tick.audited is not None:
            self._last = now
            self._session.say(f"auditing the best weights: {tick.audited[0]} of {tick.audited[1]} examples done")
        elif tick.rows:
            self._last = now
            done, seconds = tick.step - self._first, now - self._began
            left = told_time(seconds / done * (tick.steps - tick.step)) if done > 5 else "time left not known yet"
            speed = f"{tick.rows / seconds:,.0f} rows/s"
            self._session.say(f"step {tick.step} of {tick.steps} (epoch {tick.epoch:.2f}); {speed}, {left}")


@dataclass
class Trained:
    """The end of a run, for people and for machines."""

    run: Run
    report: Path | None
    test: str | None
    more: Sequence[str] = ()
    """What else brings the test data to the next command."""

    @property
    def interrupted(self) -> bool:
        """Whether somebody stopped it, so that it is not done."""
        marks = [line for line in self.run.journal.marks() if line.what in ("stopped", "finished")]
        return bool(marks) and marks[-1].what == "stopped" and marks[-1].message.startswith("asked to")

    def data(self) -> dict[str, Any]:
        """As JSON can say it."""
        best, record = self.run.journal.best(), self.run.record
        return {
            "run": str(self.run.folder),
            "best": None if best is None else best.model_dump(mode="json"),
            "audit": None if record is None else record.model_dump(mode="json"),
            "alarms": [line.model_dump(mode="json") for line in self.run.journal.alarms()],
            "report": None if self.report is None else str(self.report),
        }

    def show(self, console: Console) -> None:
        """The verdict, the alarms, and what to do next."""
        journal, record = self.run.journal, self.run.record
        best = journal.best()
        if record is not None:
            paragraph(console, Text.assemble(("Robust accuracy ", "bold"), str(record.rates.robust_accuracy)))
            paragraph(console, Text(f"Clean accuracy  {record.rates.clean_accuracy}"))
            paragraph(console, Text(f"Threat          {journal.info.threat}"))
            paragraph(
                console, Text(f"Audited on      {plain(record.data.name)}, with APGD (cross-entropy, targeted DLR)")
            )
        if best is not None:
            paragraph(
                console,
                Text(
                    f"Validation      robust {best.robust_accuracy}, clean {best.clean_accuracy.short()} at epoch "
                    f"{best.epoch:.4g}, the best"
                ),
            )
        for line in journal.alarms():
            paragraph(
                console,
                Text(plain(f"alarm {line.name} at epoch {line.epoch:.4g}: {line.message} {line.advice}"), "red"),
            )
        for smell in record.smells if record is not None else ():
            if smell.severity != "note":
                told = f"{smell.severity} {smell.name} in the audit: {smell.message} {smell.advice}"
                paragraph(console, Text(plain(told), "red" if smell.severity == "alarm" else "yellow"))
        marks = [line for line in journal.marks() if line.what in ("stopped", "finished")]
        if marks and marks[-1].what == "stopped":
            paragraph(console, Text(plain(f"Stopped: {marks[-1].message}."), "yellow"))
        if self.report is not None:
            paragraph(console, Text(f"Report          {plain(str(self.report))}"))
        if best is not None and journal.info.model.spec is not None:
            again = [*program(), "audit", str(self.run.folder), self.test or "TEST_DATA", *self.more]
            told = plain(shlex.join([*again, "--threat", journal.info.threat_notation]))
            paragraph(console, Text(f"Next            {told}"))
