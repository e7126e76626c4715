"""`potemkin train`: a network, data and a recipe in; a folder with a robust network, its log and its audit out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from potemkin.cli.failures import FAILED, GATE_FAILED, PASSED
from potemkin.cli.options import ANSWER, AnswerOptions, ModelOptions, Switch
from potemkin.cli.session import Reply, Session
from potemkin.cli.signals import stoppable
from potemkin.cli.training import Lines, Trained
from potemkin.errors import BundleError, ConfigError, TrainingError, suggest

if TYPE_CHECKING:
    from potemkin.data.source import DataSource
    from potemkin.training.recipes.base import Recipe
    from potemkin.training.settings import Settings
    from potemkin.training.task import Task
    from potemkin.training.train import Run

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
    """Any other setting, NAME=VALUE, such as checkpoint_every=500; may be given several times."""


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

    Exit code 1: an alarm was raised, in training or in the audit at the end. 4: interrupted, or it could not go on;
    --resume goes on.

    Args:
        model: digits-cnn, 'resnet(width=32)', my_models:resnet20, path.py:function, or the folder of another run.
        data: digits (its training part), a .npz or idx file, an image folder, webdataset shards, parquet, my_data:load.
    """
    asked = Asked(model, data, learning, network, machine, watch, folder)
    run = asked.go(session)
    report = _draw(session, run.folder) if first_process() else None
    size = asked.network.image_size
    trained = Trained(run, report, asked.data_again, () if size is None else ("--image-size", str(size)))
    alarms = bool(run.journal.alarms()) or bool(run.record and run.record.alarms)
    code = FAILED if trained.interrupted else GATE_FAILED if alarms else PASSED
    told = trained.data()
    return Reply(code, json.dumps(told, indent=2, ensure_ascii=False), trained.show)


def first_process() -> bool:
    """Whether this process speaks and draws: under torchrun the first one alone does."""
    return os.environ.get("RANK", "0") == "0"


