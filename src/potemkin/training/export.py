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


def write_best(folder: Path, net: nn.Module) -> str:
    """Write model.safetensors, whole or not at all; tensors that share memory are written once each. Its sha256."""
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in net.state_dict().items()}
    written = save(tensors)
    write_whole(folder / WEIGHTS, written)
    return sha256(written)


def write_config(folder: Path, model: Classifier, architecture: str | None, recipe: str, threat: str) -> None:
    """Write model.json."""
    prepared = {name: getattr(model.preprocessing, name, None) for name in PREPARED}
    config = Config(architecture, show(model.box), prepared, model.classes, recipe, threat)
    write_whole(folder / CONFIG, config.text())
