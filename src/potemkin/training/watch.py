"""What is looked at between batches: the log, evaluations, alarms, the best weights, checkpoints, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potemkin.errors import BundleError
from potemkin.models.run_folder import WEIGHTS
from potemkin.training import alarms
from potemkin.training.evaluation import Evaluator, Subset
from potemkin.training.export import settle_best, write_next
from potemkin.training.journal import (
    LOG,
    AlarmLine,
    AnyLine,
    Cost,
    EvaluationLine,
    Journal,
    MarkLine,
    Passes,
    StepLine,
    read_journal,
)
from potemkin.training.learner import Meter
from potemkin.training.parallel import Processes
from potemkin.training.settings import Settings
from potemkin.training.state import State, Tensors
from potemkin.training.telling import Ears, Log, Tick
from potemkin.training.window import Window

MOST_ROLLBACKS = 3
LOG_EVERY = 50


@dataclass
class Pace:
    """How long the run is, in steps: in all, in an epoch, on one batch."""

    steps: int
    epoch: int
    batch: int


class Watch:
    """Looks after a run, and says in `state.stopped` when it is over early."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        pace: Pace,
        processes: Processes,
        tensors: Tensors,
        evaluator: Evaluator,
        subsets: list[Subset],
        meter: Meter,
        ears: Ears = Ears(),
    ) -> None:
        self.folder, self.settings, self.pace, self.processes = folder, settings, pace, processes
        self.tensors, self.evaluator, self.subsets = tensors, evaluator, subsets
        self.meter, self.ears, self.log = meter, ears, Log(folder, processes)
        self.state, self.window = State(), Window(processes.device)
        self.evaluations: dict[str, list[EvaluationLine]] = {part.part: [] for part in subsets}
        self._began, self._first = time.monotonic(), 0

    def begin(self) -> None:
        """Write the checkpoint that a run killed before its first epoch starts again from."""
        self.log.open(self.state.step)
        self._save()

    def resume(self, step: int, journal: Journal) -> None:
        """Go on from the checkpoint at `step`, with the log cut there."""
        self.state = State.of(self.tensors.read(step, as_it_was=True))
        self._began, self._first = time.monotonic(), step
        self.evaluations = {part: journal.evaluations(part) for part in self.evaluations}
        best = journal.best()
        if (None if best is None else list(best.score)) != self.state.best:
            raise BundleError(
                f"{self.folder / LOG} does not tell the evaluations that the checkpoint at step {step} knows: lines "
                "were lost. Take an untouched copy, or start another run."
            )
        self.state.stopped, self.state.interrupted = None, False  # whoever resumes wants it to go on
        self.log.open(self.state.step)
        there = not self.processes.first or settle_best(self.folder, self.state.kept)
        if self.processes.any(not there):
            self._lose_best()

    def _lose_best(self) -> None:
        """The best weights so far are gone: the best is that of the evaluations to come, if any come."""
        if self.state.step >= self.pace.steps:
            raise BundleError(
                f"{self.folder / WEIGHTS} is gone, or not what this run wrote at its best evaluation, and the run is "
                "at its end: put it back, or train again into another folder."
            )
        self.state.best, self.state.kept, self.state.since_best = None, None, 0
        self.mark("lost", f"{WEIGHTS} was not what this run kept: the best is sought from here on")

    def over(self) -> bool:
        """Whether nothing more is to be learnt."""
        return self.state.step >= self.pace.steps or self.state.interrupted or self.state.stopped is not None

    def after_step(self, learning_rate: float) -> None:
        """Look at the run after a step; in the middle of a batch nothing could go on from here, so only tell."""
        step, last = self.state.step, self.state.step >= self.pace.steps
        line: AnyLine | None = None
        if last or step % self.pace.batch == 0:
            line = self._look(step, last, learning_rate)
        self._tell(line, (step - self._first) * self.settings.batch_size)

    def _look(self, step: int, last: bool, learning_rate: float) -> AnyLine | None:
        """Log, evaluate, save and stop where it is time for it."""
        settings = self.settings
        asked = self.processes.any(self.ears.stop_asked()) if self._looks_up(step) else False
        evaluates = last or self._due(step, settings.evaluate_every or self.pace.epoch)
        saves = last or asked or self._due(step, settings.checkpoint_every or self.pace.epoch)
        line: AnyLine | None = None
        if evaluates or saves or self._due(step, settings.log_every or LOG_EVERY):
            line = self._log_steps(learning_rate)
            if line.loss is None and self.state.stopped is not None:
                return line  # spoilt weights are no checkpoint to go on from
        if evaluates and self.state.stopped is None:
            self._tell(None, 0, evaluating=True)
            line = self._evaluate()
        if asked and not last and self.state.stopped is None:
            self.state.interrupted = True
        if saves or evaluates or self.over():
            self._save()
        return line

    def _due(self, step: int, every: int) -> bool:
        """Whether a multiple of `every` was reached since the batch before."""
        return step // every > (step - self.pace.batch) // every

    def _looks_up(self, step: int) -> bool:
        """Whether the processes agree on stopping here: after every batch alone, seldom where that is a message."""
        return self.processes.world == 1 or (step // self.pace.batch) % 10 == 0

    @property
    def _epoch(self) -> float:
        return self.state.step / self.pace.epoch

    @property
    def _seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self._began

    def _count(self) -> None:
        """What the passes of all processes have cost since the last count."""
        counted = [round(k) for k in self.processes.total(self.meter.numbers())]
        self.meter.reset()
        self.state.cost = [old + new for old, new in zip(self.state.cost, counted, strict=True)]

    def _log_steps(self, learning_rate: float) -> StepLine:
        self._count()
        means = self.window.flush(self.processes)
        if self.processes.any(not self.tensors.finite()):
            means["loss"] = None  # it was finite yet, but what was learnt from it is not
        line = StepLine(
            step=self.state.step, epoch=self._epoch, seconds=self._seconds, cost=_cost(self.state.cost),
            learning_rate=learning_rate, **means,  # type: ignore[arg-type]
        )  # fmt: skip
        self.log.write([line])
        self._raise_alarms(alarms.of_step(line))
        return line

    def _evaluate(self) -> EvaluationLine:
        weights: Literal["current", "average"] = "average" if self.tensors.averaged else "current"
        self.tensors.load_into(self.evaluator.judged.net)
        lines: list[EvaluationLine] = []
        for part in self.subsets:
            line = self.evaluator.judge(part, self.state.step, self._epoch, weights)
            lines.append(line)
        self._count()
        lines = [line.model_copy(update={"cost": _cost(self.state.cost), "seconds": self._seconds}) for line in lines]
        for line in lines:
            self.evaluations[line.part].append(line)
        self.log.write(lines)
        progress = self.state.step / self.pace.steps
        found = alarms.of_evaluations(self.evaluations["train"], self.evaluations["validation"], progress)
        self._raise_alarms(found)
        self._keep_best(lines[-1])
        if found["catastrophic_overfitting"] is None:
            self.state.good = self.state.step
        return lines[-1]

    def _keep_best(self, line: EvaluationLine) -> None:
        best, patience = self.state.best, self.settings.patience
        self.state.since_best += 1
        if best is None or list(line.score) > best:
            self.state.best, self.state.since_best = list(line.score), 0
            if self.processes.first:
                self.state.kept = write_next(self.folder, self.evaluator.judged.net)
            self.mark("best", f"validation robust accuracy {line.robust_accuracy}, clean {line.clean_accuracy}")
        if patience is not None and self.state.since_best >= patience:
            self.state.stopped = f"nothing better on validation in {patience} evaluations"

    def _raise_alarms(self, found: Mapping[str, AlarmLine | None]) -> None:
        """Tell each alarm once while it lasts, and do what the settings say."""
        for name, alarm in found.items():
            if alarm is None or (name in self.state.active and name != "not_a_number"):  # with which nothing may train
                continue
            goes_back = self._may_go_back(name)
            stops = name in self.settings.stop_on or (name == "not_a_number" and not goes_back)
            line = alarm.model_copy(update={"action": "stopped" if stops else "rolled back" if goes_back else "told"})
            self.log.write([line])
            self._tell(line, 0)
            if stops:
                self.state.stopped = f"alarm {name}"
            elif goes_back:
                self._go_back()
        still = {name for name, alarm in found.items() if alarm is not None}
        self.state.active = sorted(({*self.state.active} - {*found}) | still)

    def _may_go_back(self, name: str) -> bool:
        if not self.settings.rollback or self.state.good is None or self.state.rollbacks >= MOST_ROLLBACKS:
            return False
        if self.state.step >= self.pace.steps:  # no step is left in which it could recover
            return False
        return alarms.ALARMS[name].goes_back

    def _go_back(self) -> None:
        """The last good weights, other random streams, and PGD for an epoch; the step goes on."""
        assert self.state.good is not None
        self.tensors.read(self.state.good)
        self.state.rollbacks += 1
        self.state.recovers_until = self.state.step + self.pace.epoch
        self.mark("rolled back", f"to the weights of step {self.state.good}; what is attacked, by PGD for an epoch")

    def _save(self) -> None:
        good = self.state.good
        spared = {good} if good is not None and self.settings.rollback else set()
        self.tensors.save(self.state, self._seconds, self.settings.keep_checkpoints, spared)
        if self.processes.first:
            settle_best(self.folder, self.state.kept)

    def mark(self, what: Any, message: str, *, once: bool = False) -> None:
        """Say in the log that something happened; `once`: unless it says so already."""
        line = MarkLine(step=self.state.step, epoch=self._epoch, what=what, message=message)
        if not (once and self.processes.first and line in read_journal(self.folder).marks()):
            self.log.write([line])

    def tell_audit(self, settled: int, total: int) -> None:
        """Tell how far the audit at the end is."""
        self._tell(None, 0, audited=(settled, total))

    def _tell(self, line: AnyLine | None, rows: int, **more: Any) -> None:
        self.ears.tell(Tick(self.state.step, self.pace.steps, self._epoch, self._seconds, rows, line, **more))


def _cost(numbers: list[int]) -> Cost:
    pairs = [Passes(forwards=numbers[k], backwards=numbers[k + 1]) for k in (0, 2, 4)]
    return Cost(attack=pairs[0], learning=pairs[1], evaluation=pairs[2])
