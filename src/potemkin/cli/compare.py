"""`potemkin compare`: two bundles on the examples that they share, paired (McNemar)."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from potemkin.cli.failures import PASSED
from potemkin.cli.files import refuse_taken, write_json
from potemkin.cli.options import AnswerOptions
from potemkin.cli.session import Reply, Session, paragraph, plain
from potemkin.cli.verify import ResultOptions

if TYPE_CHECKING:
    from potemkin.evaluate.compare import Comparison


def compare(
    a: Path,
    b: Path,
    *,
    keep: ResultOptions = ResultOptions(),
    answer: AnswerOptions = AnswerOptions(),
    session: Annotated[Session, Parameter(parse=False)],
) -> Reply:
    """Say which of two bundles is more robust on the examples that they share (McNemar's paired test).

    potemkin compare runs/before runs/after

    Args:
        a: A folder that `potemkin audit --out` wrote.
        b: The other one: another model, or other attacks, on the same data.
    """
    from potemkin.evaluate.bundle_read import read_bundle
    from potemkin.evaluate.compare import compare as pair

    if keep.out is not None:
        refuse_taken(keep.out, keep.overwrite)
    found = pair(read_bundle(a), read_bundle(b))
    text = json.dumps(as_data(found), indent=2, ensure_ascii=False)
    if keep.out is not None:
        write_json(keep.out, text, keep.overwrite)
    return Reply(PASSED, text, lambda console: _show(console, found))


def as_data(found: Comparison) -> dict[str, object]:
    """The comparison as plain data."""
    data = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    rates = ("robust_a", "robust_b", "clean_a", "clean_b")
    return data | {name: data[name].model_dump(mode="json") for name in rates} | {"comparable": found.comparable}


def _show(console: Console, found: Comparison) -> None:
    paragraph(console, Text(plain(found.sentence), style="bold"))
    table = Table.grid(padding=(0, 3))
    table.add_column(overflow="fold")
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_row("", Text("robust accuracy", style="dim"), Text("clean accuracy", style="dim"))
    for name, robust, clean in (
        (found.name_a, found.robust_a, found.clean_a),
        (found.name_b, found.robust_b, found.clean_b),
    ):
        table.add_row(plain(name), robust.short(), clean.short())
    console.print(Padding(table, (1, 0, 0, 2)))
    console.print(
        Padding(
            f"both held {found.both_held}, only the first {found.only_a}, only the second {found.only_b}, "
            f"neither {found.neither} (n = {found.n})",
            (1, 0, 0, 2),
        )
    )
    for note in found.notes:
        paragraph(console, Text(f"note: {plain(note)}", style="yellow"))
