"""From a task to a trainer: the parts of a run, put together."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor

from potemkin.errors import ConfigError
from potemkin.models.classifier import Classifier
from potemkin.models.folding import Folding
from potemkin.training.evaluation import Evaluator, subset
from potemkin.training.learner import Learner
from potemkin.training.parallel import Processes, Replicas
from potemkin.training.state import Tensors
from potemkin.training.stream import Share, Stream
from potemkin.training.task import Task
from potemkin.training.telling import Ears
from potemkin.training.trainer import Trainer
from potemkin.training.watch import Pace, Watch


def judged_copy(task: Task, processes: Processes) -> Classifier:
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


def trainer_of(task: Task, folder: Path, processes: Processes, judged: Classifier, ears: Ears = Ears()) -> Trainer:
    settings, recipe, model = task.settings, task.recipe, task.model
    if settings.batch_size % (settings.accumulate * processes.world):
        raise ConfigError(
            f"batch_size={settings.batch_size} cannot be shared equally by {processes.world} processes in "
            f"{settings.accumulate} parts each: take a multiple of {settings.accumulate * processes.world}."
        )
    if task.extra_rows % processes.world:
        raise ConfigError(
            f"extra={recipe.extra:g} of batch_size={settings.batch_size} are {task.extra_rows} rows, which "
            f"{processes.world} processes cannot share equally: change one of them."
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
    rows = _rows(task)
    learner = Learner(
        replicas.net, replicas.plain, model.box, model.preprocessing, model.classes,
        settings.precision == "bf16", settings.channels_last, _folding(task, replicas, rows),
    )  # fmt: skip
    evaluator = Evaluator(judged, recipe, settings.evaluation_steps, settings.seed, processes, learner.meter)
    subsets = [
        subset(part, *task.judged_on(part), processes, task.box, model.classes) for part in ("train", "validation")
    ]
    steps = max(1, round(settings.epochs * stream.steps_per_epoch))
    pace = Pace(steps, stream.steps_per_epoch, recipe.replays)
    optimiser = settings.optimiser.make(p for p in replicas.bare.parameters() if p.requires_grad)
    tensors = Tensors(folder, replicas, optimiser, recipe, processes, rows)
    watch = Watch(folder, settings, pace, processes, tensors, evaluator, subsets, learner.meter, ears)
    return Trainer(learner, replicas, recipe, settings, stream, processes, optimiser, tensors, watch)


def _rows(task: Task) -> Tensor:
    """Two inputs as the network sees them, always the same."""
    box, random = task.model.box, torch.Generator().manual_seed(0)
    low, high = (box.low, box.high) if box.bounded else (0.0, 1.0)
    x = low + (high - low) * torch.rand(2, *task.data.input_shape, generator=random)
    x = x.to(task.model.device)
    return x if task.model.preprocessing is None else task.model.preprocessing(x)


def _folding(task: Task, replicas: Replicas, rows: Tensor) -> Folding:
    """What the passes of the attack can leave out; what it is decided on does not depend on the weights."""
    settings = task.settings
    if not settings.fold or settings.compile or replicas.sharded or task.recipe.inner == "train":
        return Folding([])
    return Folding.of(replicas.plain, rows, torch.bfloat16 if settings.precision == "bf16" else None)
