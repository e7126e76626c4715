"""The verdict of an audit as people read it: calm, short, with everything needed to go on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from potemkin.cli.gates import because_of
from potemkin.cli.session import paragraph, plain, program
from potemkin.core.outcomes import UNDECIDED
from potemkin.report.words import OUTCOMES

if TYPE_CHECKING:
    from potemkin.cli.gates import Gate
    from potemkin.evaluate.record import Record, Smell

_COLOURS = {"alarm": "bold red", "warning": "bold yellow", "note": "bold blue"}


@dataclass(frozen=True)
class Verdict:
    """A Record with what the command line adds to it."""

    record: Record
    gates: Sequence[Gate] = ()
    folder: Path | None = None
    report: Path | None = None
    again: list[str] = field(default_factory=list)
    """The arguments with which `potemkin verify` finds the model and the data again."""

    def show(self, console: Console) -> None:
        """Print it."""
        _headline(console, self.record)
        _partition(console, self.record)
        _attacks(console, self.record)
        _cost(console, self.record)
        for smell in self.record.smells:
            _smell(console, smell)
        self._gates(console)
        self._paths(console)

    def _gates(self, console: Console) -> None:
        if self.gates:
            console.print()
        alarms = self.record.alarms
        for gate in self.gates:
            style = "green" if gate.passes(self.record.rates) and not alarms else "bold red"
            paragraph(console, Text(gate.sentence(self.record.rates, alarms), style=style))
        if self.gates and alarms:
            paragraph(console, Text(plain(because_of(alarms)), style="bold red"))

    def _paths(self, console: Console) -> None:
        console.print()
        if self.folder is None:
            console.print("Nothing was written: give --out FOLDER to keep the bundle and its report.")
            return
        lines = [("bundle", str(self.folder))]
        if self.report is not None:
            lines.append(("report", str(self.report)))
        lines.append(("check it", shlex.join([*program(), "verify", str(self.folder), *self.again])))
        for name, value in lines:  # never wrapped: these are for copying
            console.print(Text.assemble((f"{name:<10}", "dim"), plain(value)), soft_wrap=True)


def _headline(console: Console, record: Record) -> None:
    console.print()
    if not record.complete:
        why = record.why_incomplete or "reason not recorded"
        told = f"INCOMPLETE ({why}): {record.n} of {record.data.examples} examples are done."
        paragraph(console, Text(told, style="bold yellow"))
    rates = record.rates
    console.print(Text(f"Robust accuracy {rates.robust_accuracy}", style="bold"), soft_wrap=True)
    if rates.robust_accuracy_upper != rates.robust_accuracy:
        console.print(Text(f"at most {rates.robust_accuracy_upper} if all undecided ones held"), soft_wrap=True)
    console.print(Text(f"clean accuracy {rates.clean_accuracy}"), soft_wrap=True)
    console.print(Text(f"attack success rate {rates.attack_success_rate}"), soft_wrap=True)
    _labelled(console, "threat", record.threat.sentence)


def _partition(console: Console, record: Record) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for meaning in OUTCOMES:
        count = record.outcomes[meaning.term]
        if count or meaning.term not in UNDECIDED:
            share = f"{100 * count / record.n:.1f} %" if record.n else ""
            table.add_row(meaning.term, f"{count:,}", share, meaning.text)
    console.print(Padding(table, (1, 0, 0, 2)))


def _attacks(console: Console, record: Record) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", collapse_padding=True)
    table.add_column("attack", overflow="fold", ratio=1)
    for heading in ("tried", "broken", "robust after", "passes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for attack in sorted(record.attacks, key=lambda summary: summary.order):
        cost = f"{attack.cost.forward_equivalents:,}"
        after = attack.robust_accuracy_after.short()
        table.add_row(plain(attack.recipe), f"{attack.tried:,}", f"{attack.broken:,}", after, cost)
    console.print(Padding(table, (1, 0, 0, 2)))


def _cost(console: Console, record: Record) -> None:
    useful, physical = record.cost.useful, record.cost.physical
    console.print()
    told = f"{useful.forwards:,} forwards + {useful.backwards:,} backwards useful, "
    _labelled(console, "cost", told + f"{physical.forwards:,} + {physical.backwards:,} physical")
    seconds, fill = record.timing.get("seconds"), record.batch_fill
    if isinstance(seconds, float) and fill is not None:
        _labelled(console, "time", f"{seconds:.1f} s, batch {100 * fill:.0f} % full")


def _labelled(console: Console, name: str, value: str) -> None:
    """A name and a text; what is too long for the terminal goes on below the text."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row(f"{name:<9}", plain(value))
    whole = Text.assemble((f"{name:<10}", "dim"), plain(value))
    console.print(table if console.is_terminal else whole, soft_wrap=not console.is_terminal)


def _smell(console: Console, smell: Smell) -> None:
    console.print()
    head = (f"{smell.severity} {smell.name}: ", _COLOURS[smell.severity])
    paragraph(console, Text.assemble(head, plain(smell.message)))
    paragraph(console, Text(f"  {plain(smell.advice)}", style="dim"))
