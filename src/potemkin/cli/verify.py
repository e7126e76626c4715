"""`potemkin verify`: check every claimed adversarial and every clean prediction of a bundle again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from potemkin.cli.failures import GATE_FAILED, PASSED
from potemkin.cli.files import refuse_taken, write_json
from potemkin.cli.options import ANSWER, MODEL, AnswerOptions, ModelOptions, Switch
from potemkin.cli.session import Reply, Session, paragraph, plain

if TYPE_CHECKING:
    from potemkin.evaluate.verification import Verification


@Parameter(name="*", group=ANSWER)
@dataclass(frozen=True)
class ResultOptions:
    """Where the result is kept."""

    out: Path | None = None
    """JSON file for the result; without it, nothing is written."""
    overwrite: Annotated[bool, Switch] = False
    """Replace a file that is there already."""


def verify(
    run: Path,
    *,
    model: Annotated[str, Parameter(group=MODEL)],
    data: Annotated[str, Parameter(group=MODEL)],
    network: ModelOptions = ModelOptions(),
    keep: ResultOptions = ResultOptions(),
    answer: AnswerOptions = AnswerOptions(),
    session: Annotated[Session, Parameter(parse=False)],
) -> Reply:
    """Check every claimed adversarial of a bundle again (in the set, in the box, goal met), and every clean prediction.

    potemkin verify runs/digits --model digits-cnn --data digits

    Nothing is believed but the stored tensors, the ids with their positions, the threat model, the seed and the row
    counts. That an example held is not checked: it takes the search again.

    Exit code 0: all confirmed. 1: some were refused, or the model or the data are not those that were audited.

    Args:
        run: The folder that `potemkin audit --out` wrote.
        model: As for `potemkin audit`, with the same options.
        data: As for `potemkin audit`.
    """
    from potemkin.evaluate.bundle_read import read_bundle

    if keep.out is not None:
        refuse_taken(keep.out, keep.overwrite)
    bundle = read_bundle(run)
    session.say("Loading PyTorch …")
    from potemkin.evaluate.verify import verify as check

    classifier, source = network.bring(session, model, data)
    counts = f"{len(bundle.lines)} clean predictions and {bundle.record.outcomes['broken']} adversarials"
    session.say(f"Checking {counts} on {classifier.device} …")
    found = check(bundle, classifier, source)
    text = json.dumps(as_data(found), indent=2, ensure_ascii=False)
    if keep.out is not None:
        write_json(keep.out, text, keep.overwrite)
    return Reply(PASSED if found.passed else GATE_FAILED, text, lambda console: _show(console, found, keep.out))


def as_data(found: Verification) -> dict[str, object]:
    """The verification as plain data."""
    return {
        "passed": found.passed,
        "claimed": found.claimed,
        "confirmed": found.confirmed,
        "examples": found.examples,
        "agreed": found.agreed,
        "held": found.held,
        "refused": [{"id": name, "why": why} for name, why in found.refused.items()],
        "notes": found.notes,
        "warnings": found.warnings,
    }


def _show(console: Console, found: Verification, out: Path | None) -> None:
    style = "bold green" if found.passed else "bold red"
    first, *others = found.counts()
    paragraph(console, Text(f"{first}.", style=style))
    for line in others:
        paragraph(console, Text(f"{line}."))
    for note in found.notes:
        paragraph(console, Text(f"note: {plain(note)}", style="yellow"))
    for warning in found.warnings:
        paragraph(console, Text(f"warning: {plain(warning)}", style="yellow"))
    for reason in found.reasons():
        paragraph(console, Text(plain(reason)))
    if out is not None:
        console.print(Text(f"written to {plain(str(out))}"), soft_wrap=True)
