"""`potemkin train`: a network, data and a recipe in; a folder with a robust network, its log and its audit out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from potemkin.cli.failures import FAILED, GATE_FAILED, PASSED
from potemkin.cli.options import ANSWER, AnswerOptions, ModelOptions, Switch
from potemkin.cli.session import Reply, Session
from potemkin.cli.train_settings import all_settings, wants_help
from potemkin.cli.training import Trained, draw_pages, first_process

LEARNING = Group.create_ordered("What is learnt")
MACHINE = Group.create_ordered("How it is computed")
WATCH = Group.create_ordered("What is watched and kept")


@Parameter(name="*", group=LEARNING)
@dataclass(frozen=True)
class LearningOptions:
    """What decides the weights."""

    recipe: str | None = None
    """Training recipe, such as 'pgd_at(eps=0.1, steps=7)'; see `potemkin list recipes`."""
    epochs: float | None = None
    """Sweeps over the training data; default 10."""
    batch_size: int | None = None
    """Rows per step, all processes together; default 128."""
    optimiser: str | None = None
    """Such as 'SGD(learning_rate=0.1)' (the default) or 'AdamW(learning_rate=0.002)'; see `potemkin list parts`."""
    schedule: str | None = None
    """Of the learning rate: 'Cyclic()' (the default), 'Cosine()', 'Stepwise()' or 'Flat()'."""
    seed: int | None = None
    """Of new weights, order, augmentation and attack; default 0."""
    validation: str | None = None
    """Data to choose the best weights by; default: a tenth of the training data, at most 1,000, is held out."""
    extra: str | None = None
    """More training data, mixed in at the recipe's `extra` share."""
    test: str | None = None
    """Data for the audit at the end; default: the validation data."""
    reference: str | None = None
    """In place of everything: a reference run, digits, mnist, fashion or cifar10."""


@Parameter(name="*", group=MACHINE)
@dataclass(frozen=True)
class MachineOptions:
    """What decides speed and memory."""

    precision: str | None = None
    """float32 (the default) or bf16."""
    accumulate: int | None = None
    """Parts into which each batch is cut to save memory."""
    workers: int | None = None
    """Processes that read data ahead."""
    parallel: str | None = None
    """Under torchrun: ddp (the default) or fsdp."""
    sync_batchnorm: Annotated[bool, Switch] = False
    """Batch statistics over all processes."""
    compile: Annotated[bool, Switch] = False
    """Compile the network; it costs half a minute and does not always gain."""


@Parameter(name="*", group=WATCH)
@dataclass(frozen=True)
class WatchOptions:
    """What is evaluated, when it stops, what is kept."""

    stop_on: Annotated[list[str] | None, Parameter(negative="")] = None
    """An alarm that stops the run, such as catastrophic_overfitting; may be given several times."""
    rollback: Annotated[bool, Switch] = False
    """After catastrophic overfitting: back to the last good weights, and PGD for an epoch."""
    patience: int | None = None
    """Evaluations without a better validation robust accuracy before the run stops."""
    set: Annotated[list[str] | None, Parameter(negative="")] = None
    """Any other setting, NAME=VALUE, such as checkpoint_every=500; may be repeated. `--set help` lists them all."""


@Parameter(name="*", group=ANSWER)
@dataclass(frozen=True)
class FolderOptions:
    """Where the run lives."""

    out: Path | None = None
    """Folder of the run."""
    resume: Path | None = None
    """In place of everything else: go on with the run in this folder, from its newest checkpoint."""
    overwrite: Annotated[bool, Switch] = False
    """Replace a run that is there already."""


def train(
    model: str | None = None,
    data: str | None = None,
    *,
    learning: LearningOptions = LearningOptions(),
    network: ModelOptions = ModelOptions(),
    machine: MachineOptions = MachineOptions(),
    watch: WatchOptions = WatchOptions(),
    folder: FolderOptions = FolderOptions(),
    answer: AnswerOptions = AnswerOptions(),
    session: Annotated[Session, Parameter(parse=False)],
) -> Reply:
    """Train a network to be robust, watch how, keep what was best on validation, and audit it.

    potemkin train digits-cnn digits --recipe 'pgd_at(eps=0.1, steps=7)' --epochs 20 --out runs/robust

    potemkin train --resume runs/robust

    Built-in architectures begin with new weights (--weights to go on from others), your function's network as it comes.
    Several processes: torchrun --nproc-per-node 8 -m potemkin train …
    `potemkin train --set help` lists every setting, those without an option of their own among them.

    Exit code 1: an alarm was raised, in training or in the audit at the end. 4: interrupted, or it could not go on;
    --resume goes on.

    Args:
        model: digits-cnn, 'resnet(width=32)', my_models:resnet20, path.py:function, or the folder of another run.
        data: digits (its training part), a .npz or idx file, an image folder, webdataset shards, parquet, my_data:load.
    """
    if wants_help(watch.set):
        return all_settings()
    from potemkin.cli.train_request import Asked  # here, for it is made of the options above

    run = Asked(model, data, learning, network, machine, watch, folder).go(session)
    first = first_process()
    trained = Trained(run, *(draw_pages(session, run) if first else (None, None)))
    alarms = bool(run.journal.alarms()) or bool(run.record and run.record.alarms)
    code = FAILED if trained.interrupted else GATE_FAILED if alarms else PASSED
    if not first:  # one of them speaks for all
        return Reply(code, "", lambda console: None)
    return Reply(code, json.dumps(trained.data(), indent=2, ensure_ascii=False), trained.show)
