"""What a run is asked to do: network, data, recipe and settings, checked, divided and described."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from potemkin import __version__
from potemkin.core.canonical import show
from potemkin.core.explain import counted, listed
from potemkin.core.files import sha256
from potemkin.data.arrays import ArraySource
from potemkin.data.checks import check_source
from potemkin.data.iterable import LoaderSource
from potemkin.data.sampling import choose, known_labels
from potemkin.data.source import DataSource, Ints, fingerprint
from potemkin.errors import ConfigError, DataError, ModelError
from potemkin.evaluate.environment import environment
from potemkin.evaluate.smells.examine import softmax
from potemkin.models.classifier import Classifier
from potemkin.models.loaders import try_out
from potemkin.threat.threat_model import ThreatModel
from potemkin.training.journal import Brought, RunInfo
from potemkin.training.recipes.base import Recipe
from potemkin.training.resolved import resolved
from potemkin.training.settings import Settings

MOST_HELD_OUT = 1000
LOOKED_AT, OUTPUTS_LOOKED_AT = 256, 8


@dataclass
class Names:
    """What was typed for model and data, so that a resume can bring them again; None for Python objects."""

    model: str | None = None
    data: str | None = None
    validation: str | None = None
    extra: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """How model and data were opened: weights, box, mean, std, resize, crop, image_size, device."""
    command: str | None = None


@dataclass
class Task:
    """One run, before it starts."""

    model: Classifier
    data: DataSource
    recipe: Recipe
    settings: Settings
    validation: DataSource | None = None
    extra: DataSource | None = None
    test: DataSource | None = None
    """For the audit at the end; None: the validation data."""
    names: Names = field(default_factory=Names)
    notes: list[str] = field(default_factory=list)
    """What the user should know about the data before it is learnt from."""

    def __post_init__(self) -> None:
        try_out(self.model, self.data.input_shape)
        self._check_learns()
        self._check_order()
        self._divide()
        for source, positions in self._sources():
            self.check_like(source, positions)
        self.recipe.check(self.model.box, self.model.classes, len(self.data))
        if bool(self.recipe.extra) != (self.extra is not None):
            raise ConfigError(
                f"The recipe takes a share of {self.recipe.extra:g} from extra data, but "
                f"{'none are given' if self.extra is None else 'extra data are given'}: set extra=SHARE in the recipe "
                "and give the extra data."
            )
        self.recipe.check_model(self.model, self.data.input_shape)
        if self.test is not None:
            self.check_like(self.test)
        self._look_at_overlap()
        self._look_at_radius()
        self._look_at_labels()
        self._look_at_inputs()
        self._look_at_outputs()
        for source, _ in self._sources():
            if left_out := getattr(source, "left_out", None):
                self.notes.append(f"{source.name}: left out, as asked: {listed(left_out)}.")

    def check_like(self, source: DataSource, positions: Ints | None = None) -> None:
        """Refuse other data (validation, extra, test) that are not like the training data, before hours are spent."""
        if source.input_shape != self.data.input_shape:
            raise DataError(
                f"The inputs of {source.name} have shape {tuple(source.input_shape)}, those of the training data "
                f"{self.data.name} {tuple(self.data.input_shape)}: give data of one shape."
            )
        check_source(source, box=self.box, classes=self.model.classes, positions=positions)

    def _check_order(self) -> None:
        for source in (self.data, self.extra):
            if isinstance(source, LoaderSource):
                raise DataError(
                    f"{source.name} hands out examples in an order of its own, and training draws them in another: "
                    "give what it reads from, loader.dataset, or arrays."
                )

    def _check_learns(self) -> None:
        others = {str(t.dtype) for t in self.model.net.parameters() if t.dtype != torch.float32}
        if others:
            raise ModelError(
                f"The model {self.model.name} has parameters of type {listed(sorted(others))}: training keeps them in "
                "float32. Give net.float(); precision='bf16' computes in bfloat16 all the same."
            )
        if not any(parameter.requires_grad for parameter in self.model.net.parameters()):
            raise ModelError(
                f"The model {self.model.name} has no parameter that learns: none at all, or requires_grad is off "
                "everywhere. Give a network with parameters, net.requires_grad_(True)."
            )

    @property
    def box(self) -> tuple[float, float]:
        return self.model.box.low, self.model.box.high

    @property
    def extra_rows(self) -> int:
        """Rows of each batch that come from the extra data."""
        return round(self.recipe.extra * self.settings.batch_size)

    def _divide(self) -> None:
        """Which places of the training data are learnt from, and which are held out for validation."""
        everything = np.arange(len(self.data), dtype=np.int64)
        if self.validation is not None:
            if self.settings.holdout is not None:
                raise ConfigError(f"holdout={self.settings.holdout} and validation data are given: leave one out.")
            self.trained, self.held_out = everything, np.arange(len(self.validation), dtype=np.int64)
            return
        count = self.settings.holdout or max(1, min(MOST_HELD_OUT, len(self.data) // 10))
        if not 0 < count < len(self.data):
            raise DataError(
                f"{self.data.name} has {counted(len(self.data), 'example')}: too few to hold out {count} for "
                "validation. Give validation data, or a smaller holdout."
            )
        self.held_out = choose(len(self.data), count, "random", self.settings.seed)
        self.trained = np.setdiff1d(everything, self.held_out)

    def judged_on(self, part: str) -> tuple[DataSource, Ints]:
        """The fixed subset of the training or the validation data that is evaluated."""
        if part == "train":
            source, places = self.data, self.trained
        else:
            source, places = self.validation or self.data, self.held_out
        chosen = choose(len(places), self.settings.evaluation_examples, "random", self.settings.seed)
        return source, places[chosen]

    def _sources(self) -> list[tuple[DataSource, Ints | None]]:
        found: list[tuple[DataSource, Ints | None]] = [(self.data, self.trained), (self.judged_on("validation"))]
        return found + ([(self.extra, None)] if self.extra is not None else [])

    def _look_at_overlap(self) -> None:
        """Data that were learnt from, or that chose the weights, are no test."""
        given = {"training": self.data, "extra": self.extra, "validation": self.validation, "test": self.test}
        prints = {name: _brought(each, None).fingerprint for name, each in given.items() if each is not None}
        for learnt in ("training", "extra"):
            for purpose in ("validation", "test"):
                if learnt in prints and prints[learnt] == prints.get(purpose):
                    self.notes.append(
                        f"The {purpose} data are the {learnt} data: what is measured on them is how well they were "
                        "learnt by heart. Give others."
                    )
        if "test" in prints and prints["test"] == prints.get("validation"):
            self.notes.append(
                "The test data are the validation data, by which the weights are chosen: that flatters them. Give "
                "others."
            )

    def _look_at_radius(self) -> None:
        """8 in place of 8/255 is the slip that costs a night of training."""
        width, eps = self.box[1] - self.box[0], float(self.recipe.threats[0].eps)
        if eps == 0:
            self.notes.append("eps is 0: nothing is attacked, and robust accuracy is clean accuracy.")
        if self.recipe.threats[0].norm_name != "Linf":
            return
        if 0 < eps < width / 1000:
            self.notes.append(
                f"eps {eps:g} is less than a thousandth of the box {list(self.box)}: hardly anything is attacked. Is "
                "eps in the units of the inputs?"
            )
        if not eps >= width:
            return
        meant = f"Did you mean {eps:g}/255?" if 1 < eps < 256 and width == 1 else "Is eps in the units of the inputs?"
        self.notes.append(f"eps {eps:g} reaches from end to end of the box {list(self.box)}. {meant}")

    def _look_at_labels(self) -> None:
        labels = known_labels(self.data)
        if labels is None or self.model.classes is None:
            return
        counts = np.bincount(labels[self.trained], minlength=self.model.classes)
        missing = [str(k) for k in np.flatnonzero(counts == 0)]
        if len(missing) >= self.model.classes - 1:
            raise DataError(
                f"All training examples in {self.data.name} have one label: there is nothing to tell apart. Check the "
                "labels."
            )
        if missing:
            shown = listed(missing).replace("'", "")
            self.notes.append(
                f"No training example has class {shown}, of the model's {self.model.classes}: it will not "
                "learn them. Check the labels, or use a model with fewer classes."
            )

    def _look_at_inputs(self) -> None:
        places = self.trained[choose(len(self.trained), LOOKED_AT, "random", self.settings.seed)]
        constant: list[str] = []
        for batch in self.data.batches(LOOKED_AT, places):
            flat = batch.inputs.flatten(1)
            same = (flat.amax(dim=1) == flat.amin(dim=1)).tolist()
            constant += [str(example) for example, alike in zip(batch.ids, same, strict=True) if alike]
        if len(constant) == len(places):
            raise DataError(
                f"All {len(places)} training inputs looked at in {self.data.name} are constant (one value "
                "everywhere): there is nothing to learn from. Check how the data were read."
            )
        if constant:
            self.notes.append(
                f"{len(constant)} of {len(places)} training inputs looked at are constant: {listed(constant)}. They "
                "are trained on all the same; leave them out if they are faults."
            )

    def _look_at_outputs(self) -> None:
        """Probabilities in place of logits: what an audit would say after the training, said before."""
        batch = next(self.data.batches(OUTPUTS_LOOKED_AT, self.trained[:OUTPUTS_LOOKED_AT]))
        with self.model.guest(), torch.no_grad():
            outputs = self.model.forward(batch.inputs)
        self.notes += [f"{smell.message} {smell.advice}" for smell in softmax(outputs)]

    def describe(self, steps: int, steps_per_epoch: int, world: int) -> RunInfo:
        """run.json."""
        threat, own = ThreatModel(self.recipe.threats[0]), self.settings.batch_size - self.extra_rows
        return RunInfo(
            potemkin=__version__,
            recipe=show(self.recipe),
            threat=threat.sentence(self.model.box),
            threat_notation=show(threat.set),
            settings={name: _said(value) for name, value in vars(self.settings).items()},
            resolved=resolved(self.recipe, self.settings),
            model=Brought(
                spec=self.names.model,
                name=self.model.name,
                fingerprint=architecture(self.model.net),
                details={
                    "parameters": self.model.parameter_count,
                    "options": self.names.options,
                    "preprocessing": None if self.model.preprocessing is None else repr(self.model.preprocessing),
                },
            ),
            data=_brought(self.data, self.names.data),
            validation=_brought(self.validation or self.data, self.names.validation, len(self.held_out)),
            extra=None if self.extra is None else _brought(self.extra, self.names.extra),
            seed=self.settings.seed,
            steps=steps,
            steps_per_epoch=steps_per_epoch,
            examples=len(self.trained),
            learnt_per_epoch=len(self.trained) // own * own,
            world=world,
            threads=torch.get_num_threads(),
            notes=self.notes,
            reads=self.recipe.reads(),
            environment=environment(self.model.device),
            command=self.names.command,
        )


def only(source: DataSource, places: Ints) -> ArraySource:
    """The examples at these places, in memory, under their own ids."""
    read = list(source.batches(256, places))
    return ArraySource(
        torch.cat([batch.inputs for batch in read]),
        torch.cat([batch.labels for batch in read]),
        name=f"{source.name}, {len(places)} held out",
        ids=[example for batch in read for example in batch.ids],
        classes=source.classes,
        class_names=source.class_names,
        input_shape=source.input_shape,
    )


def architecture(net: nn.Module) -> str:
    """sha256 over names, shapes and types of all parameters and buffers: what a checkpoint has to fit."""
    parts = [f"{name} {tuple(t.shape)} {t.dtype}" for name, t in sorted(net.state_dict().items())]
    return sha256("\n".join(parts).encode())


def _brought(source: DataSource, spec: str | None, used: int | None = None) -> Brought:
    """A data set by name, size, and the fingerprint of up to 256 examples spread over it."""
    places = np.unique(np.linspace(0, len(source) - 1, num=min(LOOKED_AT, len(source))).astype(np.int64))
    return Brought(
        spec=spec,
        name=source.name,
        fingerprint=fingerprint(source, places),
        labels=_labels(source),
        details={
            "examples": len(source),
            "used": len(source) if used is None else used,
            "left_out": list(getattr(source, "left_out", ()))[:1000],
            "classes": source.classes,
            "class_names": (source.class_names or [])[:1000],
            "input_shape": list(source.input_shape),
        },
    )


def _labels(source: DataSource) -> str | None:
    labels = known_labels(source)
    return None if labels is None else sha256(np.ascontiguousarray(labels).tobytes())


def _said(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float | str) else show(value)
