"""From what a user gives (a name, a path, a function, arrays, a loader) to a data source."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from potemkin.core.notation import parse
from potemkin.core.registry import entries, find, lookup
from potemkin.core.user_code import UserCode
from potemkin.data import builtin as _builtin  # noqa: F401 (registers its names, so that no other room is loaded)
from potemkin.data.arrays import ArraySource
from potemkin.data.files import short_name
from potemkin.data.source import DataSource
from potemkin.errors import ConfigError, DataError, suggest

_CALL = re.compile(r"\s*([A-Za-z_][\w-]*)\s*(\(.*\))?\s*", re.DOTALL)
_WINDOWS_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")
_PICKLED = {".pt", ".pth", ".pkl", ".pickle", ".joblib", ".p"}


@runtime_checkable
class Openable(Protocol):
    """A registered data entry such as `digits(part='train')`: a recipe that opens a source."""

    def open(self) -> DataSource: ...


def load_data(spec: object, *, image_size: int | None = None, input_shape: tuple[int, ...] | None = None) -> DataSource:
    """A data source from `spec`: checked in form here, in values by `check_source` and `checked_batches`.

    - a text or path: "digits", "digits(part='train')", an `.npz` file (keys images|inputs|x and labels|y), an idx
      images file with its labels file beside it (`.gz` too), a folder of images in class subfolders, webdataset
      shards (one `.tar`, or "shard-{000000..000146}.tar"), `.parquet` (one, a range, a folder of them),
      "module:function" or "path.py:function" returning anything of this list but a text. A registered name goes
      before a file of the same name: write "./digits" for the file.
    - (inputs, labels): arrays or tensors; a `DataSource`; a torch Dataset or DataLoader, or another iterable of
      (input, label) that can be read again and knows its length.

    `image_size` (pictures in folders, shards, parquet) resizes the short side and crops the centre. `input_shape` is
    the shape of one example that the model expects, where known: it lets pictures with their channels last, (H, W, C),
    pass as they are.

    Errors: DataError (the data), ConfigError (`spec` is no such thing, wrong arguments).

    >>> load_data("digits").input_shape
    (1, 8, 8)
    """
    if image_size is not None and (isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1):
        raise ConfigError(f"image_size must be an integer of at least 1 (pixels), found {image_size!r}.")
    if isinstance(spec, (str, os.PathLike)):
        return _from_text(spec, image_size, input_shape)
    if image_size is not None:
        raise ConfigError(
            f"image_size={image_size} is for image folders, .tar shards and .parquet; these data are a "
            f"{type(spec).__name__}."
        )
    return as_source(spec, input_shape=input_shape)


def _from_text(spec: str | os.PathLike[str], image_size: int | None, input_shape: tuple[int, ...] | None) -> DataSource:
    if str(spec).strip() == "":
        raise ConfigError(f"The data are named by an empty text ({spec!r}). Give {_forms()}.")
    found = _registered(spec) if isinstance(spec, str) else None
    path, kind = (Path(spec), "name") if found is not None else _look(spec)
    pieces = "" if found is not None else _in_pieces(path, kind)
    if pieces == "shards":
        from potemkin.data.shards import open_shards

        return open_shards(path, short_name(path), image_size)
    if pieces == "parquet":
        from potemkin.data.parquet import open_parquet

        return open_parquet(path, short_name(path), image_size)
    if kind == "folder":
        from potemkin.data.folder import open_folder

        return open_folder(path, short_name(path), image_size)
    if image_size is not None:
        raise ConfigError(
            f"image_size={image_size} is for image folders, .tar shards and .parquet; {str(spec)!r} is none. Leave it "
            "out (shards(...) and parquet(...) take it between their brackets)."
        )
    if found is not None:
        return found
    return _from_file(path, input_shape) if kind == "file" else _from_function(str(spec), input_shape)


def _in_pieces(path: Path, kind: str) -> str:
    """ "shards" or "parquet" if the data are one of these, or several files of it: a range in braces, a folder."""
    named = path.name.lower()
    if kind == "folder":
        if not any(path.glob("*.parquet")):
            return ""
        classes = (item for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
        return "" if any(classes) else "parquet"
    if kind != "file" and "{" not in str(path):
        return ""
    if re.search(r"\.(tar(\.\w+)?|tgz|tbz2?|txz)$", named):  # compressed ones too: they are refused in words
        return "shards"
    if named.endswith(".parquet"):
        return "parquet"
    if kind == "" and ":" not in str(path):
        raise ConfigError(f"A range in braces is for .tar shards and .parquet files; {str(path)!r} is neither.")
    return ""


def _look(spec: str | os.PathLike[str]) -> tuple[Path, str]:
    """The path, and whether it is a "folder", a "file" or "" (nothing)."""
    try:
        path = Path(spec).expanduser()
        if path.is_file() or path.is_dir():
            return path, "file" if path.is_file() else "folder"
        if path.exists():
            raise DataError(f"{path} is neither a file nor a folder (a pipe or a device?): give a file.")
        return path, ""
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, no right to look, no home folder
        raise DataError(f"The path {str(spec)[:200]!r} cannot be looked at: {error}. Give {_forms()}.") from error


def as_source(data: object, *, name: str | None = None, input_shape: tuple[int, ...] | None = None) -> DataSource:
    """A data source from Python objects: arrays, a source, a registered entry, a Dataset or DataLoader."""
    if isinstance(data, DataSource):
        return data
    if isinstance(data, Openable) and not isinstance(data, type):
        return data.open()
    if isinstance(data, Mapping):
        keys = ", ".join(map(repr, list(data)[:8]))
        raise DataError(f"The data are a {type(data).__name__} with keys {keys}: give a tuple (inputs, labels).")
    if isinstance(data, (Tensor, np.ndarray)) or hasattr(data, "__array__"):
        shape = tuple(np.shape(data))
        raise DataError(f"The data are one array of shape {shape}, without labels: give a tuple (inputs, labels).")
    if isinstance(data, (tuple, list)) and _are_arrays(data):
        if len(data) != 2:
            raise DataError(f"The data are {len(data)} arrays, expected two: (inputs, labels).")
        return ArraySource(data[0], data[1], name=name or "arrays", input_shape=input_shape)
    from potemkin.data.iterable import open_iterable

    return open_iterable(data, name or type(data).__name__)


def _are_arrays(data: tuple[object, ...] | list[object]) -> bool:
    """Whether this is (inputs, labels), not a list of pairs: arrays, or a tuple of two lists."""
    first = data[0] if data else None
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(item, list) for item in data):
        return True
    return isinstance(first, Tensor) or hasattr(first, "__array__")


def _registered(spec: str) -> DataSource | None:
    match = _CALL.fullmatch(spec)
    entry = find(match[1]) if match else None
    if entry is None or entry.kind != "data":
        return None
    recipe = parse(spec, kind="data")
    if not isinstance(recipe, Openable):
        raise ConfigError(f"{spec!r} is registered as data but its {type(recipe).__name__} has no open().")
    return recipe.open()


def _from_file(path: Path, input_shape: tuple[int, ...] | None) -> DataSource:
    name = short_name(path)
    if path.suffix.lower() in {".npz", ".npy"}:
        from potemkin.data.npz import open_npz

        return open_npz(path, name, input_shape)
    from potemkin.data.idx import looks_like_idx, open_idx

    if looks_like_idx(path):
        return open_idx(path, name)
    if path.suffix.lower() in _PICKLED:
        raise DataError(
            f"{path} is a {path.suffix} file: reading it may run code (pickle), so it is refused. Save the arrays with "
            "np.savez_compressed('data.npz', images=images, labels=labels)."
        )
    raise DataError(
        f"{path} is of no known format ({path.suffix or 'no suffix'}). Known are .npz, idx (.gz too), image "
        "folders, .tar shards and .parquet; for others write a function that returns (inputs, labels) and give "
        "'path.py:function'."
    )


def _from_function(spec: str, input_shape: tuple[int, ...] | None) -> DataSource:
    if ":" in _WINDOWS_DRIVE.sub("", spec, count=1):
        if "://" in spec:
            raise DataError(f"{spec!r} is an address: nothing is downloaded. Fetch the file and give its path.")
        return as_source(_returned(spec), name=short_name(Path(spec)), input_shape=input_shape)
    match = _CALL.fullmatch(spec)
    if match is not None and find(match[1]) is not None:
        lookup(match[1], "data")  # raises: it is a model, an attack, ...
    close = suggest(match[1], [entry.name for entry in entries("data")]) if match else ""
    looks_like_path = "/" in spec or "\\" in spec or Path(spec).suffix != ""
    problem = "there is no such file or folder" if looks_like_path else "it is neither a registered name nor a path"
    message = f"Cannot find the data {spec!r}: {problem}.{close} Give {_forms()}."
    raise DataError(message) if looks_like_path else ConfigError(message)


def _returned(spec: str) -> object:
    """What the user's function returns."""
    code = UserCode(spec, "data", DataError, "Give module:function, or path/to/my_data.py:function.")
    with code.named() as found:
        returned = code.called(found)
    if returned is None:
        raise DataError(f"{spec!r} returned None, expected (inputs, labels) or a data source: is a return missing?")
    if isinstance(returned, (str, bytes, os.PathLike)):
        raise DataError(f"{spec!r} returned {returned!r}, expected (inputs, labels) or a data source.")
    return returned


def _forms() -> str:
    names = ", ".join(entry.name for entry in entries("data"))
    return (
        f"a registered name ({names}), a .npz file, an idx images file, a folder with one subfolder per class, "
        ".tar shards, a .parquet file, or "
        "'module:function' / 'path.py:function' that returns (inputs, labels)"
    )
