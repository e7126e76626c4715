"""What a training run writes down: run.json says what was asked for, log.jsonl what happened. Plain data, no torch.

    run.json     RunInfo: recipe, settings, model, data, seed, machine
    log.jsonl    one line per event, each with the step it belongs to: StepLine, EvaluationLine, AlarmLine, MarkLine

A run that resumes drops the lines after its checkpoint, so an undisturbed run and a killed one end with the same lines
(but for `seconds`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from potemkin.core.files import explained, sha256, write_whole
from potemkin.errors import BundleError
from potemkin.evaluate.fields import Count, Evidence, Free, Number, Plain, Text, Whole
from potemkin.evaluate.rates import Rate
from potemkin.evaluate.record import explain

ENDS = ("finished", "stopped", "interrupted")
"""Marks after which a process wrote no more."""
RUN, LOG, REPORT, AUDIT = "run.json", "log.jsonl", "report.html", "audit"


class Brought(Plain):
    """The model or a data set, as it was named and as it was found."""

    spec: Text | None
    """What was typed; None for a Python object."""
    name: Text
    fingerprint: Text | None = None
    labels: Text | None = None
    """Fingerprint of all labels, where they are known without reading the data."""
    details: Free = Field(default_factory=dict)


class RunInfo(Plain):
    """run.json: everything that decides what is learnt, and where it ran."""

    schema_version: Literal["1"] = "1"
    potemkin: Text
    recipe: Text
    """In the notation: `pgd_at(eps=0.1)`."""
    threat: Text
    """The threat model that robust accuracy is measured under, in words."""
    threat_notation: Text
    settings: Free
    resolved: dict[Text, Text] = Field(default_factory=dict)
    """What the notation leaves out: recipe, optimiser and schedule in full, the attack's step."""
    model: Brought
    data: Brought
    validation: Brought
    extra: Brought | None = None
    seed: Whole
    steps: Count
    steps_per_epoch: Count
    examples: Count
    """Training examples, those held out for validation not among them."""
    learnt_per_epoch: Count | None = None
    """How many of them an epoch learns from: the last, incomplete batch is left out. None in older runs."""
    world: Count
    threads: Count
    notes: list[Text] = Field(default_factory=list)
    """What the user was told about the data before they were learnt from."""
    reads: dict[Text, Text] = Field(default_factory=dict)
    """What the recipe reads beside the data (static networks, radii), and its fingerprint."""
    environment: Free = Field(default_factory=dict)
    command: Text | None = None


class Passes(Plain):
    """Counted rows: how many inputs went forwards, and how many backwards, for one purpose."""

    forwards: Count = 0
    backwards: Count = 0

    @property
    def equivalents(self) -> int:
        return self.forwards + self.backwards


class Cost(Plain):
    """Row passes since the start of the run, all processes together.

    A backward of learning builds weight gradients, too, and counts 2 backwards; one of the attack counts 1.
    """

    attack: Passes = Passes()
    learning: Passes = Passes()
    evaluation: Passes = Passes()


class StepLine(Plain):
    """Means over the steps since the line before."""

    kind: Literal["step"] = "step"
    step: Count
    epoch: float
    loss: Number
    learning_rate: Number
    eps: Number
    """Mean radius of the rows, None without an adversary; of several sets, over all of them, each in its own norm."""
    clean_right: Number
    """Share of clean rows in the batches that were right; None where the recipe learns from none."""
    attacked_right: Number
    """Share of adversarial rows that were right all the same."""
    dead: Number
    """Share of attacked rows whose gradients were zero or not finite at every step."""
    moved: Number
    """Mean distance of attacked rows from where their attack began, in units of their eps."""
    cost: Cost
    seconds: float
    """Wall clock since the start, resumed parts added."""


