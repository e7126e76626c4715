"""The options of `potemkin train`, in the groups that its help shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from potemkin.cli.options import ANSWER, Switch

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
    """After catastrophic overfitting or NaN: back to the last good weights, and PGD for an epoch; at most 3 times."""
    patience: int | None = None
    """Evaluations on validation without better weights before the run stops."""
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
