"""What `potemkin train` was asked for: read from the options, from a reference or from a run's folder, and started."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potemkin.cli.options import ModelOptions
from potemkin.cli.session import Session
from potemkin.cli.signals import stoppable
from potemkin.cli.train_options import FolderOptions, LearningOptions, MachineOptions, WatchOptions
from potemkin.cli.train_settings import setting
from potemkin.cli.training import Lines, first_process
from potemkin.errors import BundleError, ConfigError, DataError, TrainingError

if TYPE_CHECKING:
    from potemkin.data.source import DataSource
    from potemkin.training.recipes.base import Recipe
    from potemkin.training.settings import Settings
    from potemkin.training.task import Task
    from potemkin.training.train import Run


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

    def go(self, session: Session) -> Run:
        """Bring everything, and train."""
        shown = Lines(session if first_process() else None)
        say = session.say if first_process() else (lambda text: None)
        resumed = self.folder.resume is not None
        if resumed:
            self._take_over()
        place = self.folder.resume or self.folder.out
        if place is None:
            raise ConfigError("Say where the run lives: --out FOLDER.")
        from potemkin.training.journal import refuse_taken

        if not resumed:  # at once, and not after minutes of loading
            refuse_taken(place, self.folder.overwrite)
        say("Loading PyTorch …")
        from potemkin.training.telling import Ears
        from potemkin.training.train import run_task

        with stoppable(shown.stopping) as stop_asked:
            try:
                task = self._task(session, say)
                for note in task.notes if first_process() else ():
                    session.warn(note)
                say(_doing(place, resumed) or f"Training with {task.recipe!r} on {task.model.device} …")
                ears = Ears(shown.update, stop_asked)
                return run_task(task, place, self.folder.overwrite, resumed, ears)
            except KeyboardInterrupt:
                raise _aborted(place) from None
            except RuntimeError as error:
                if not stop_asked():  # else the signal killed the processes that read data, too
                    raise
                raise _aborted(place) from error

    def _task(self, session: Session, say: Callable[[str], None]) -> Task:
        from potemkin.training.task import Names, Task

        typed = self.learning.test if self.folder.resume is None else None  # a reference brings its own
        settings, recipe = self._settings(), self._recipe()
        if self.model is None or self.data is None:
            raise ConfigError("Give a model and data: potemkin train MODEL DATA --recipe RECIPE --out FOLDER.")
        _refuse_swapped(self.model, self.data)
        learning = self.learning
        data, test = _parts(self.data, learning.test)

        def opened(spec: str | None, option: str) -> DataSource | None:
            return None if spec is None else self._open(spec, option, say)

        quiet = session if first_process() else replace(session, json=True)  # which says nothing
        # Before the model: a name that is mistyped should not cost the wait for it.
        validation, extra = opened(learning.validation, "--validation"), opened(learning.extra, "--extra")
        tested = opened(test, "--test" if typed else "")
        classifier, source = self.network.bring(quiet, self.model, data, fresh=settings.seed)
        options = {**vars(self.network), "test": test}
        names = Names(self.model, data, learning.validation, learning.extra, options, session.command)
        return Task(classifier, source, recipe, settings, validation, extra, tested, names)

    def _open(self, spec: str, option: str, say: Callable[[str], None]) -> DataSource:
        """Other data than the training data; what is wrong with them is told as the option's fault."""
        from potemkin.data.load import load_data

        say(f"Loading the data {spec}{f' for {option}' if option else ''} …")
        try:
            return load_data(spec, image_size=self.network.image_size)
        except (ConfigError, DataError) as error:
            if not option:
                raise
            raise type(error)(f"{option} {spec}: {error}") from error

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
        from potemkin.training.reference import reference
        from potemkin.training.settings import Settings

        given: dict[str, Any] = {}
        for options in (self.learning, self.machine, self.watch):
            given |= {k: v for k, v in vars(options).items() if k in Settings.__dataclass_fields__}
        given = {name: value for name, value in given.items() if value is not None and value is not False}
        for text in self.watch.set or []:
            for name, value in setting(text).items():
                if name in given:
                    raise ConfigError(f"{name} is given twice, {given[name]!r} and --set {text}: leave one out.")
                given[name] = value
        base = Settings() if self.learning.reference is None else reference(self.learning.reference).settings
        return replace(base, **given)

    def _take_over(self) -> None:
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


def _doing(place: Path, resumed: bool) -> str | None:
    """That nothing is left to do, where that is so."""
    from potemkin.training.checkpoint import latest
    from potemkin.training.journal import read_info

    return "All steps of the run are done already." if resumed and latest(place) == read_info(place).steps else None


def _aborted(place: Path) -> BaseException:
    """The second Ctrl-C: nothing more is written, and what a checkpoint holds is there."""
    from potemkin.training.checkpoint import latest
    from potemkin.training.journal import resume_words

    step = latest(place)
    if step is None:
        return KeyboardInterrupt()
    return TrainingError(
        f"Interrupted: the newest checkpoint in {place} is that of step {step}; go on with {resume_words(place)}."
    )


def _parts(data: str, test: str | None) -> tuple[str, str | None]:
    """Registered data that come in parts are trained on their training part, and audited on the other."""
    from potemkin.core.registry import find

    entry = find(data) if data.isidentifier() else None
    if entry is None or entry.kind != "data" or "part" not in entry.signature:
        return data, test
    return f"{data}(part='train')", test or data


def _refuse_swapped(model: str, data: str) -> None:
    """Data where the model belongs, or the reverse: said as such, and not as a model that cannot be loaded."""
    first, second = _kind(model) == "data", _kind(data) == "model"
    if first and second:
        raise ConfigError(
            f"{model!r} names data and {data!r} a model, and the model comes first: potemkin train {data} {model} …"
        )
    if first:
        raise ConfigError(f"{model!r} names data, where the model belongs: potemkin train MODEL DATA …")
    if second:
        raise ConfigError(f"{data!r} names a model, where the data belong: potemkin train MODEL DATA …")


def _kind(spec: str) -> str | None:
    """What a name says of itself: "model", "data", or None where it may be either."""
    from potemkin.core.registry import find
    from potemkin.models.run_folder import is_run

    entry = find(spec.partition("(")[0].strip())
    if entry is not None:
        return entry.kind if entry.kind in ("model", "data") else None
    if spec.endswith((".npz", ".tar", ".parquet", "-ubyte", "-ubyte.gz")):
        return "data"
    return "model" if spec.endswith(".pt2") or is_run(Path(spec)) else None