class EvaluationLine(Plain):
    """Clean and robust accuracy of a fixed subset; counts out of n."""

    kind: Literal["evaluation"] = "evaluation"
    step: Count
    epoch: float
    part: Literal["train", "validation"]
    weights: Literal["current", "average"]
    n: Count
    clean: Count
    """Right on the clean input."""
    training_attack: Count
    """Right on what the training attack itself makes of it; equal to `clean` where there is none."""
    attacked: bool = True
    """Whether the recipe trains against an attack."""
    defends: bool = True
    """Whether it trains for robustness: against an attack, or a worst case in closed form."""
    one_step: Count
    """Right under one step of full length."""
    robust: Count
    """Held under the multi-step audit."""
    undecided: Count = 0
    """Neither held nor broken: outputs that are no numbers, passes that failed. They count as not robust."""

    @model_validator(mode="after")
    def _counts_within_n(self) -> Self:
        if max(self.clean, self.training_attack, self.one_step, self.robust + self.undecided) > self.n:
            raise ValueError(f"a count above n = {self.n}")
        return self

    seconds: float | None = None
    """Wall clock since the start, when it was done."""
    cost: Cost | None = None
    """Row passes since the start of the run, this evaluation's with them."""
    majority: Count = 0
    """How many have the most frequent label: what a network gets right that answers with one class."""

    @property
    def learnt(self) -> bool:
        """Whether more is right than a constant answer would get."""
        return self.clean > self.majority

    @property
    def score(self) -> tuple[int, int, int]:
        """What weights are chosen by: a constant answer, which no attack changes, is never the robust one."""
        rates = (self.robust, self.clean) if self.defends else (self.clean, self.robust)
        return (int(self.learnt), *rates)

    @property
    def clean_accuracy(self) -> Rate:
        return Rate.of(self.clean, self.n)

    @property
    def robust_accuracy(self) -> Rate:
        return Rate.of(self.robust, self.n)

    @property
    def robust_upper(self) -> Rate:
        """If every undecided example had held."""
        return Rate.of(self.robust + self.undecided, self.n)


class AlarmLine(Plain):
    """Something by which adversarial training fails in silence."""

    kind: Literal["alarm"] = "alarm"
    step: Count
    epoch: float
    name: Text
    message: Text
    advice: Text
    evidence: Evidence = Field(default_factory=dict)
    action: Literal["told", "stopped", "rolled back"] = "told"


class MarkLine(Plain):
    """Something that happened to the run: it was resumed, it is over."""

    kind: Literal["mark"] = "mark"
    step: Count
    epoch: float
    what: Literal["resumed", "rolled back", "interrupted", "stopped", "finished", "best", "lost"]
    """`interrupted`: somebody stopped it; `stopped`: an alarm or its patience did, and it is over; `lost`: the weights
    that were the best are gone."""
    message: Text


AnyLine = StepLine | EvaluationLine | AlarmLine | MarkLine
_LINE: TypeAdapter[AnyLine] = TypeAdapter(Annotated[AnyLine, Field(discriminator="kind")])


@dataclass(frozen=True)
class Journal:
    """A run as it can be read from its folder."""

    folder: Path
    info: RunInfo
    lines: list[AnyLine]

    def steps(self) -> list[StepLine]:
        return [line for line in self.lines if isinstance(line, StepLine)]

    def evaluations(self, part: str) -> list[EvaluationLine]:
        return [line for line in self.lines if isinstance(line, EvaluationLine) and line.part == part]

    def alarms(self) -> list[AlarmLine]:
        return [line for line in self.lines if isinstance(line, AlarmLine)]

    def marks(self) -> list[MarkLine]:
        return [line for line in self.lines if isinstance(line, MarkLine)]

    def cost(self) -> Cost:
        """All that was counted."""
        counted = [line.cost for line in self.lines if isinstance(line, StepLine | EvaluationLine) and line.cost]
        return counted[-1] if counted else Cost()

    def seconds(self) -> float | None:
        """Wall clock of the run, its last evaluation with it."""
        told = [line.seconds for line in self.lines if isinstance(line, StepLine | EvaluationLine) and line.seconds]
        return max(told, default=None)

    def best(self) -> EvaluationLine | None:
        """The evaluation whose weights were kept: the best score, and of equals the first."""
        marks = (k for k, line in enumerate(self.lines) if isinstance(line, MarkLine) and line.what == "lost")
        since = self.lines[max(marks, default=-1) + 1 :]
        lines = [line for line in since if isinstance(line, EvaluationLine) and line.part == "validation"]
        return max(lines, key=lambda line: (line.score, -line.step), default=None)


