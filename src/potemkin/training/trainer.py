"""The loop: batch, adversarial examples from the current weights, loss, step, average, evaluation, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from potemkin.attacks.recipes.pgd import pgd
from potemkin.core.random import row_keys, text_key
from potemkin.data.source import Batch
from potemkin.training import alarms, averages, checkpoint
from potemkin.training.board import Board
from potemkin.training.evaluation import Evaluator, Subset
from potemkin.training.examples import Attacked, Examples
from potemkin.training.export import write_best
from potemkin.training.inner import Adversary
from potemkin.training.journal import AlarmLine, AnyLine, Cost, EvaluationLine, MarkLine, Passes, StepLine, append
from potemkin.training.learner import Learner
from potemkin.training.parallel import Processes, Replicas
from potemkin.training.recipes.base import Recipe
from potemkin.training.settings import Settings
from potemkin.training.stream import Stream, as_examples
from potemkin.training.weights import moved_uphill
from potemkin.training.window import Window

STEP = text_key("step")
MOST_ROLLBACKS = 3


@dataclass(frozen=True)
class Tick:
    """What a progress display may show."""

    step: int
    steps: int
    epoch: float
    seconds: float
    rows: int
    """Training rows of all processes since this process started."""
    line: AnyLine | None = None


@dataclass
class State:
    """What a checkpoint holds beside tensors: all that decides how the run goes on."""

    step: int = 0
    seconds: float = 0.0
    cost: list[int] = field(default_factory=lambda: [0] * 6)
    best: list[int] | None = None
    """[held, clean, step] of the best validation so far."""
    since_best: int = 0
    good: int | None = None
    """Step of the last checkpoint that was evaluated without catastrophic overfitting."""
    rollbacks: int = 0
    recovers_until: int = 0
    active: list[str] = field(default_factory=list)
    """Alarms that are told already."""
    stopped: str | None = None


class Trainer:
    """One run, from its state to its end."""

    def __init__(
        self,
        learner: Learner,
        replicas: Replicas,
        recipe: Recipe,
        settings: Settings,
        stream: Stream,
        evaluator: Evaluator,
        subsets: list[Subset],
        folder: Path,
        processes: Processes,
        steps: int,
    ) -> None:
        self.learner, self.replicas, self.recipe, self.settings = learner, replicas, recipe, settings
        self.stream, self.evaluator, self.subsets = stream, evaluator, subsets
        self.folder, self.processes, self.steps = folder, processes, steps
        self.state = State()
        self.evaluations: dict[str, list[EvaluationLine]] = {part.part: [] for part in subsets}
        self.optimiser = settings.optimiser.make(p for p in replicas.bare.parameters() if p.requires_grad)
        self.average: dict[str, Tensor] | None = None
        if recipe.average is not None:
            self.average = {name: t.detach().clone() for name, t in self._weights().items()}
        self.board: Board | None = None
        self.stop_asked: Callable[[], bool] = lambda: False
        self.tell: Callable[[Tick], None] = lambda tick: None

    # The loop -----------------------------------------------------------------------------------------------------

    def run(self) -> State:
        """Train until the last step, or until something says stop."""
        self._window, self._began, first = Window(self.processes.device), time.monotonic(), self.state.step
        for batches in self.stream.from_step(first):
            if self.state.step >= self.steps or self.state.stopped is not None:
                break
            parts, carried = self._parts(batches), None
            for _ in range(self.recipe.replays):
                carried = self._step(parts, carried)
                self._after_step(first)
                if self.state.step >= self.steps or self.state.stopped is not None:
                    break
        return self.state

    def _step(self, parts: list[Examples], carried: list[Attacked | None] | None) -> list[Attacked | None]:
        """One step of the optimiser on one batch, cut into parts; returns what its replay goes on from."""
        self._set_rate()
        self.replicas.bare.train()
        left: list[Attacked | None] = []
        for number, given in enumerate(parts):
            attacked = carried[number] if carried and carried[number] is not None else self._attack(given)
            # Shards that wait to be exchanged would get mixed with the gradient that moves weights uphill.
            exchanges = number == len(parts) - 1 or (self.replicas.sharded and self.recipe.awp > 0)
            with self._uphill(given, attacked), self.replicas.accumulating(last=exchanges):
                learnt = self.recipe.loss(self.learner, given, attacked)
                (learnt.loss / len(parts)).backward()  # type: ignore[no-untyped-call]
            self._window.add(learnt, attacked, 1 / len(parts))
            left.append(None if attacked is None else self.recipe.carry(self.learner, given, attacked))
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.replicas.bare.parameters(), self.settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.replicas.settle()
        self.state.step += 1
        if self.average is not None:
            weight = self.recipe.average.weight(self.state.step, self.state.step / self.steps)
            averages.update(self.average, self._weights(), weight)
        return left

    def _attack(self, given: Examples) -> Attacked | None:
        recipe = self.recipe
        with self.replicas.quiet():
            if self.state.step < self.state.recovers_until and recipe.adversary is not None:
                within = recipe.threats[0]
                eps = torch.full((len(given),), float(within.eps), device=given.x.device)
                return _recovery(recipe).search(self.learner, given, within, eps)
            return recipe.attack(self.learner, given)

    def _uphill(self, given: Examples, attacked: Attacked | None) -> AbstractContextManager[None]:
        if not self.recipe.awp or given.progress < self.recipe.awp_after:
            return nullcontext()
        return moved_uphill(
            self.replicas.bare, self.recipe.awp, lambda: self.recipe.loss(self.learner, given, attacked).loss
        )

    def _parts(self, batches: list[Batch]) -> list[Examples]:
        """The batch on the device, augmented, cut into parts; torch's own draws (dropout) begin at the step's place."""
        step, world = self.state.step, self.processes.world
        rank = torch.tensor(self.processes.rank)
        words = row_keys(self.settings.seed, torch.tensor([step]), STEP, rank, torch.tensor(world))
        torch.manual_seed(int(words[0, 0]) << 20 ^ int(words[0, 1]))
        given = as_examples(
            batches, self.processes.device, self.settings.seed, step // self.stream.steps_per_epoch,
            self.state.rollbacks, step / self.steps, step,
        )  # fmt: skip
        for part in self.recipe.augment:
            given = part.apply(given)
        size = len(given) // self.settings.accumulate
        return [given.rows(k * size, (k + 1) * size) for k in range(self.settings.accumulate)]

    def _set_rate(self) -> None:
        # In the middle of the step: at its ends, schedules that begin or end at 0 would waste a step.
        factor = self.settings.schedule.factor((self.state.step + 0.5) / self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.optimiser.learning_rate * factor

    # Between steps ------------------------------------------------------------------------------------------------

    def _after_step(self, first: int) -> None:
        step, last = self.state.step, self.state.step >= self.steps
        line: AnyLine | None = None
        if last or step % self.recipe.replays == 0:  # in the middle of a batch nothing could go on from here
            line = self._look(step, last)
        rows = (step - first) * self.settings.batch_size
        self.tell(Tick(step, self.steps, self._epoch, self._seconds, rows, line))

    def _look(self, step: int, last: bool) -> AnyLine | None:
        """Log, evaluate, save and stop where it is time for it."""
        asked = self.processes.agree(self.stop_asked()) if self._looks_up(step) else False
        evaluates = last or self._due(step, self.settings.evaluate_every)
        saves = last or asked or self._due(step, self.settings.checkpoint_every)
        line: AnyLine | None = None
        if evaluates or saves or self._due(step, self.settings.log_every):
            line = self._log_steps()
        if evaluates and self.state.stopped is None:
            line = self._evaluate()
        if asked and not last and self.state.stopped is None:
            self.state.stopped = "asked to"
        if saves or evaluates or self.state.stopped is not None:
            self._save()
        return line

    def _due(self, step: int, every: int | None) -> bool:
        """Whether a multiple of `every` was reached since the batch before."""
        every = every or self.stream.steps_per_epoch
        return step // every > (step - self.recipe.replays) // every

    def _looks_up(self, step: int) -> bool:
        """Whether the processes agree on stopping here: every step alone, seldom where that is a message."""
        return self.processes.world == 1 or (step // self.recipe.replays) % 10 == 0

    @property
    def _epoch(self) -> float:
        return self.state.step / self.stream.steps_per_epoch

    @property
    def _seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self._began

    def _log_steps(self) -> StepLine:
        meter = self.learner.meter
        counted = [round(k) for k in self.processes.total(meter.numbers())]
        meter.set([0] * 6)
        self.state.cost = [old + new for old, new in zip(self.state.cost, counted, strict=True)]
        line = StepLine(
            step=self.state.step, epoch=self._epoch, seconds=self._seconds, cost=_cost(self.state.cost),
            learning_rate=self.optimiser.param_groups[0]["lr"], **self._window.flush(self.processes),  # type: ignore[arg-type]
        )  # fmt: skip
        self._write([line])
        self._raise_alarms(alarms.of_steps([line]), of=("not_a_number", "dead_attack"))
        return line

    def _evaluate(self) -> EvaluationLine:
        weights: Literal["current", "average"] = "current" if self.average is None else "average"
        self.load_judged()
        lines: list[EvaluationLine] = []
        for part in self.subsets:
            line = self.evaluator.judge(part, self.state.step, self._epoch, weights)
            self.evaluations[part.part].append(line)
            self.state.cost[4] += self.evaluator.passes[0]
            self.state.cost[5] += self.evaluator.passes[1]
            lines.append(line)
        self._write(lines)
        found = alarms.of_evaluations(self.evaluations["train"], self.evaluations["validation"])
        collapsed = any(alarm.name == "catastrophic_overfitting" for alarm in found)
        self._raise_alarms(found, of=tuple(alarms.EVALUATED))
        self._keep_best(lines[-1])
        if not collapsed:
            self.state.good = self.state.step
        return lines[-1]

    def _keep_best(self, line: EvaluationLine) -> None:
        score = [line.robust, line.clean, line.step]
        best = self.state.best
        self.state.since_best += 1
        if best is None or score[:2] > best[:2]:
            self.state.best, self.state.since_best = score, 0
            if self.processes.first:
                write_best(self.folder, self.evaluator.judged.net)
            self._mark("best", f"validation robust accuracy {line.robust_accuracy}, clean {line.clean_accuracy}")
        if self.settings.patience is not None and self.state.since_best >= self.settings.patience:
            self.state.stopped = f"no better validation robust accuracy in {self.settings.patience} evaluations"

    def _raise_alarms(self, found: list[AlarmLine], of: tuple[str, ...]) -> None:
        """Tell each alarm once while it lasts, and do what the settings say."""
        for alarm in found:
            if alarm.name in self.state.active and alarm.name != "not_a_number":  # which nothing may train on with
                continue
            goes_back = self._may_go_back(alarm.name)
            stops = alarm.name in self.settings.stop_on or (alarm.name == "not_a_number" and not goes_back)
            action: Literal["told", "stopped", "rolled back"] = (
                "stopped" if stops else "rolled back" if goes_back else "told"
            )
            line = alarm.model_copy(update={"action": action})
            self._write([line])
            self.tell(Tick(self.state.step, self.steps, self._epoch, self._seconds, 0, line))
            if stops:
                self.state.stopped = f"alarm {alarm.name}"
            elif goes_back:
                self._go_back()
        self.state.active = sorted(({*self.state.active} - {*of}) | {alarm.name for alarm in found})

    def _may_go_back(self, name: str) -> bool:
        if not self.settings.rollback or self.state.good is None or self.state.rollbacks >= MOST_ROLLBACKS:
            return False
        return name in ("catastrophic_overfitting", "not_a_number")

    def _go_back(self) -> None:
        """The last good weights, other random streams, and PGD for an epoch; the step goes on."""
        assert self.state.good is not None
        self._read(self.state.good)
        self.state.rollbacks += 1
        self.state.recovers_until = self.state.step + self.stream.steps_per_epoch
        self._mark("rolled back", f"to the weights of step {self.state.good}; PGD for an epoch")

    def _mark(self, what: Any, message: str) -> None:
        self._write([MarkLine(step=self.state.step, epoch=self._epoch, what=what, message=message)])

    def _write(self, lines: list[Any]) -> None:
        if self.processes.first:
            append(self.folder, lines)
            if self.board is not None:
                self.board.add(lines)

    # State --------------------------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {name: t for name, t in self.replicas.bare.state_dict().items() if isinstance(t, Tensor)}

    def load_judged(self) -> None:
        """The weights that are evaluated and exported, into the plain copy."""
        weights = self.replicas.gather(self.average if self.average is not None else self._weights())
        self.evaluator.judged.net.load_state_dict(weights)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything with a shape that a checkpoint holds, by name."""
        found = {f"model.{name}": t for name, t in self._weights().items()}
        for name, parameter in self.replicas.bare.named_parameters():
            held = self.optimiser.state.get(parameter, {})
            found |= {f"optimiser.{name}.{key}": t for key, t in held.items() if isinstance(t, Tensor)}
        return found | {f"average.{name}": t for name, t in (self.average or {}).items()}

    def _save(self) -> None:
        state = {**vars(self.state), "seconds": self._seconds}
        checkpoint.save(self.folder, self.state.step, self._tensors(), state, self.processes)
        if self.processes.first:
            spared = {self.state.good} if self.state.good is not None and self.settings.rollback else set()
            checkpoint.tidy(self.folder, self.settings.keep_checkpoints, spared)

    def begin(self) -> None:
        """Write the checkpoint that a run killed before its first epoch starts again from."""
        self._began = time.monotonic()
        self._save()

    def resume(self, step: int, evaluations: dict[str, list[EvaluationLine]]) -> None:
        """Go on from the checkpoint at `step`."""
        self._began = time.monotonic()
        self.state = State(**self._read(step))
        self.evaluations = {part: list(evaluations.get(part, [])) for part in self.evaluations}

    def _read(self, step: int) -> dict[str, Any]:
        """Weights, optimiser and average from a checkpoint; returns its numbers."""
        state, names = checkpoint.numbers(self.folder, step)
        self._prepare_optimiser(names)
        tensors = self._tensors()
        read = {name: torch.empty_like(t, memory_format=torch.contiguous_format) for name, t in tensors.items()}
        checkpoint.load(self.folder, step, read)
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(read[name])
        return state

    def _prepare_optimiser(self, names: list[str]) -> None:
        """A new optimiser has no state to read into; give it what the checkpoint has (numbers, or as its parameter)."""
        for name, parameter in self.replicas.bare.named_parameters():
            prefix = f"optimiser.{name}."
            keys = [each.removeprefix(prefix) for each in names if each.startswith(prefix)]
            held = self.optimiser.state[parameter] if keys else {}
            for key in keys:
                if key not in held:
                    held[key] = torch.zeros(()) if key == "step" else torch.zeros_like(parameter)


def _recovery(recipe: Recipe) -> Adversary:
    """What is trained against after a collapse: PGD, for an epoch (Li et al. 2020, FastAdv+)."""
    return Adversary(pgd(steps=7), mode=recipe.inner)


def _cost(numbers: list[int]) -> Cost:
    pairs = [Passes(forwards=numbers[k], backwards=numbers[k + 1]) for k in (0, 2, 4)]
    return Cost(attack=pairs[0], learning=pairs[1], evaluation=pairs[2])
