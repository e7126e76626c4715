"""A training run's folder as a model: its best weights in its own architecture, box and preprocessing."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from potemkin.core.notation import parse
from potemkin.errors import ConfigError, ModelError
from potemkin.models.preprocessing import Preprocessing
from potemkin.threat.box import Box

CONFIG, WEIGHTS = "model.json", "model.safetensors"
PREPARED = ("mean", "std", "resize", "crop")
SCHEMA = "1"


@dataclass(frozen=True)
class Config:
    """What model.json says."""

    architecture: str | None
    """What builds the network, as `load_model` reads it; None where it came as a Python object."""
    box: str
    """In the notation."""
    preprocessing: dict[str, Any]
    classes: int | None
    recipe: str
    threat: str

    def text(self) -> str:
        """As it is written."""
        told = {"schema_version": SCHEMA, **vars(self)}
        return json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, stored: object) -> Self:
        """From what was read; TypeError, ValueError where it is something else."""
        if not isinstance(stored, dict) or "architecture" not in stored:
            raise TypeError("it is no object with an architecture")
        version = stored.pop("schema_version", None)
        if version != SCHEMA:
            raise ValueError(f"its schema_version is {version!r:.200}, this potemkin reads {SCHEMA!r}")
        if unknown := sorted(set(stored) - {each.name for each in fields(cls)}):
            raise ValueError(f"{unknown[0]!r:.200} means nothing to it")
        config = cls(**stored)
        named = config.architecture
        if named is not None and (not isinstance(named, str) or "\0" in named):
            raise TypeError(f"the architecture {named!r:.200} is no name")
        if not isinstance(config.box, str) or not isinstance(config.preprocessing, dict):
            raise TypeError("box is no text, or preprocessing no object")
        return config


def is_run(path: Path) -> bool:
    """Whether the folder holds a trained model."""
    return os.path.isfile(path / CONFIG)


def read_config(folder: Path) -> dict[str, Any]:
    """Read model.json: the keys architecture (a text), box (a Box), preprocessing (a module or None), classes.

    Raises: ModelError for a run that has no weights yet, or whose network came as a Python object.
    """
    stored = _stored(folder)
    try:
        box = parse(stored.box, kind="part")
        wanted = any(value is not None for value in stored.preprocessing.values())
        preprocessing = Preprocessing(**stored.preprocessing) if wanted else None
    except (TypeError, ConfigError) as error:
        raise _damaged(folder, error) from error
    architecture = _architecture(folder)
    if not isinstance(box, Box):
        raise _damaged(folder, f"box {stored.box!r:.200} is no Box(low, high)")
    if not os.path.isfile(folder / WEIGHTS):
        raise ModelError(
            f"The run {folder} has no {WEIGHTS} yet: nothing was evaluated. Resume it until its first evaluation."
        )
    if architecture is None:
        raise ModelError(
            f"The run {folder} was given its network as a Python object, which a file cannot name. Name what builds "
            f"it, module:function, with --weights {folder / WEIGHTS}."
        )
    return {
        "architecture": architecture, "box": box, "preprocessing": preprocessing, "classes": stored.classes,
    }  # fmt: skip


def _stored(folder: Path) -> Config:
    try:
        return Config.of(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(folder, error) from error


def _architecture(folder: Path) -> str | None:
    """What builds the network: a run that began with another run's network has that one's architecture."""
    named, seen = _stored(folder).architecture, {os.path.realpath(folder)}
    while named is not None and is_run(Path(named)):
        if os.path.realpath(named) in seen:
            raise _damaged(folder, f"it names itself as its architecture, by way of {named!r:.200}")
        seen.add(os.path.realpath(named))
        named = _stored(Path(named)).architecture
    _refuse_own_code(folder, named, seen)
    return named


def _refuse_own_code(folder: Path, named: str | None, runs: set[str]) -> None:
    """Weights that were passed on bring no code along: what is run is the user's own, or not in the run's folder."""
    where = str(named).rpartition(":")[0]
    if where.endswith(".py") and any(Path(os.path.realpath(where)).is_relative_to(run) for run in runs):
        raise ModelError(
            f"{folder / CONFIG} names code in the run's own folder, {where!r:.200}, which is not run: whoever made "
            f"the run wrote it. If you trust it, name it yourself, {named!r:.200}, with --weights {folder / WEIGHTS}."
        )


def _damaged(folder: Path, why: object) -> ModelError:
    return ModelError(f"{folder / CONFIG} is damaged ({why}): train again, or name the network itself with --weights.")
