"""`.npz` files: one array of inputs, one of labels, read without pickle."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from potemkin.data.arrays import ArraySource
from potemkin.errors import DataError

INPUT_KEYS = ("images", "inputs", "x")
LABEL_KEYS = ("labels", "y")
NAME_KEYS = ("names", "class_names")
_BROKEN = (ValueError, TypeError, ArithmeticError, OSError, EOFError, KeyError, MemoryError, RuntimeError)
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)


def open_npz(path: Path, name: str, input_shape: tuple[int, ...] | None = None) -> ArraySource:
    """The examples of an npz with `images` (or `inputs`, `x`), `labels` (or `y`) and perhaps `names` of the classes.

    The arrays stay in memory as they are stored (uint8 as uint8); other members of the file are not read.
    """
    with path.open("rb") as file:  # opened here, so that it is closed here: np.load leaves a broken one open
        archive = _archive(file, path)
        inputs = _member(archive, path, _pick(archive, path, INPUT_KEYS, "inputs"))
        labels = _member(archive, path, _pick(archive, path, LABEL_KEYS, "labels"))
        named = [key for key in NAME_KEYS if key in archive.files]
        names = _class_names(_member(archive, path, named[0]), path, named[0]) if named else None
    return ArraySource(inputs, labels, name=name, class_names=names, input_shape=input_shape)


def _archive(file: BinaryIO, path: Path) -> Any:
    try:
        archive = np.load(file, allow_pickle=False)
    except (*_BROKEN, *_BROKEN_ZIP) as error:
        raise DataError(f"{path} is no readable npz file: {error}. Write it again with np.savez_compressed.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds one bare array (.npy), expected an npz with inputs and labels. {_recipe()}")
    return archive


def _recipe() -> str:
    return "Write it with np.savez_compressed('data.npz', images=images, labels=labels)."


def _pick(archive: Any, path: Path, keys: Sequence[str], what: str) -> str:
    found = [key for key in keys if key in archive.files]
    if len(found) == 1:
        return found[0]
    allowed = ", ".join(keys)
    if found:
        raise DataError(f"{path} has {what} under {' and '.join(found)}: keep exactly one of {allowed}.")
    held = ", ".join(archive.files) or "nothing"
    raise DataError(f"{path} has no {what}: expected one of the keys {allowed}, found {held}. {_recipe()}")


def _member(archive: Any, path: Path, key: str) -> NDArray[Any]:
    try:
        array: NDArray[Any] = archive[key]
    except (*_BROKEN, *_BROKEN_ZIP) as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise DataError(
                f"'{key}' in {path} is an object array, which only pickle can read, and pickle runs code: refused. "
                f"Make it one numeric array (rows of one length: np.stack). {_recipe()}"
            ) from error
        raise DataError(f"'{key}' in {path} cannot be read ({error}): the file is damaged or truncated.") from error
    return array


def _class_names(array: NDArray[Any], path: Path, key: str) -> list[str]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise DataError(
            f"'{key}' in {path} is {array.dtype} of shape {array.shape}, expected one text per class: "
            "np.array(['cat', 'dog'])."
        )
    return [str(item) for item in array]
