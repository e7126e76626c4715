"""How far an evaluation is: a live display on a terminal, a line every few seconds elsewhere, nothing for machines."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from potemkin.cli.session import Session

if TYPE_CHECKING:
    from potemkin.evaluate.audit import Progress

SECONDS_BETWEEN_LINES = 5.0
ENOUGH = 30
"""Examples that must be done, in the data's order, before a rate or a time is told."""
_WINDOW = 10.0
_STOPPING = "Stopping: what is done will be kept, marked incomplete. Once more aborts."


class Display(Protocol):
    """What shows progress; a context manager around the evaluation."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, progress: Progress) -> None:
        """Called after every step of the engine."""

    def stopping(self) -> None:
        """Called, from a signal handler, when the first interrupt came."""


def display(session: Session) -> Display:
    """The display that fits where people read."""
    if session.json:
        return Silent()
    console = session.asides
    return Bar(console) if console.is_terminal and not console.is_dumb_terminal else Lines(console)


class Pace:
    """Forwards per second over the last seconds, and the time left at the pace of the examples so far."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    @property
    def started(self) -> bool:
        """Whether anything was seen."""
        return bool(self._seen)

    def speed(self, progress: Progress) -> float | None:
        """Forwards per second; None before there is anything to divide by."""
        self._seen.append((progress.seconds, progress.forwards))
        while len(self._seen) > 2 and progress.seconds - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        seconds, forwards = progress.seconds - self._seen[0][0], progress.forwards - self._seen[0][1]
        return forwards / seconds if seconds > 0 else None

    @staticmethod
    def left(progress: Progress) -> float | None:
        """Seconds, if the others need what the first ones did; None before there are enough of these to tell.

        What ends early mostly fell, and cheaply: the share of settled examples says little about the work left.
        """
        if not _enough(progress) or not progress.seated_forwards:
            return None
        needed = progress.done_forwards / progress.done * progress.total
        return progress.seconds * max(0.0, needed / progress.seated_forwards - 1)


class Silent:
    """Shows nothing: with --json."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, progress: Progress) -> None:
        pass

    def stopping(self) -> None:
        pass


class Lines(Silent):
    """A plain line every few seconds: logs, files, CI."""

    def __init__(self, console: Console, every: float = SECONDS_BETWEEN_LINES) -> None:
        self._console, self._every = console, every
        self._pace = Pace()
        self._last = time.monotonic()
        self._under_way = False

    def __enter__(self) -> Self:
        self._under_way = True
        self._last = time.monotonic()
        return self

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if not self._pace.started:
            self._pace.speed(progress)  # so that the first line has something to count from
        if now - self._last < self._every:
            return
        self._last = now
        parts = [f"{progress.settled} of {progress.total} examples done", accuracy(progress)]
        speed = self._pace.speed(progress)
        parts.append(f"{told_speed(speed)}, {told_time(self._pace.left(progress) if speed else None)}")
        self._console.print("; ".join(parts), soft_wrap=True)

    def stopping(self) -> None:
        if self._under_way:
            _write(self._console, _STOPPING)


class Bar(Silent):
    """A bar and a line below it, gone when the evaluation is over."""

    def __init__(self, console: Console) -> None:
        self._pace = Pace()
        self._progress: Progress | None = None
        self._speed: float | None = None
        self._stopping = False
        self._next = 0.0
        # What a model prints is shown above the bar, but not taken from a stdout that goes elsewhere.
        self._live = Live(
            console=console, get_renderable=self._picture, transient=True, redirect_stdout=sys.stdout.isatty()
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, progress: Progress) -> None:
        # Live redraws by its own clock, four times a second; this only notes what to draw.
        self._progress = progress
        if progress.seconds >= self._next:
            self._speed, self._next = self._pace.speed(progress), progress.seconds + 0.5

    def stopping(self) -> None:
        self._stopping = True

    def _picture(self) -> Group | Text:
        progress = self._progress
        if progress is None:
            return Text("Looking at the model …", style="dim")
        top = Table.grid(padding=(0, 2), expand=False)
        top.add_row(
            ProgressBar(total=progress.total, completed=progress.settled, width=32),
            Text(f"{progress.settled} of {progress.total} examples"),
            Text(told_time(self._pace.left(progress) if self._speed else None), style="dim"),
        )
        below = Text(_STOPPING, style="yellow")
        if not self._stopping:
            below = Text.assemble(accuracy(progress), (f"   {told_speed(self._speed)}", "dim"))
        return Group(top, below)


def accuracy(progress: Progress) -> str:
    """Held / done with its interval; only of the first ones in the data's order, since what ends early mostly fell."""
    from potemkin.evaluate.rates import Rate

    if not _enough(progress):
        return "robust accuracy not known yet"
    return f"robust accuracy so far {Rate.of(progress.held, progress.done)}"


def _enough(progress: Progress) -> bool:
    """Whether the first ones in order are enough to speak for all: a rate of one or two examples only frightens."""
    return progress.done >= min(ENOUGH, progress.total)


def told_speed(speed: float | None) -> str:
    """Forwards per second in words."""
    if speed is None:
        return "speed not known yet"
    return f"{speed:,.0f} forwards/s" if speed >= 10 else f"{speed:.1f} forwards/s"


def told_time(seconds: float | None) -> str:
    """Time left in words."""
    if seconds is None:
        return "time left not known yet"
    if seconds < 1:
        return "nearly done"
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    minutes = seconds / 60
    return f"about {minutes:.0f} min left" if minutes < 90 else f"about {minutes / 60:.1f} h left"


def _write(console: Console, text: str) -> None:
    """From a signal handler: past the buffers, which may be in the middle of a write."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file: the reply says the same at the end
        os.write(console.file.fileno(), f"{text}\n".encode())
