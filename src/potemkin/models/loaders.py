"""A model from what a user can type: a registered name, module:function, or a torch.export archive."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from potemkin.core.notation import parse
from potemkin.core.registry import entries
from potemkin.core.user_code import UserCode
from potemkin.errors import ConfigError, ModelError, suggest
from potemkin.models.classifier import Classifier
from potemkin.models.preprocessing import Preprocessing
from potemkin.models.run_folder import WEIGHTS, is_run, read_config
from potemkin.models.weights import load_weights
from potemkin.threat.box import Box

_OTHER_FILES = {
    ".py": "name the function in it that builds the network: PATH:function",
    ".onnx": "ONNX files are not read yet; save the network it came from with torch.export.save, as a .pt2 archive",
    ".safetensors": "weights alone are no model: name what builds it, module:function, with --weights PATH",
    ".pt": "it holds weights, or a pickled model that is never unpickled: name what builds it, module:function, with "
    "--weights PATH",
}
_OTHER_FILES[".pth"] = _OTHER_FILES[".bin"] = _OTHER_FILES[".ckpt"] = _OTHER_FILES[".pt"]


def load_model(
    spec: str | Path,
    *,
    weights: str | Path | None = None,
    box: Box | tuple[float, float] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: int | Sequence[int] | None = None,
    crop: int | Sequence[int] | None = None,
    device: str | torch.device | None = "cpu",
    input_shape: Sequence[int] | None = None,
    fresh: int | None = None,
) -> Classifier:
    """The classifier that `spec` names, with weights, preprocessing and box as given.

    Args:
        spec: a registered name ("digits-cnn", "resnet(width=32)"); "module:function" or "file.py:function", called
            without arguments, that returns a network or a Classifier; the folder of a training run; or the path of a
            torch.export archive (.pt2) with a dynamic batch.
        weights: a state dict for it, .safetensors or .pt/.pth (weights only); see `load_weights`.
        box: the inputs' range before preprocessing; None: (0, 1), or that of the Classifier which the function returns.
        mean, std, resize, crop: see `Preprocessing`.
        device: "cpu", "cuda", "auto"...; None: where the network's parameters are.
        input_shape: of one example, without rows; if given, eight of them are tried.
        fresh: for training: a seed to draw new weights from, where no `weights` are given; see `fresh_model`.

    Raises: ModelError, in one paragraph that names the value and what to do; the cause is chained.

    >>> load_model("digits-cnn", input_shape=(1, 8, 8)).classes
    10
    """
    try:
        wanted = any(value is not None for value in (mean, std, resize, crop))
        preprocessing = Preprocessing(mean, std, resize, crop) if wanted else None
        made = _opened(spec, weights) if fresh is None or weights is not None else fresh_model(str(spec), fresh)
        if isinstance(made, Classifier):
            classifier = _as_declared(made, str(spec), box, preprocessing, device)
        else:
            classifier = Classifier(
                made, (0.0, 1.0) if box is None else box, device=device, name=str(spec), preprocessing=preprocessing
            )
    except ConfigError as error:
        raise ModelError(str(error)) from error
    if input_shape is not None:
        try_out(classifier, input_shape)
    return classifier


def try_out(classifier: Classifier, input_shape: Sequence[int], rows: int = 8) -> None:
    """Ask once about `rows` examples in the middle of the box: what cannot work fails here, and `classes` is known.

    Raises: ModelError, as `Classifier.forward` does; ModelChangedError.
    """
    low, high = classifier.box.low, classifier.box.high
    middle = (low + high) / 2 if classifier.box.bounded else next(filter(math.isfinite, (low, high)), 0.0)
    with classifier.guest(), torch.no_grad():
        classifier.forward(torch.full((rows, *input_shape), middle))


def _opened(spec: str | Path, weights: str | Path | None) -> nn.Module | Classifier:
    if not isinstance(spec, str | Path):
        raise ModelError(
            f"load_model takes a name or a path, and this is of type {type(spec).__name__}. A network that you have "
            "already is used as pk.Classifier(net, box=(low, high))."
        )
    text, path = str(spec), Path(spec)
    made: nn.Module | Classifier
    if path.suffix == ".pt2":
        if weights is not None:
            raise ModelError(f"The archive '{path}' brings its own weights: leave out --weights {weights}.")
        from potemkin.models.exported import load_exported  # seconds of imports that nobody else needs

        return load_exported(_existing(path))
    known = [entry.name for entry in entries("model")]
    if text in known or text.partition("(")[0].strip() in known:
        made = parse(text, kind="model").open()  # type: ignore[attr-defined]
    elif is_run(path):
        return _trained(path, weights)
    elif ":" in text:
        made = _built(text)
    elif path.suffix in _OTHER_FILES:
        raise ModelError(f"'{path}' is no model by itself: {_OTHER_FILES[path.suffix].replace('PATH', text)}")
    else:
        # os.path, here and below: a name that no file can have is just not there, where Path raises OSError.
        what = "a folder" if os.path.isdir(path) else "a file of an unknown kind" if os.path.exists(path) else "unknown"
        raise ModelError(
            f"The model '{text}' is {what}.{suggest(text, known)} Give a registered name ({', '.join(known)}), "
            "module:function, path/to/file.py:function, the folder of a training run, or a torch.export archive (.pt2)."
        )
    if weights is not None:
        load_weights(made.net if isinstance(made, Classifier) else made, weights)
    return made


def _trained(folder: Path, weights: str | Path | None) -> Classifier:
    if weights is not None:
        raise ModelError(f"The run {folder} brings its own weights: leave out --weights {weights}.")
    config = read_config(folder)
    try:
        made = _opened(config["architecture"], None)
    except ModelError as error:
        raise ModelError(
            f"The run {folder} names {config['architecture']!r:.200} as its architecture, looked for from the folder "
            f"that you are in: {error}"
        ) from error
    net, preprocessing = made.net if isinstance(made, Classifier) else made, config["preprocessing"]
    if isinstance(made, Classifier) and preprocessing is None:
        preprocessing = made.preprocessing  # the user's own module, which model.json cannot say
    load_weights(net, folder / WEIGHTS)
    return Classifier(
        net.eval(), config["box"], classes=config["classes"], name=str(folder), preprocessing=preprocessing
    )


def fresh_model(spec: str, seed: int) -> nn.Module | Classifier:
    """The network that `spec` names, with new weights drawn from `seed`; what was trained before stays trained.

    A registered architecture is made anew; a user's function is called while torch's generator stands at the seed.
    Raises: ModelError, as `load_model` does.
    """
    known = [entry.name for entry in entries("model")]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec in known or spec.partition("(")[0].strip() in known:
            try:
                made: nn.Module = parse(spec, kind="model").fresh()  # type: ignore[attr-defined]
            except ConfigError as error:
                raise ModelError(str(error)) from error
            return made
        return _opened(spec, None)


def _built(spec: str) -> nn.Module | Classifier:
    """What the user's function returns; a name that holds a network, not a function, is taken as it is."""
    form = "Give module:function, such as my_models:resnet20, or path/to/my_models.py:resnet20."
    code = UserCode(spec, "model", ModelError, form)
    with code.named() as found:
        made = found if isinstance(found, nn.Module | Classifier) else code.called(found)
    if isinstance(made, nn.Module | Classifier):
        return made
    advice = " Return the instance, not the class." if isinstance(made, type) else ""
    raise ModelError(
        f"{spec} returned {type(made).__module__}.{type(made).__name__}; a torch.nn.Module or a potemkin.Classifier is "
        f"needed.{advice}"
    )


def _existing(path: Path) -> Path:
    if os.path.isfile(path):
        return path
    what = "is a folder" if os.path.isdir(path) else "does not exist"
    raise ModelError(f"The archive '{path}' {what}: give the path of a file made by torch.export.save.")


def _as_declared(
    made: Classifier,
    spec: str,
    box: Box | tuple[float, float] | None,
    preprocessing: Preprocessing | None,
    device: str | torch.device | None,
) -> Classifier:
    """The Classifier that the user's function declared, on the wanted device; nothing of it is overruled in silence."""
    if preprocessing is not None:
        raise ModelError(
            f"{spec} returns a Classifier, which declares its own preprocessing: leave out --mean --std --resize "
            "--crop, or return the network alone."
        )
    if box is not None and Box.of(box) != made.box:
        raise ModelError(f"{spec} returns a Classifier with {made.box!r}, but {Box.of(box)!r} was asked for: drop one.")
    return Classifier(
        made.net, made.box, classes=made.classes, device=device, name=made.name, preprocessing=made.preprocessing
    )
