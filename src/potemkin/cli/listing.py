"""`potemkin list`: what exists, one line each, generated from the registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from potemkin.cli.failures import PASSED
from potemkin.cli.options import AnswerOptions
from potemkin.cli.session import Reply, Session
from potemkin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from potemkin.core.registry import Entry

SHELVES = {
    "attacks": ("attack",),
    "recipes": ("recipe",),
    "sets": ("set",),
    "objectives": ("objective",),
    "goals": ("goal",),
    "threats": ("threat", "access"),
    "parts": ("part",),
    "data": ("data",),
    "models": ("model",),
}


def listing(
    what: str | None = None,
    *,
    answer: AnswerOptions = AnswerOptions(),
    session: Annotated[Session, Parameter(parse=False)],
) -> Reply:
    """List what exists: attacks, training recipes, sets, objectives, goals, threats, parts, data, models, or all of it.

    potemkin list attacks

    Args:
        what: One of attacks, recipes, sets, objectives, goals, threats, parts, data, models.
    """
    if what is not None and what not in SHELVES:
        raise ConfigError(
            f"There is no list of {what!r}.{suggest(what, SHELVES)} Lists: {', '.join(SHELVES)}; `potemkin list` alone "
            "prints all of them."
        )
    from potemkin.core.registry import entries

    names = list(SHELVES) if what is None else [what]
    found = {name: [entry for kind in SHELVES[name] for entry in entries(kind)] for name in names}
    text = json.dumps(as_data(found), indent=2, ensure_ascii=False)
    return Reply(PASSED, text, lambda console: _show(console, found))


def as_data(found: dict[str, list[Entry]]) -> dict[str, list[dict[str, str]]]:
    """The lists as plain data."""
    return {
        shelf: [{"name": e.name, "kind": e.kind, "signature": e.usage, "summary": e.summary} for e in entries]
        for shelf, entries in found.items()
    }


def _show(console: Console, found: dict[str, list[Entry]]) -> None:
    for number, (shelf, entries) in enumerate(found.items()):
        if len(found) > 1:
            console.print(Text(f"{chr(10) if number else ''}{shelf}", style="bold underline"))
        for entry in entries:
            _line(console, entry)


def _line(console: Console, entry: Entry) -> None:
    """One line each; on a terminal, where it would break anywhere, the summary gets a place of its own."""
    usage = Text.assemble((entry.name, "bold"), (entry.usage.removeprefix(entry.name), "dim"))
    if console.is_terminal:
        console.print(usage)
        console.print(Padding(entry.summary, (0, 0, 0, 4)))
    else:
        console.print(Text.assemble(usage, f"  {entry.summary}"), soft_wrap=True)
