"""What a run leaves behind: the best weights as safetensors, and what is needed to use them, as JSON.

model.safetensors   the weights that were best on validation, written whenever there are better ones
model.json          architecture, box, preprocessing: `load_model(folder)` reads both
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from potemkin.core.canonical import show
from potemkin.core.files import sha256, write_whole
from potemkin.models.classifier import Classifier
from potemkin.models.run_folder import CONFIG, PREPARED, WEIGHTS, Config

NEXT = ".next-model.safetensors"
"""Better weights whose checkpoint is not written yet: until then the run may go on from where the old ones are best."""


def write_next(folder: Path, net: nn.Module) -> str:
    """Write better weights beside the best, whole or not at all; tensors that share memory once each. Their sha256."""
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in net.state_dict().items()}
    written = save(tensors)
    write_whole(folder / NEXT, written)
    return sha256(written)


def settle_best(folder: Path, kept: str | None) -> bool:
    """Make model.safetensors the weights with the sha256 `kept`; False where they are not there any more."""
    if kept is not None and _digest(folder / NEXT) == kept:
        (folder / NEXT).replace(folder / WEIGHTS)
    (folder / NEXT).unlink(missing_ok=True)
    return kept is None or _digest(folder / WEIGHTS) == kept


def _digest(path: Path) -> str | None:
    return sha256(path.read_bytes()) if path.is_file() else None


def write_config(folder: Path, model: Classifier, architecture: str | None, recipe: str, threat: str) -> None:
    """Write model.json."""
    prepared = {name: getattr(model.preprocessing, name, None) for name in PREPARED}
    config = Config(architecture, show(model.box), prepared, model.classes, recipe, threat)
    write_whole(folder / CONFIG, config.text())
