"""Checkpoints: sharded tensors through torch.distributed.checkpoint as safetensors, numbers as JSON. No pickle.

    checkpoints/step-00001200/   *.safetensors (each process its shards), state.json
    checkpoints/.step-00001200   being written: renamed when it is whole, removed by the next run

Whatever is interrupted, killed or out of space leaves the checkpoint before it as it was. Another number of processes
can read it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter

from potemkin.core.explain import first_line
from potemkin.errors import BundleError, TrainingError
from potemkin.training.journal import resume_words
from potemkin.training.parallel import Processes

FOLDER, STATE = "checkpoints", "state.json"


def save(
    folder: Path,
    step: int,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    sameness: dict[str, Any],
    processes: Processes,
) -> None:
    """Write a checkpoint and make it the newest; TrainingError where it cannot be, with the older ones intact.

    `sameness` is what a resume compares, to know that it goes on with the same run.
    """
    final = _place(folder, step)
    partial = final.with_name(f".{final.name}")
    problem: BaseException | None = None
    try:
        if processes.first:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
    except OSError as error:
        problem = error
    if processes.any(problem is not None):  # before anything that all take part in
        raise _unwritten(folder, step, problem) from problem
    try:
        packed = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        with _quiet():
            state_dict_saver.save(packed, storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True))
        if processes.first:
            with (partial / STATE).open("w", encoding="utf-8") as file:
                json.dump({"state": state, "sameness": sameness, "tensors": sorted(tensors)}, file, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
    except (Exception, CheckpointException) as error:  # noqa: BLE001 (torch wraps what the disk says)
        problem = error
    if processes.any(problem is not None):
        shutil.rmtree(partial, ignore_errors=True)
        raise _unwritten(folder, step, problem) from problem


def _unwritten(folder: Path, step: int, problem: BaseException | None) -> TrainingError:
    newest = latest(folder)
    left = "There is none before it."
    if newest is not None:
        left = f"The one at step {newest} is intact: go on with {resume_words(folder)}."
    return TrainingError(
        f"The checkpoint at step {step} could not be written to {folder / FOLDER} "
        f"({_told(problem) if problem else 'another process failed'}). Check the disk space and the permissions. {left}"
    )


def numbers(folder: Path, step: int) -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    """The numbers of a checkpoint, the names of its tensors, its `sameness`; BundleError where they cannot be read."""
    path = _place(folder, step) / STATE
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["state"]["step"] != step:
            raise ValueError(f"it is that of step {stored['state']['step']}")
        return dict(stored["state"]), [str(name) for name in stored["tensors"]], dict(stored["sameness"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged ({error}). Remove its folder to go on from the one before it.") from error


def load(folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Read a checkpoint into `tensors`, in place; BundleError where it does not fit."""
    where = _place(folder, step)
    try:
        with _quiet():
            state_dict_loader.load(tensors, storage_reader=HuggingFaceStorageReader(str(where)))
    except (Exception, CheckpointException) as error:
        raise BundleError(
            f"The checkpoint {where} cannot be read, or belongs to another network: {_told(error)}. Remove its folder "
            "to go on from the one before it."
        ) from error


def steps(folder: Path) -> list[int]:
    """The steps of all whole checkpoints, oldest first."""
    found = (folder / FOLDER).glob("step-*")
    whole = [each.name.removeprefix("step-") for each in found if (each / STATE).is_file()]
    return sorted(int(number) for number in whole if re.fullmatch("[0-9]{8,}", number))  # what else lies there: copies


def latest(folder: Path) -> int | None:
    """The step of the newest whole checkpoint."""
    return max(steps(folder), default=None)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run left half written."""
    for partial in (folder / FOLDER).glob(".step-*"):
        shutil.rmtree(partial, ignore_errors=True)


def tidy(folder: Path, keep: int, spared: set[int]) -> None:
    """Remove all checkpoints but the newest `keep` and the `spared` ones."""
    for step in steps(folder)[:-keep]:
        if step not in spared:
            shutil.rmtree(_place(folder, step), ignore_errors=True)


def _told(problem: BaseException) -> str:
    """What went wrong, out of torch's wrapping."""
    if isinstance(problem, CheckpointException):
        causes = [failure[0] for failure in problem.failures.values()]
        return first_line(causes[0]) if causes else "a process failed"
    return first_line(problem) if isinstance(problem, Exception) else type(problem).__name__


def _place(folder: Path, step: int) -> Path:
    return folder / FOLDER / f"step-{step:08d}"


@contextmanager
def _quiet() -> Iterator[None]:
    """torch warns that no process group was started, and tells its storage's life; neither is the user's business."""
    loggers = [logging.getLogger("torch.distributed.checkpoint"), state_dict_loader.logger]  # the latter is the root's
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