def write_info(folder: Path, info: RunInfo) -> None:
    """Write run.json, whole or not at all."""
    text = json.dumps(info.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_whole(folder / RUN, text + "\n", "give another --out")


def resume_words(folder: Path) -> str:
    """What goes on with a run: a command, or the call where its network or data came as Python objects."""
    try:
        info = read_info(folder)
    except BundleError:  # damaged: the command says how
        info = None
    if info is not None and (info.model.spec is None or info.data.spec is None):
        return f"pk.train(..., out={str(folder)!r}, resume=True)"
    return f"potemkin train --resume {quote(str(folder))}"


def refuse_taken(folder: Path, overwrite: bool) -> None:
    """BundleError where the folder holds something that would be lost, or is no run at all."""
    if not os.path.isdir(folder) or not os.listdir(folder):  # which say no to a name too long for a path
        return
    if not (folder / RUN).exists():
        raise BundleError(f"{folder} holds something that is no training run; it is not replaced. Give another --out.")
    if not overwrite:
        raise BundleError(
            f"{folder} holds a training run already: go on with it, {resume_words(folder)}; replace it (--overwrite); "
            "or give another --out."
        )


def digest(folder: Path) -> str:
    """Of run.json as it stands."""
    with explained(folder / RUN):
        return sha256((folder / RUN).read_bytes())


def read_journal(folder: str | Path) -> Journal:
    """Read a run's folder; BundleError where it is none, or damaged. A half line at the end is left out: a kill."""
    where = Path(folder)
    info = read_info(where)
    return Journal(where, info, list(_lines(where / LOG)))


def read_info(folder: Path) -> RunInfo:
    """Read run.json; BundleError where the folder holds no run, or a damaged one."""
    path = folder / RUN
    try:
        return RunInfo.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise BundleError(f"{folder} holds no training run: there is no {RUN} in it. Give the --out of one.") from None
    except OSError as problem:
        raise BundleError(f"{path} cannot be read: {problem.strerror or problem}.") from problem
    except ValidationError as problem:
        raise BundleError(
            f"{path} is no valid description of a run: {explain(problem)}. It may be truncated, changed, or of another "
            "version of potemkin: take an untouched copy, or start another run."
        ) from None


def _lines(path: Path) -> Iterator[AnyLine]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as problem:
        raise BundleError(f"{path} cannot be read: {problem.strerror or problem}.") from problem
    for number, line in enumerate(raw.split(b"\n")[:-1], start=1):  # what follows the last newline was never finished
        try:
            yield _LINE.validate_json(line)
        except ValidationError as problem:
            raise BundleError(
                f"Line {number} of {path} is damaged: {explain(problem)}. Take an untouched copy, or remove that line: "
                "checkpoints and weights do not need it."
            ) from None


def append(folder: Path, lines: list[AnyLine]) -> None:
    """Add lines to log.jsonl."""
    text = "".join(line.model_dump_json() + "\n" for line in lines)
    with explained(folder / LOG), (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(text)


def cut_after(folder: Path, step: int) -> None:
    """Drop the lines after the checkpoint at `step`, and what said that the run was over: it writes them again."""
    kept = [line for line in _lines(folder / LOG) if line.step <= step]
    kept = [line for line in kept if not (isinstance(line, MarkLine) and line.what in ENDS)]
    write_whole(folder / LOG, "".join(line.model_dump_json() + "\n" for line in kept))
