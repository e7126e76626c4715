"""What several verbs ask for: the model and how to bring it, and how to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from potemkin.cli.session import Session
from potemkin.errors import ConfigError

if TYPE_CHECKING:
    from potemkin.data.source import DataSource
    from potemkin.models.classifier import Classifier
    from potemkin.threat.box import Box

ADVERSARY = Group.create_ordered("The adversary")
MODEL = Group.create_ordered("The model, its inputs and where it runs")
RUN = Group.create_ordered("The run")
GATES = Group.create_ordered("Gates")
ANSWER = Group.create_ordered("The answer")

Switch = Parameter(negative="", show_default=False)
Hyphen = Parameter(allow_leading_hyphen=True)


@Parameter(name="*", group=ANSWER)
@dataclass(frozen=True)
class AnswerOptions:
    """How every verb answers."""

    json: Annotated[bool, Switch] = False
    """One JSON object on stdout, everything for people on stderr."""
    debug: Annotated[bool, Switch] = False
    """With an error, its traceback, too."""


@Parameter(name="*", group=MODEL)
@dataclass(frozen=True)
class ModelOptions:
    """How to bring the model: what stands here becomes part of it."""

    weights: str | None = None
    """State dict for it: .safetensors, or .pt/.pth without code in it."""
    box: Annotated[str | None, Hyphen] = None
    """Range of every input value: LOW,HIGH. Default: 0,1, or what the model declares; -inf,inf for none."""
    mean: Annotated[str | None, Hyphen] = None
    """Taken off inside the model: one number, or one per channel, such as 0.485,0.456,0.406."""
    std: str | None = None
    """What the model divides by, in the same form."""
    resize: str | None = None
    """Resized inside the model: the shorter side, or HEIGHT,WIDTH."""
    crop: str | None = None
    """Cropped (the centre) inside the model: a side, or HEIGHT,WIDTH."""
    device: str = "auto"
    """Where it runs: cpu, cuda, cuda:1, or auto (a GPU if there is one)."""
    image_size: int | None = None
    """For pictures in folders, tar shards or parquet: the short side is resized to this, the centre cropped."""

    def bring(self, session: Session, model: str, data: str, fresh: int | None = None) -> tuple[Classifier, DataSource]:
        """Load both, saying so; the model is tried on eight inputs of the data's shape.

        `fresh` is the seed of new weights, for training. A wrong option is a ConfigError, what it names a DataError or
        ModelError.
        """
        from potemkin.data.load import load_data

        session.say(f"Loading the data {data} …")
        source = load_data(data, image_size=self.image_size)
        session.say(f"Loading the model {model} …")
        return self._load(model, source.input_shape, fresh), source

    def _load(self, spec: str, input_shape: Sequence[int], fresh: int | None) -> Classifier:
        from potemkin.models.loaders import load_model

        box, mean, std = self._box(), numbers("--mean", self.mean), numbers("--std", self.std)
        resize, crop = sizes("--resize", self.resize), sizes("--crop", self.crop)
        _refuse_early(mean, std, resize, crop, self.device)
        return load_model(
            spec,
            weights=self.weights,
            box=box,
            mean=mean,
            std=std,
            resize=resize,
            crop=crop,
            device=self.device,
            input_shape=input_shape,
            fresh=fresh,
        )

    def again(self, model: str, data: str) -> list[str]:
        """The words that bring model and data to `potemkin verify`; the device is the verifier's own."""
        given = {"weights": self.weights, "box": self.box, "mean": self.mean, "std": self.std}
        given |= {"resize": self.resize, "crop": self.crop}
        given |= {"image-size": None if self.image_size is None else str(self.image_size)}
        named = [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]
        return ["--model", model, "--data", data, *named]

    def _box(self) -> Box | None:
        if self.box is None:
            return None
        from potemkin.threat.box import Box

        ends = numbers("--box", self.box, "two numbers LOW,HIGH, such as 0,1")
        if ends is None or len(ends) != 2:
            raise ConfigError(f"--box {self.box!r} has {len(ends or ())} numbers: give two, LOW,HIGH, such as 0,1.")
        return Box.of((ends[0], ends[1]))


def numbers(
    option: str, text: str | None, wanted: str = "numbers, such as 0.485,0.456,0.406"
) -> tuple[float, ...] | None:
    """Numbers separated by commas, or a ConfigError that names the option; None stays None."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} {text!r} cannot be read: give {wanted}, separated by commas.") from None


def sizes(option: str, text: str | None) -> tuple[int, ...] | None:
    """One or two whole numbers separated by a comma, or a ConfigError that names the option; None stays None."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} {text!r} cannot be read: give pixels, such as 224 or 224,224.") from None


def _refuse_early(
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    resize: tuple[int, ...] | None,
    crop: tuple[int, ...] | None,
    device: str,
) -> None:
    """The constructors know what is allowed: asked before the model is opened, they say it is the option's fault."""
    from torch import nn

    from potemkin.models.classifier import Classifier
    from potemkin.models.preprocessing import Preprocessing

    Preprocessing(mean, std, resize, crop)
    Classifier(nn.Identity(), device=device)
