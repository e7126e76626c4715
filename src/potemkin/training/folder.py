"""The folder of a run: who may write into it, where a run begins or goes on, and how it ends."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from potemkin.core.files import explained
from potemkin.errors import BundleError, ConfigError
from potemkin.evaluate.locks import hold, state
from potemkin.evaluate.record import Record
from potemkin.models.run_folder import CONFIG, WEIGHTS
from potemkin.training import board, checkpoint
from potemkin.training.export import NEXT, write_config
from potemkin.training.journal import (
    AUDIT,
    LOG,
    REPORT,
    RUN,
    RunInfo,
    cut_after,
    read_info,
    read_journal,
    refuse_taken,
    resume_words,
    write_info,
)
from potemkin.training.parallel import Processes
from potemkin.training.task import Task
from potemkin.training.trainer import Trainer

LOCK = ".lock"
OURS = {RUN, LOG, LOCK, checkpoint.FOLDER, CONFIG, WEIGHTS, NEXT, AUDIT, REPORT, board.FOLDER}


@contextmanager
def open_folder(
    folder: Path, task: Task, trainer: Trainer, processes: Processes, overwrite: bool, resume: bool
) -> Iterator[None]:
    """Make the folder this run's, and nobody else's while it lasts."""
    info = task.describe(trainer.steps, trainer.stream.steps_per_epoch, processes.world)
    problem: Exception | None = None
    lock = None
    try:
        if processes.first:
            with explained(folder, "give another --out"):
                lock = _take(folder, info, task, overwrite, resume)
    except Exception as error:  # noqa: BLE001 (raised below, when every process knows)
        problem = error
    if processes.any(problem is not None):
        if lock is not None:
            _release(folder, lock)
        raise problem or BundleError(f"The first process could not use {folder}.")
    try:
        yield
    finally:
        if lock is not None:
            _release(folder, lock)


def _take(folder: Path, info: RunInfo, task: Task, overwrite: bool, resume: bool) -> object:
    if "\0" in str(folder):
        raise BundleError(f"{str(folder)!r} holds a zero byte, which no path may: give another --out.")
    if resume and overwrite:
        raise ConfigError("resume goes on with a run, overwrite replaces it: leave one out.")
    if folder.exists() and not folder.is_dir():
        raise BundleError(f"{folder} is no folder: give another --out.")
    if resume:
        _check_same(folder, read_info(folder), info)
    else:
        refuse_taken(folder, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    lock_path = folder / LOCK
    if lock_path.exists():
        if state(lock_path) == "held":
            raise BundleError(f"Another process trains in {folder} at this moment: wait for it, or give another --out.")
        lock_path.unlink()
    lock = hold(lock_path)
    try:
        if not resume:
            _begin(folder, info, task)
    except BaseException:
        _release(folder, lock)
        raise
    return lock


def _begin(folder: Path, info: RunInfo, task: Task) -> None:
    """Nothing of an earlier run, and what this one is."""
    for name in OURS - {LOCK}:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    write_info(folder, info)
    write_config(folder, task.model, task.names.model, info.recipe, info.threat_notation)


def _release(folder: Path, lock: object) -> None:
    (folder / LOCK).unlink(missing_ok=True)
    lock.close()  # type: ignore[attr-defined]


def _check_same(folder: Path, stored: RunInfo, asked: RunInfo) -> None:
    """A run goes on as it began: the same recipe, settings, network and data. Another number of processes may do it."""
    differing = _other_data(stored, asked)
    differing += [
        f"{name} was {a!r}, now {b!r}"
        for name, a, b in (
            ("recipe", stored.recipe, asked.recipe),
            ("the network's tensors", stored.model.fingerprint, asked.model.fingerprint),
            ("what the recipe reads", stored.reads, asked.reads),
            ("the number of training examples", stored.examples, asked.examples),
            ("the threat model", stored.threat, asked.threat),
            ("the preprocessing", *(info.model.details.get("preprocessing") for info in (stored, asked))),
        )
        if a != b
    ]
    for name in sorted(stored.settings.keys() | asked.settings.keys()):
        a, b = stored.settings.get(name), asked.settings.get(name)
        if a != b and name not in {"workers", "keep_checkpoints", "parallel"}:
            differing.append(f"{name} was {a!r}, now {b!r}")
    if differing:
        raise ConfigError(
            f"The run cannot go on, for it would not be the same: {'; '.join(differing)}. Resume with what it began "
            f"with, or start another with another --out, from these weights if you like: --weights {folder / WEIGHTS}."
        )


def _other_data(stored: RunInfo, asked: RunInfo) -> list[str]:
    """Which data are not those that the run began with, in words."""
    pairs = {"training": (stored.data, asked.data), "validation": (stored.validation, asked.validation)}
    if stored.extra is not None or asked.extra is not None:
        pairs["extra"] = (stored.extra or asked.data, asked.extra or stored.data)
    told = []
    for part, (then, now) in pairs.items():
        other = then.fingerprint != now.fingerprint, then.labels != now.labels
        of_training = (then.fingerprint, now.fingerprint) == (stored.data.fingerprint, asked.data.fingerprint)
        if not any(other) or (part == "validation" and of_training and then.labels == stored.data.labels):
            continue  # held out of the training data, of which it is said already
        what = "other examples or labels" if all(other) else "other examples" if other[0] else "other labels"
        then_n, now_n = then.details.get("examples"), now.details.get("examples")
        sizes = "" if then_n == now_n else f" ({then_n} examples then, {now_n} now)"
        told.append(f"the {part} data {now.spec or now.name} have {what}{sizes}")
    return told


def start_point(folder: Path, trainer: Trainer, processes: Processes) -> None:
    """Step 0 with a checkpoint of its own, or the newest checkpoint with the log cut there."""
    newest = processes.broadcast(checkpoint.latest(folder))
    if processes.first:
        checkpoint.remove_unfinished(folder)
    if newest is None:
        trainer.watch.begin()
        if processes.first:
            (folder / LOG).write_text("", encoding="utf-8")
        return
    if processes.first:
        cut_after(folder, newest)
    processes.wait()
    journal = read_journal(folder)
    try:
        trainer.watch.resume(newest, journal)
    except TypeError as error:  # a number in it that this version does not know
        raise BundleError(
            f"The checkpoint {folder / checkpoint.FOLDER}/step-{newest:08d} is damaged, or of another version of "
            f"potemkin ({error}). Remove its folder to go on from the one before it."
        ) from error
    if newest < trainer.steps:
        trainer.watch.mark("resumed", f"from the checkpoint at step {newest}")


def finish(folder: Path, trainer: Trainer, processes: Processes, audit: Callable[[], Record | None]) -> Record | None:
    """Say how it ended; a finished run's best weights are audited by the first process, where there are any."""
    if not processes.first:
        return None
    why = trainer.state.stopped
    if trainer.state.interrupted:
        trainer.watch.mark("interrupted", f"asked to; go on with {resume_words(folder)}")
        return None
    trainer.watch.mark("stopped" if why else "finished", why or "all steps are done", once=True)
    if trainer.state.best is None:  # stopped before anything could be evaluated
        return None
    return audit()
