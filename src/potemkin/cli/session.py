"""One call of the command line: what was typed, where people read, where machines read, and what a verb replies."""

from __future__ import annotations

import io
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text


def program() -> list[str]:
    """The words that start this command here: its name, or its path where a shell would not find the name."""
    if shutil.which("potemkin"):
        return ["potemkin"]
    started = Path(sys.argv[0])
    if started.stem != "potemkin":
        return ["python", "-m", "potemkin"]
    here = Path.cwd()
    return [str(started.relative_to(here) if started.is_relative_to(here) else started)]


@dataclass(frozen=True)
class Reply:
    """What a verb answers: an exit code, a JSON text for machines, and how to tell it to people."""

    exit_code: int
    data: str
    show: Callable[[Console], None]


@dataclass
class Session:
    """The streams and switches that all verbs share.

    People read `results` (stdout) and `asides` (stderr: what is being done, errors). With --json, stdout holds one
    JSON object and nothing else, and people read stderr only.
    """

    arguments: list[str]
    json: bool
    debug: bool
    results: Console = field(init=False)
    asides: Console = field(init=False)

    def __post_init__(self) -> None:
        self.asides = _Console(sys.stderr)
        self.results = self.asides if self.json else _Console(sys.stdout)

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Session:
        """The switches are read before the rest is understood: a wrong command line must answer in JSON, too."""
        options = list(arguments)
        if "--" in options:
            options = options[: options.index("--")]
        return cls(list(arguments), json="--json" in options, debug="--debug" in options)

    @property
    def command(self) -> str:
        """The command line, as it could be typed again."""
        return shlex.join(["potemkin", *self.arguments])

    def say(self, text: str) -> None:
        """Tell people what is being done, so that no wait is silent; machines are told nothing."""
        if not self.json:
            paragraph(self.asides, Text(plain(text), style="dim"))

    def warn(self, text: str) -> None:
        """Tell people, and whoever reads the log of a machine, what may not be what they meant."""
        paragraph(self.asides, Text(plain(text), style="yellow"))


def paragraph(console: Console, text: Text) -> None:
    """One paragraph: wrapped at words on a terminal, one line where a file or a program reads."""
    console.print(text, soft_wrap=not console.is_terminal)


def plain(text: str) -> str:
    """On one line, and nothing in it that a terminal would obey: file names and class names are other people's."""
    shown = " ".join(text.split())
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in shown)


class _Console(Console):
    """A console on which nothing is markup: intervals are written [low, high]."""

    def __init__(self, stream: TextIO) -> None:
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # a terminal without our letters is no reason to fail
        super().__init__(file=stream, markup=False, highlight=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """rich would leave the process; `main` knows better."""
        raise BrokenPipeError
