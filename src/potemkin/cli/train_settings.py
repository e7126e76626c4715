"""`--set NAME=VALUE` of `potemkin train`: read one, and list all with what each means."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from potemkin.cli.failures import PASSED
from potemkin.cli.session import Reply
from potemkin.errors import ConfigError, suggest

HELP = "help"
_NAMED = re.compile(r"    ([a-z_]+): (.*)")


def setting(text: str) -> dict[str, Any]:
    """NAME=VALUE, the value in the notation, or as a word where it is one."""
    from potemkin.core.notation import parse
    from potemkin.training.settings import Settings

    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    known = sorted(Settings.__dataclass_fields__)
    if name not in known:
        raise ConfigError(
            f"--set {text!r}: there is no setting {name!r}.{suggest(name, known)} Settings: {', '.join(known)}. "
            f"`potemkin train --set {HELP}` says what each means."
        )
    if not equals:
        raise ConfigError(f"--set {text!r}: give it a value, {name}=VALUE.")
    word = value.strip()
    if Settings.__dataclass_fields__[name].type == "str":
        return {name: word.strip("'\"")}
    if name == "stop_on" and word.isidentifier():
        return {name: (word,)}
    try:
        return {name: parse(word)}
    except ConfigError as error:
        raise ConfigError(f"--set {name}: {error}") from error


def wants_help(given: Sequence[str] | None) -> bool:
    """Whether somebody asks what can be set."""
    return any(text.strip() == HELP for text in given or ())


def all_settings() -> Reply:
    """Every setting with its default and its meaning, which its docstring has."""
    from potemkin.core.canonical import default_text
    from potemkin.training.settings import Settings

    told = meanings(inspect.getdoc(Settings) or "")
    rows = [
        (field.name, default_text(field.default), told.get(field.name, "")) for field in dataclasses.fields(Settings)
    ]
    data = [dict(zip(("name", "default", "meaning"), row, strict=True)) for row in rows]
    return Reply(PASSED, json.dumps({"settings": data}, indent=2), lambda console: _show(console, rows))


def meanings(docstring: str) -> dict[str, str]:
    """What the `Args:` of a docstring say, name by name.

    >>> meanings('''One line.
    ...
    ... Args:
    ...     width: in pixels;
    ...         at least 1.
    ...     height: the same.
    ... ''')
    {'width': 'in pixels; at least 1.', 'height': 'the same.'}
    """
    found: dict[str, str] = {}
    name = ""
    for line in docstring.partition("Args:\n")[2].splitlines():
        if start := _NAMED.fullmatch(line):
            name, found[start[1]] = start[1], start[2]
        elif name and line.startswith("        "):
            found[name] += f" {line.strip()}"
        else:
            break
    return found


def _show(console: Console, rows: list[tuple[str, str, str]]) -> None:
    """A table on a terminal; one line each where a file or a program reads."""
    if not console.is_terminal:
        for name, default, meaning in rows:
            console.print(Text(f"{name}={default}  {meaning}"), soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    for name, default, meaning in rows:
        table.add_row(Text(name, "bold"), Text(default, "dim"), meaning)
    console.print(table)
