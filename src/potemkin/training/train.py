"""`pk.train`: a network, data and a recipe in; a folder with a robust network, its log and its audit out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from potemkin.core.explain import first_line
from potemkin.core.notation import parse
from potemkin.data.load import load_data
from potemkin.data.source import DataSource
from potemkin.errors import ConfigError, TrainingError, suggest
from potemkin.evaluate.audit import Progress, audit
from potemkin.evaluate.prepare import as_classifier
from potemkin.evaluate.record import Record
from potemkin.models.classifier import Classifier
from potemkin.models.folding import Folding
from potemkin.models.run_folder import WEIGHTS
from potemkin.models.weights import load_weights
from potemkin.training.evaluation import Evaluator, subset
from potemkin.training.folder import finish, open_folder, start_point
from potemkin.training.journal import Journal, read_journal
from potemkin.training.learner import Learner
from potemkin.training.parallel import Processes, Replicas, start_processes
from potemkin.training.recipes.base import Recipe
from potemkin.training.settings import Settings
from potemkin.training.state import Tensors
from potemkin.training.stream import Share, Stream
from potemkin.training.task import Task, only
from potemkin.training.trainer import Trainer
from potemkin.training.watch import Ears, Pace, Tick, Watch

AUDIT = ("apgd()", "apgd(objective=DLR(), targets=9)")
"""Of the audit at the end: APGD on cross-entropy, then at each of the nine likeliest classes."""


@dataclass
class Run:
    """What a training run left: its folder, its log, the best network in eval mode, the audit at the end."""

    folder: Path
    journal: Journal
    model: Classifier
    record: Record | None
    """None where the run was interrupted, or no audit was asked for, or another process made it."""

    def __repr__(self) -> str:
        best = self.journal.best()
        validated = "" if best is None else f", validation robust accuracy {best.robust_accuracy}"
        audited = "" if self.record is None else f", audited {self.record.rates.robust_accuracy}"
        alarms = sorted({alarm.name for alarm in self.journal.alarms()})
        return f"Run({str(self.folder)!r}{validated}{audited}, alarms: {', '.join(alarms) or 'none'})"


def train(
    model: Classifier | torch.nn.Module,
    data: object,
    recipe: Recipe | str,
    *,
    out: str | Path,
    validation: object = None,
    extra: object = None,
    test: object = None,
    overwrite: bool = False,
    resume: bool = False,
    settings: Settings = Settings(),
    progress: Callable[[Tick], None] | None = None,
    **changes: Any,
) -> Run:
    """Train a network to be robust, watch how, keep what was best on validation, and audit it.

    Args:
        model: a `Classifier`, or an nn.Module that takes inputs in [0, 1]; trained from the weights it has, in place:
            afterwards it holds the last weights, `Run.model` the best.
        data: training data, anything that `load_data` reads.
        recipe: such as `recipes.trades(eps=8/255)`, or its notation.
        out: folder of the run: run.json, log.jsonl, checkpoints, model.safetensors, audit/.
        validation: data to choose the best weights by; None: a part of the training data is held out.
        extra: more training data (synthetic ones), mixed in at the recipe's share.
        test: data for the audit at the end; None: the validation data, which the weights were chosen by.
        overwrite: replace a run that is there.  resume: go on with it, from its newest checkpoint.
        settings: a `Settings`; its fields may also be given by name: `epochs=20, batch_size=256`.
        progress: called after every step.

    Returns: a `Run`. Under torchrun every process returns, the first one with the record.

    Cost: counted in every line of the log, by purpose: attack, learning, evaluation.

    Raises: ConfigError, DataError, ModelError, BundleError before anything is learnt; TrainingError where the run
        cannot go on (disk, memory), with its last checkpoint intact.

    Example:
        >>> import tempfile, torch, potemkin as pk
        >>> x, y = torch.rand(64, 4), torch.arange(64) % 2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = pk.train(torch.nn.Linear(4, 2), (x, y), pk.recipes.fast(eps=0.1), out=f"{folder}/run",
        ...                    epochs=1, batch_size=16)
        >>> run.record.n
        6
    """
    chosen = parse(recipe, kind="recipe") if isinstance(recipe, str) else recipe
    if isinstance(recipe, torch.Tensor | np.ndarray):
        raise ConfigError("Give inputs and labels as one argument: pk.train(net, (x, y), recipe, out=...).")
    if not isinstance(chosen, Recipe):
        raise ConfigError(f"recipe={recipe!r} is no training recipe; for example pk.recipes.pgd_at(eps=0.1, steps=7).")
    task = Task(
        as_classifier(model),
        load_data(data),
        chosen,
        _changed(settings, changes),
        validation=None if validation is None else load_data(validation),
        extra=None if extra is None else load_data(extra),
    )
    ears = Ears() if progress is None else Ears(progress)
    return run_task(task, Path(out), overwrite, resume, None if test is None else load_data(test), ears)


def run_task(
    task: Task,
    folder: Path,
    overwrite: bool = False,
    resume: bool = False,
    test: DataSource | None = None,
    ears: Ears = Ears(),
) -> Run:
    """Carry out a task in a folder; torch's global generators come back as they were."""
    if test is not None:
        task.check_like(test)
    processes = start_processes(task.model.device)
    try:
        devices = [processes.device] if processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            judged, record = _carry_out(task, folder, processes, overwrite, resume, test, ears)
        return Run(folder, read_journal(folder), judged, record)
    finally:
        processes.close()


