"""`potemkin`: parse the command line, run the verb, print its reply or one paragraph of error; return the exit code."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App
from rich.text import Text

from potemkin import __version__
from potemkin.cli.audit import audit
from potemkin.cli.compare import compare
from potemkin.cli.doctor import doctor
from potemkin.cli.failures import PASSED, explain
from potemkin.cli.listing import listing
from potemkin.cli.report import report
from potemkin.cli.session import Reply, Session, paragraph, plain
from potemkin.cli.train import train
from potemkin.cli.verify import verify


def _text(verb: object) -> str:
    """What a verb's docstring says before its arguments, its lines joined: they end where the terminal wants it."""
    paragraphs = (inspect.getdoc(verb) or "").partition("\n\nArgs:")[0].split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


EXIT_CODES = (
    "Exit codes: 0 passed, 1 a gate failed, 2 the command is wrong, 3 the model, the data or a bundle cannot be used, "
    "4 the evaluation itself failed or was interrupted."
)

app = App(
    "potemkin",
    help="Finds the façades in a model, measures them honestly: adversarial evaluation whose verdict is verified.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version=f"potemkin {__version__}",
)
for verb, name in (
    (audit, "audit"),
    (train, "train"),
    (verify, "verify"),
    (report, "report"),
    (compare, "compare"),
    (listing, "list"),
    (doctor, "doctor"),
):
    app.command(verb, name=name, help=_text(verb))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (None: the process's own) and return its exit code."""
    session = Session.of(sys.argv[1:] if argv is None else argv)
    try:
        reply = _run(session)
        try:
            _tell(session, reply)
        except (BrokenPipeError, SystemExit) as error:
            # Whoever reads has heard enough, as in `potemkin list attacks | head`; rich makes a SystemExit of it.
            if not isinstance(error.__context__ or error, BrokenPipeError):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where the buffers may go
        return reply.exit_code
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001 (the last place that can explain it)
        return _fail(session, error)


def _run(session: Session) -> Reply:
    command, bound, ignored = app.parse_args(session.arguments, exit_on_error=False, print_error=False)
    if not ignored:  # --help and --version: cyclopts' own, which print
        return Reply(PASSED, "", lambda console: command(*bound.args, **bound.kwargs))
    # What a model or a data function prints must not get between a machine and its JSON.
    with contextlib.redirect_stdout(sys.stderr) if session.json else contextlib.nullcontext():
        reply = command(*bound.args, **bound.kwargs, **dict.fromkeys(ignored, session))
    assert isinstance(reply, Reply)
    return reply


def _tell(session: Session, reply: Reply) -> None:
    reply.show(session.results)
    if session.json and reply.data:
        print(_encodable(reply.data))
    sys.stdout.flush()


def _encodable(data: str) -> str:
    """The JSON as it is, or with \\u escapes where stdout cannot hold all of its letters."""
    try:
        data.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(json.loads(data), indent=2)
    return data


def _fail(session: Session, error: BaseException) -> int:
    failure = explain(error)
    message = plain(failure.message)
    if session.debug:
        traceback.print_exception(error, file=sys.stderr)
    paragraph(session.asides, Text.assemble(("error: ", "bold red"), message))
    if session.json:
        told = {"type": failure.type, "message": message, "exit_code": failure.exit_code}
        print(json.dumps({"error": told}))
    return failure.exit_code
