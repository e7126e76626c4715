"""A training run's folder as a model: its best weights in its own architecture, box and preprocessing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from potemkin.core.notation import parse
from potemkin.errors import ConfigError, ModelError
from potemkin.models.preprocessing import Preprocessing
from potemkin.threat.box import Box

CONFIG, WEIGHTS = "model.json", "model.safetensors"


def is_run(path: Path) -> bool:
    """Whether the folder holds a trained model."""
    return os.path.isfile(path / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """Read model.json: the keys architecture (a text), box (a Box), preprocessing (a module or None), classes.

    Raises: ModelError for a run that has no weights yet, or whose network came as a Python object.
    """
    try:
        stored = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        architecture, box = stored["architecture"], parse(stored["box"], kind="part")
        given = {name: stored["preprocessing"].get(name) for name in ("mean", "std", "resize", "crop")}
        wanted = any(value is not None for value in given.values())
        preprocessing = Preprocessing(**given) if wanted else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise ModelError(f"{folder / CONFIG} is damaged ({error}): train again, or name the network itself.") from error
    if not isinstance(box, Box):
        raise ModelError(f"{folder / CONFIG} is damaged (box {stored['box']!r}).")
    if not os.path.isfile(folder / WEIGHTS):
        raise ModelError(
            f"The run {folder} has no {WEIGHTS} yet: nothing was evaluated. Go on with it: potemkin train "
            f"--resume {folder}."
        )
    if not isinstance(architecture, str):
        raise ModelError(
            f"The run {folder} was given its network as a Python object, which a file cannot name. Name what builds "
            f"it, module:function, with --weights {folder / WEIGHTS}."
        )
    return {
        "architecture": architecture, "box": box, "preprocessing": preprocessing, "classes": stored.get("classes"),
    }  # fmt: skip