@dataclass
class Asked:
    """What was asked for; a resume takes it from the run's folder instead."""

    model: str | None
    data: str | None
    learning: LearningOptions
    network: ModelOptions
    machine: MachineOptions
    watch: WatchOptions
    folder: FolderOptions
    data_again: str | None = None

    def go(self, session: Session) -> Run:
        shown = Lines(session if first_process() else None)
        say = session.say if first_process() else (lambda text: None)
        resumed = self._taken_over() if self.folder.resume is not None else None
        if resumed is None and self.folder.out is None:
            raise ConfigError("Say where the run lives: --out FOLDER.")
        say("Loading PyTorch …")
        from potemkin.training.train import run_task

        place = self.folder.resume or self.folder.out
        assert place is not None
        with stoppable(shown.stopping) as stop_asked:
            try:
                task, test = self._task(session)
                for note in task.notes if first_process() else ():
                    session.warn(note)
                say(f"Training with {task.recipe!r} on {task.model.device} …")
                return run_task(task, place, self.folder.overwrite, resumed is not None, test, shown.update, stop_asked)
            except KeyboardInterrupt:
                raise _aborted(place) from None
            except RuntimeError as error:
                if not stop_asked():  # else the signal killed the processes that read data, too
                    raise
                raise _aborted(place) from error

    def _task(self, session: Session) -> tuple[Task, DataSource | None]:
        from potemkin.data.load import load_data
        from potemkin.training.task import Names, Task

        settings, recipe = self._settings(), self._recipe()
        if self.model is None or self.data is None:
            raise ConfigError("Give a model and data: potemkin train MODEL DATA --recipe RECIPE --out FOLDER.")
        data, test = _parts(self.data, self.learning.test)
        self.data_again = test
        classifier, source = self.network.bring(session, self.model, data, fresh=settings.seed)
        size = self.network.image_size

        def opened(spec: str | None) -> DataSource | None:
            return None if spec is None else load_data(spec, image_size=size)

        names = Names(
            self.model, data, self.learning.validation, self.learning.extra,
            {**vars(self.network), "test": test}, session.command,
        )  # fmt: skip
        task = Task(
            classifier, source, recipe, settings, opened(self.learning.validation), opened(self.learning.extra), names
        )
        return task, opened(test)

    def _recipe(self) -> Recipe:
        from potemkin.core.notation import parse
        from potemkin.training.recipes.base import Recipe

        if self.learning.reference is not None:
            from potemkin.training.reference import reference

            self._take_reference()
            return reference(self.learning.reference).recipe
        if self.learning.recipe is None:
            raise ConfigError("Say how to train: --recipe 'pgd_at(eps=8/255)'; `potemkin list recipes` has them all.")
        recipe = parse(self.learning.recipe, kind="recipe")
        assert isinstance(recipe, Recipe)
        return recipe

    def _take_reference(self) -> None:
        from potemkin.training.reference import reference

        if self.model is not None or self.learning.recipe is not None:
            raise ConfigError("--reference brings its own model, data and recipe: leave yours out.")
        known = reference(self.learning.reference or "")
        data, test = known.open()
        self.model, self.data = known.model, data
        self.learning = replace(self.learning, test=self.learning.test or test)

    def _settings(self) -> Settings:
        from potemkin.core.notation import parse
        from potemkin.training.reference import reference
        from potemkin.training.settings import Settings

        given: dict[str, Any] = {}
        for options in (self.learning, self.machine, self.watch):
            given |= {k: v for k, v in vars(options).items() if k in Settings.__dataclass_fields__}
        given = {name: value for name, value in given.items() if value is not None and value is not False}
        for name in ("optimiser", "schedule"):
            if name in given:
                given[name] = parse(given[name], kind="part")
        if "stop_on" in given:
            given["stop_on"] = tuple(given["stop_on"])
        for text in self.watch.set or []:
            given |= _setting(text)
        base = Settings() if self.learning.reference is None else reference(self.learning.reference).settings
        return replace(base, **given)

    def _taken_over(self) -> bool:
        """Everything from run.json: a resumed run is the same run."""
        from potemkin.training.journal import RUN, read_info

        others = (LearningOptions(), ModelOptions(), MachineOptions(), WatchOptions())
        mine = (self.learning, self.network, self.machine, self.watch)
        if mine != others or self.model or self.data or self.folder.out or self.folder.overwrite:
            raise ConfigError("--resume takes everything from the run's folder: leave the other arguments out.")
        assert self.folder.resume is not None
        info = read_info(self.folder.resume)
        if info.model.spec is None or info.data.spec is None:
            raise ConfigError(
                f"The run {self.folder.resume} was started from Python with objects: resume it there, "
                "pk.train(..., resume=True)."
            )
        self.watch = WatchOptions(set=[f"{name}={value}" for name, value in info.settings.items()])
        try:
            options = dict(info.model.details.get("options", {}))
            test = options.pop("test", None)
            self.network = ModelOptions(**options)
            self._settings()
        except (TypeError, ValueError, ConfigError) as error:
            raise BundleError(
                f"{self.folder.resume / RUN} cannot be taken over ({error}): take an untouched copy, or start another "
                "run with another --out."
            ) from error
        self.model, self.data = info.model.spec, info.data.spec
        self.learning = LearningOptions(
            recipe=info.recipe,
            validation=info.validation.spec,
            extra=info.extra.spec if info.extra else None,
            test=test,
        )
        return True


def _aborted(place: Path) -> BaseException:
    """The second Ctrl-C: nothing more is written, and what a checkpoint holds is there."""
    from potemkin.training.checkpoint import latest

    step = latest(place)
    if step is None:
        return KeyboardInterrupt()
    return TrainingError(
        f"Interrupted: the newest checkpoint in {place} is that of step {step}; go on with potemkin train --resume "
        f"{place}."
    )


def _setting(text: str) -> dict[str, Any]:
    """NAME=VALUE, the value in the notation, or as a word where it is one."""
    from potemkin.core.notation import parse
    from potemkin.training.settings import Settings

    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or name not in Settings.__dataclass_fields__:
        known = sorted(Settings.__dataclass_fields__)
        raise ConfigError(f"--set {text!r}: give NAME=VALUE.{suggest(name, known)} Settings: {', '.join(known)}.")
    word = value.strip()
    if Settings.__dataclass_fields__[name].type == "str":
        return {name: word.strip("'\"")}
    if name == "stop_on" and word.isidentifier():
        return {name: (word,)}
    try:
        return {name: parse(word)}
    except ConfigError as error:
        raise ConfigError(f"--set {name}: {error}") from error


def _parts(data: str, test: str | None) -> tuple[str, str | None]:
    """Registered data that come in parts are trained on their training part, and audited on the other."""
    from potemkin.core.registry import find

    entry = find(data) if data.isidentifier() else None
    if entry is None or entry.kind != "data" or "part" not in entry.signature:
        return data, test
    return f"{data}(part='train')", test or data


def _draw(session: Session, folder: Path) -> Path | None:
    session.say("Drawing the report …")
    try:
        from potemkin.report.training import render_training

        return render_training(folder)
    except Exception as error:  # noqa: BLE001 (told, and the run stands all the same)
        session.warn(f"The run stands, but its report could not be drawn: {error}")
        return None