def _carry_out(
    task: Task,
    folder: Path,
    processes: Processes,
    overwrite: bool,
    resume: bool,
    test: DataSource | None,
    ears: Ears,
) -> tuple[Classifier, Record | None]:
    """All that needs the processes; whatever holds their group is gone when it returns."""
    judged = _judged(task, processes)
    trainer = _trainer(task, folder, processes, judged, ears)
    with open_folder(folder, task, trainer, processes, overwrite, resume):
        start_point(folder, trainer, processes)
        _run(trainer)
        record = finish(folder, trainer, processes, lambda: _audit(task, folder, judged, test, trainer.watch))
        trainer.watch.close()
    return judged, record


def _run(trainer: Trainer) -> None:
    try:
        trainer.run()
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
        if not memory:
            raise
        raise TrainingError(
            f"Memory ran out at step {trainer.state.step} ({first_line(error)}). Lower batch_size, or raise accumulate "
            "(the same batch in more parts), or use precision='bf16'; the checkpoints are intact."
        ) from error


def _judged(task: Task, processes: Processes) -> Classifier:
    """A plain copy of the network, on this process's device, whose weights are set before it is judged."""
    given = task.model
    if processes.device != given.device:
        given.net.to(processes.device)
        given.device = processes.device
    return Classifier(
        copy.deepcopy(given.net).eval(),
        given.box,
        classes=given.classes,
        name=given.name,
        preprocessing=copy.deepcopy(given.preprocessing),
    )


def _trainer(task: Task, folder: Path, processes: Processes, judged: Classifier, ears: Ears = Ears()) -> Trainer:
    settings, recipe, model = task.settings, task.recipe, task.model
    if settings.batch_size % (settings.accumulate * processes.world) or task.extra_rows % processes.world:
        raise ConfigError(
            f"batch_size={settings.batch_size} cannot be shared equally by {processes.world} processes in "
            f"{settings.accumulate} parts each: take a multiple of {settings.accumulate * processes.world}."
        )
    if recipe.differentiates_twice and settings.parallel == "fsdp" and processes.world > 1:
        raise ConfigError(f"{recipe!r} differentiates twice, which sharded weights do not allow: use parallel='ddp'.")
    stream = Stream(
        task.data, task.trained, settings.batch_size, settings.seed, Share(processes.rank, processes.world),
        extra=task.extra, extra_rows=task.extra_rows, replays=recipe.replays, workers=settings.workers,
        box=task.box, classes=model.classes,
    )  # fmt: skip
    if settings.channels_last and not (processes.world > 1 and settings.parallel == "fsdp"):
        # Sharded parameters must be contiguous; inputs in channels-last are enough for the kernels to follow.
        model.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    replicas = Replicas(model.net, processes, settings)
    learner = Learner(
        replicas.net, replicas.plain, model.box, model.preprocessing, model.classes,
        settings.precision == "bf16", settings.channels_last, _folding(task, replicas),
    )  # fmt: skip
    evaluator = Evaluator(judged, recipe, settings.evaluation_steps, settings.seed, processes, learner.meter)
    subsets = [
        subset(part, *task.judged_on(part), processes, task.box, model.classes) for part in ("train", "validation")
    ]
    steps = max(1, round(settings.epochs * stream.steps_per_epoch))
    pace = Pace(steps, stream.steps_per_epoch, recipe.replays)
    optimiser = settings.optimiser.make(p for p in replicas.bare.parameters() if p.requires_grad)
    tensors = Tensors(folder, replicas, optimiser, recipe, processes)
    watch = Watch(folder, settings, pace, processes, tensors, evaluator, subsets, learner.meter, ears)
    return Trainer(learner, replicas, recipe, settings, stream, processes, optimiser, tensors, watch)


def _folding(task: Task, replicas: Replicas) -> Folding:
    """What the passes of the attack can leave out; what it is decided on does not depend on the weights."""
    settings = task.settings
    if not settings.fold or settings.compile or replicas.sharded or task.recipe.inner == "train":
        return Folding([])
    box = task.model.box
    low, high = (box.low, box.high) if box.bounded else (0.0, 1.0)
    random = torch.Generator().manual_seed(0)
    x = low + (high - low) * torch.rand(2, *task.data.input_shape, generator=random)
    x = x.to(task.model.device)
    inside = x if task.model.preprocessing is None else task.model.preprocessing(x)
    return Folding.of(replicas.plain, inside, torch.bfloat16 if settings.precision == "bf16" else None)


def _audit(task: Task, folder: Path, judged: Classifier, test: DataSource | None, watch: Watch) -> Record | None:
    """Audit the best weights as they stand in the folder; the first interrupt ends it with what is done."""
    load_weights(judged.net, folder / WEIGHTS)
    if not task.settings.audit_examples:
        return None
    source = test or task.validation or only(task.data, task.held_out)
    asked_before = watch.ears.stop_asked()

    def told(progress: Progress) -> None:
        watch.tell_audit(progress.settled, progress.total)
        if watch.ears.stop_asked() and not asked_before:
            raise KeyboardInterrupt

    return audit(
        judged, source, task.recipe.threats[0], AUDIT, seed=task.settings.seed, progress=told,
        examples=min(task.settings.audit_examples, len(source)), out=folder / "audit", overwrite=True,
    )  # fmt: skip


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    unknown = sorted(set(changes) - set(vars(settings)))
    if unknown and unknown[0] in ("lr", "learning_rate", "momentum", "weight_decay"):
        raise ConfigError(
            f"{unknown[0]} belongs to the optimiser: optimiser=SGD(learning_rate=0.1), or AdamW(learning_rate=0.002)."
        )
    if unknown:
        raise ConfigError(
            f"train() has no setting {unknown[0]!r}.{suggest(unknown[0], vars(settings))} Settings: "
            f"{', '.join(sorted(vars(settings)))}."
        )
    return replace(settings, **changes)
