"""`potemkin audit`: a model, data and a threat in; a verified verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from potemkin.cli.failures import FAILED, GATE_FAILED, PASSED
from potemkin.cli.gates import Gate, GateOptions, all_passed
from potemkin.cli.options import ANSWER, RUN, AnswerOptions, ModelOptions, Switch
from potemkin.cli.progress import Display, display
from potemkin.cli.session import Reply, Session
from potemkin.cli.signals import interruptible
from potemkin.cli.threats import AdversaryOptions
from potemkin.cli.verdict import Verdict

if TYPE_CHECKING:
    from potemkin.evaluate.record import Record


@Parameter(name="*", group=RUN)
@dataclass(frozen=True)
class RunOptions:
    """Which examples, and how they are run."""

    examples: int | None = None
    """How many examples; default: all."""
    sample: str = "first"
    """Which ones: first, random or balanced (as many of each class)."""
    seed: int = 0
    """Of all random draws."""
    rows: int = 128
    """Rows of the batch, a multiple of 8; more rows need more memory."""
    declared_accuracy: float | None = None
    """Clean accuracy that the model's owner claims, from 0 to 1; an alarm is raised where it is far off."""
    no_cycles: Annotated[bool, Switch] = False
    """Let rows run on that came back to an earlier state: costs more; same outcomes unless queries are limited."""


@Parameter(name="*", group=ANSWER)
@dataclass(frozen=True)
class KeepOptions:
    """What is kept."""

    out: Path | None = None
    """Folder for the bundle and its report.html; without it, nothing is written."""
    overwrite: Annotated[bool, Switch] = False
    """Replace a bundle that is there already."""
    no_report: Annotated[bool, Switch] = False
    """Leave out report.html; `potemkin report FOLDER` draws it later."""


def audit(
    model: str,
    data: str,
    *,
    adversary: AdversaryOptions,
    network: ModelOptions = ModelOptions(),
    run: RunOptions = RunOptions(),
    gates: GateOptions = GateOptions(),
    keep: KeepOptions = KeepOptions(),
    answer: AnswerOptions = AnswerOptions(),
    session: Annotated[Session, Parameter(parse=False)],
) -> Reply:
    """Attack every example within a threat model and say how each ended.

    potemkin audit digits-cnn digits --threat 'Linf(0.1)' --attack 'pgd(steps=50, restarts=5)' --out runs/digits

    Exit code 0: every gate passed. 1: a rate is beyond its gate, or there are gates and an alarm was raised. 4: the run
    was cut short, or the model changed during it.

    Args:
        model: digits-cnn (built in), my_models:resnet20 or path.py:function (called without arguments), or a .pt2 file.
        data: digits (built in), a .npz or idx images file, a folder with one subfolder per class, or my_data:load.
    """
    limits = gates.gates()
    shown = display(session)
    with interruptible(shown.stopping):
        record = Audit(model, data, adversary, network, run, keep).go(session, shown)
        report, problem = _draw(session, keep)
    verdict = Verdict(record, limits, keep.out, report, network.again(model, data))
    if problem is not None:
        session.warn(f"The verdict and the bundle stand, but the report could not be drawn: {problem}")
    return Reply(_exit_code(record, limits), record.to_json(), verdict.show)


@dataclass(frozen=True)
class Audit:
    """What was asked for, loaded step by step; each step says what it does."""

    model: str
    data: str
    adversary: AdversaryOptions
    network: ModelOptions
    run: RunOptions
    keep: KeepOptions

    def go(self, session: Session, shown: Display) -> Record:
        """Load everything and evaluate."""
        if self.keep.out is not None:
            from potemkin.evaluate.bundle_partial import refuse_folder

            refuse_folder(self.keep.out, self.keep.overwrite)
        session.say("Loading PyTorch …")
        threat = self.adversary.threat_model()
        attacks = self.adversary.attacks(threat)
        from potemkin.evaluate.audit import audit as evaluate_all
        from potemkin.evaluate.environment import Typed
        from potemkin.evaluate.smells.plan import wide_set

        classifier, source = self.network.bring(session, self.model, self.data)
        for smell in wide_set(threat, classifier.box):
            session.warn(f"{smell.message} {smell.advice}")
        usual = "" if self.adversary.attack else " (no --attack: the usual ones)"
        session.say(f"Attacking on {classifier.device} with {', '.join(map(repr, attacks))}{usual} …")
        with shown:
            return evaluate_all(
                classifier,
                source,
                threat,
                attacks,
                seed=self.run.seed,
                examples=self.run.examples,
                sample=self.run.sample,
                rows=self.run.rows,
                retire_cycles=not self.run.no_cycles,
                declared_accuracy=self.run.declared_accuracy,
                out=self.keep.out,
                overwrite=self.keep.overwrite,
                command=Typed(session.command, tuple(self.network.again(self.model, self.data))),
                progress=shown.update,
            )


def _draw(session: Session, keep: KeepOptions) -> tuple[Path | None, str | None]:
    """The report's path, or why there is none: a verdict must not be lost to a page that could not be written."""
    if keep.out is None or keep.no_report:
        return None, None
    session.say("Drawing the report …")
    try:
        from potemkin.report.render import render

        return render(keep.out), None
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (told, and the verdict is printed all the same)
        return None, str(error) or type(error).__name__


def _exit_code(record: Record, gates: list[Gate]) -> int:
    changed = any(smell.name == "model_changed" for smell in record.smells)
    if changed or not record.complete:
        return FAILED
    return PASSED if all_passed(gates, record) else GATE_FAILED
