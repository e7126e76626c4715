"""`potemkin report`: draw report.html again from a bundle alone, without torch."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from potemkin.cli.failures import PASSED
from potemkin.cli.options import AnswerOptions
from potemkin.cli.session import Reply, Session, plain
from potemkin.errors import BundleError


def report(
    run: Path,
    *,
    answer: AnswerOptions = AnswerOptions(),
    session: Annotated[Session, Parameter(parse=False)],
) -> Reply:
    """Draw report.html again from a bundle or a training run alone: no model, no data, no torch.

    potemkin report runs/digits

    Args:
        run: The folder that `potemkin audit --out` or `potemkin train --out` wrote.
    """
    from potemkin.evaluate.bundle_read import RECORD
    from potemkin.report.render import render
    from potemkin.report.training import render_training
    from potemkin.training.journal import AUDIT, RUN

    if os.path.isfile(run / RUN):
        if os.path.isfile(run / AUDIT / RECORD):
            with suppress(BundleError):  # the run's page says what is wrong with its audit
                render(run / AUDIT)
        path = render_training(run)
    else:
        path = _of_audit(run)
    data = json.dumps({"report": str(path), "bytes": path.stat().st_size}, ensure_ascii=False)
    return Reply(PASSED, data, lambda console: console.print(Text(plain(str(path))), soft_wrap=True))


def _of_audit(run: Path) -> Path:
    from potemkin.evaluate.bundle_read import RECORD
    from potemkin.report.render import render

    try:
        return render(run)
    except BundleError as problem:
        if os.path.isfile(run / RECORD):
            raise
        raise BundleError(f"{problem} Or that of `potemkin train --out`: this has no run.json, either.") from None
