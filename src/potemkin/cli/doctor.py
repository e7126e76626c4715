"""`potemkin doctor`: what this machine can do, what is missing, and how to get it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from potemkin.cli.failures import PASSED
from potemkin.cli.options import AnswerOptions
from potemkin.cli.probes import Finding, examine
from potemkin.cli.session import Reply, Session, plain

_MARKS = {"ok": ("ok", "green"), "missing": ("--", "yellow"), "broken": ("!!", "bold red")}
_INPUT = 3


def doctor(
    *,
    answer: AnswerOptions = AnswerOptions(),
    session: Annotated[Session, Parameter(parse=False)],
) -> Reply:
    """Say what this machine can do, what is missing, and how to get it.

    Versions, devices, threads, bfloat16, the compiler that torch.compile needs, optional extras, and the folder of data
    sets. Exit code 0: all that potemkin needs is there. 3: something it needs is broken.
    """
    session.say("Looking at PyTorch and the devices …")
    found = examine()
    broken = any(finding.state == "broken" for finding in found)
    data = {"healthy": not broken, "findings": [asdict(finding) for finding in found]}
    return Reply(
        _INPUT if broken else PASSED,
        json.dumps(data, indent=2, ensure_ascii=False),
        lambda console: _show(console, found, broken),
    )


def _show(console: Console, found: list[Finding], broken: bool) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for finding in found:
        mark, style = _MARKS[finding.state]
        told = Text(plain(finding.found))
        if finding.advice:
            told.append(f"\n{plain(finding.advice)}", style="dim")
        table.add_row(Text(mark, style=style), finding.name, told)
    console.print(table)
    summary = "Something that potemkin needs is broken: see !!." if broken else "All that potemkin needs is there."
    console.print(Text(f"\n{summary}", style="bold red" if broken else "bold green"))
