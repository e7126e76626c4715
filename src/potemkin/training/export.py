"""What a run leaves behind: the best weights as safetensors, and what is needed to use them, as JSON.

model.safetensors   the weights that were best on validation, written whenever there are better ones
model.json          architecture, box, preprocessing: `load_model(folder)` reads both
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from safetensors.torch import save
from torch import nn

from potemkin.core.canonical import show
from potemkin.core.files import explained, write_whole
from potemkin.models.classifier import Classifier
from potemkin.models.run_folder import CONFIG, WEIGHTS


def write_best(folder: Path, net: nn.Module) -> None:
    """Write model.safetensors, whole or not at all; tensors that share memory are written once each."""
    path = folder / WEIGHTS
    unfinished = path.with_name(f".{WEIGHTS}.{os.getpid()}")
    data = save({name: tensor.detach().contiguous().clone() for name, tensor in net.state_dict().items()})
    with explained(path):
        try:
            unfinished.write_bytes(data)
            os.replace(unfinished, path)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)


def write_config(folder: Path, model: Classifier, architecture: str | None, recipe: str, threat: str) -> None:
    """Write model.json."""
    prep = model.preprocessing
    config = {
        "schema_version": "1",
        "architecture": architecture,
        "box": show(model.box),
        "preprocessing": {name: getattr(prep, name, None) for name in ("mean", "std", "resize", "crop")},
        "classes": model.classes,
        "recipe": recipe,
        "threat": threat,
    }
    write_whole(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
