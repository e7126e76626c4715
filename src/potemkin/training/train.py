"""`pk.train`: a network, data and a recipe in; a folder with a robust network, its log and its audit out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from potemkin.core.canonical import show
from potemkin.core.explain import first_line
from potemkin.core.memory import out_of_memory
from potemkin.core.notation import parse
from potemkin.data.load import load_data
from potemkin.data.source import DataSource
from potemkin.errors import BundleError, ConfigError, TrainingError, suggest
from potemkin.evaluate.audit import Progress, audit
from potemkin.evaluate.bundle_read import read_bundle
from potemkin.evaluate.prepare import as_classifier
from potemkin.evaluate.record import Record
from potemkin.models.classifier import Classifier
from potemkin.models.run_folder import WEIGHTS
from potemkin.models.weights import load_weights
from potemkin.training.assemble import judged_copy, trainer_of
from potemkin.training.folder import finish, open_folder, start_point
from potemkin.training.journal import AUDIT, Journal, read_journal
from potemkin.training.parallel import Processes, start_processes
from potemkin.training.recipes.base import Recipe
from potemkin.training.settings import Settings
from potemkin.training.task import Task, only
from potemkin.training.telling import Ears, Tick
from potemkin.training.trainer import Trainer
from potemkin.training.watch import Watch

FINAL_ATTACKS = ("apgd()", "apgd(objective=DLR(), targets=9)")
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
            afterwards it holds the last weights, `Run.model` the best. With several processes use `Run.model`: FSDP
            leaves its shards in the network, `sync_batchnorm` layers that need the processes.
        data: training data, anything that `load_data` reads.
        recipe: such as `recipes.trades(eps=8/255)`, or its notation.
        out: folder of the run: run.json, log.jsonl, checkpoints, model.safetensors, audit/.
        validation: data to choose the best weights by; None: a part of the training data is held out.
        extra: more training data (synthetic ones), mixed in at the recipe's share.
        test: data for the audit at the end; None: the validation data, which the weights were chosen by.
        overwrite: replace a run that is there.  resume: go on with it, from its newest checkpoint.
        settings: a `Settings`; its fields may also be given by name: `epochs=20, batch_size=256`.
        progress: called after every step, when an evaluation begins, and during the audit; None shows nothing.

    Returns: a `Run`. Under torchrun every process returns, the first one with the record.

    Cost: counted in every line of the log, by purpose: attack, learning, evaluation.

    Raises: ConfigError, DataError, ModelError or BundleError before anything is learnt. Later DataError, when a bad
        example first comes; TrainingError, where memory or the disk of a checkpoint runs out; BundleError, where
        another file of the run cannot be written. The last checkpoint stays intact.

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
        test=None if test is None else load_data(test),
    )
    for note in task.notes:
        warnings.warn(note, stacklevel=2)
    ears = Ears() if progress is None else Ears(progress)
    return run_task(task, Path(out), overwrite, resume, ears)


def run_task(
    task: Task,
    folder: Path,
    overwrite: bool,
    resume: bool,
    ears: Ears,
) -> Run:
    """Carry out a task in a folder; torch's global generators come back as they were."""
    processes = start_processes(task.model.device)
    try:
        devices = [processes.device] if processes.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            judged, record = _carry_out(task, folder, processes, overwrite, resume, ears)
        return Run(folder, read_journal(folder), judged, record)
    finally:
        processes.close()


def _carry_out(
    task: Task,
    folder: Path,
    processes: Processes,
    overwrite: bool,
    resume: bool,
    ears: Ears,
) -> tuple[Classifier, Record | None]:
    """All that needs the processes; whatever holds their group is gone when it returns."""
    judged = judged_copy(task, processes)
    trainer = trainer_of(task, folder, processes, judged, ears)
    with open_folder(folder, task, trainer, processes, overwrite, resume):
        start_point(folder, trainer, processes)
        _run(trainer)
        record = finish(folder, trainer, processes, lambda: _audit(task, folder, judged, trainer.watch))
        trainer.watch.log.close()
    return judged, record


def _run(trainer: Trainer) -> None:
    try:
        trainer.run()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"Memory ran out at step {trainer.state.step} ({first_line(error)}). Lower batch_size, or raise accumulate "
            "(the same batch in more parts), or use precision='bf16'; the checkpoints are intact."
        ) from error


def _audit(task: Task, folder: Path, judged: Classifier, watch: Watch) -> Record | None:
    """Audit the best weights as they stand in the folder; the first interrupt ends it with what is done."""
    load_weights(judged.net, folder / WEIGHTS)
    if not task.settings.audit_examples:
        return None
    source = task.test or task.validation or only(task.data, task.held_out)
    examples = min(task.settings.audit_examples, len(source))
    if there := _audited(task, folder, judged, source, examples):
        return there
    asked_before = watch.ears.stop_asked()

    def told(progress: Progress) -> None:
        watch.tell_audit(progress.settled, progress.total)
        if watch.ears.stop_asked() and not asked_before:
            raise KeyboardInterrupt

    return audit(
        judged, source, task.recipe.threats[0], FINAL_ATTACKS, seed=task.settings.seed, progress=told,
        examples=examples, out=folder / AUDIT, overwrite=True,
    )  # fmt: skip


def _audited(task: Task, folder: Path, judged: Classifier, source: DataSource, examples: int) -> Record | None:
    """The audit that is there, if it is the one that would be made: that of a run resumed at its end."""
    try:
        record = read_bundle(folder / AUDIT).record
    except BundleError:
        return None
    asked = (show(task.recipe.threats[0]), list(FINAL_ATTACKS), task.settings.seed, judged.fingerprint())
    attacks = [attack.recipe for attack in sorted(record.attacks, key=lambda attack: attack.order)]
    found = (record.threat.notation, attacks, record.seed, record.model.fingerprint)
    if not record.complete or found != asked:
        return None
    return record if record.data.fingerprint == source.fingerprint(np.arange(examples)) else None


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
