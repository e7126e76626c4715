"""idx files, the original format of MNIST: big-endian sizes, then uint8 values; gzip or plain."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from potemkin.data.arrays import ArraySource
from potemkin.errors import DataError

_UINT8 = 0x08
_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_CHUNK = 1 << 20


def looks_like_idx(path: Path) -> bool:
    """Whether the file starts with an idx magic number or is named as idx files are."""
    if re.search(r"idx\d", path.name):
        return True
    try:
        with _opened(path) as file:
            magic = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in _TYPES and 1 <= magic[3] <= 4


def open_idx(path: Path, name: str) -> ArraySource:
    """The examples of an idx images file and of the labels file beside it (both stay uint8 in memory)."""
    images = read_idx(path)
    if images.ndim == 1:
        raise DataError(
            f"{path} is the idx file of the labels: give that of the images, the labels are found beside it."
        )
    labels = read_idx(_labels_beside(path))
    if labels.ndim != 1:
        found = f"{labels.ndim} dimensions {labels.shape}"
        raise DataError(f"The labels file beside {path} has {found}, expected 1: one label per image.")
    return ArraySource(images, labels, name=name)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The uint8 array of an idx file; magic number, type and size are checked."""
    try:
        with _opened(path) as file:
            shape = _header(file, path)
            expected = math.prod(shape)
            data = _read(file, expected)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): the file is damaged or truncated.") from error
    if len(data) != expected:
        found = f"only {len(data)}" if len(data) < expected else "more"
        raise DataError(
            f"{path} says that it holds {'x'.join(map(str, shape))} = {expected} values, but there are {found}: the "
            "file is truncated or damaged. Fetch it again."
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb")


def _header(file: BinaryIO, path: Path) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or not 1 <= magic[3] <= 4:
        raise DataError(f"{path} is no idx file: it starts with 0x{magic.hex()}, expected 0x00000803 for images.")
    if magic[2] != _UINT8:
        raise DataError(f"{path} holds {_TYPES[magic[2]]}, expected uint8. Save it as an .npz with images and labels.")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} ends inside its header: the file is truncated. Fetch it again.")
    return struct.unpack(f">{magic[3]}I", sizes)


def _read(file: BinaryIO, expected: int) -> bytearray:
    """Up to one byte more than expected, in chunks: a header that lies about the size costs no memory."""
    data = bytearray()
    while len(data) <= expected:
        chunk = file.read(min(_CHUNK, expected + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    return data


def _labels_beside(path: Path) -> Path:
    plain = path.name.removesuffix(".gz")
    base = plain.replace("images", "labels")
    base = re.sub(r"idx\d", "idx1", base)
    if base == plain:
        raise DataError(
            f"{path} has neither 'images' nor 'idx3' in its name, so the name of its labels file is not known. "
            "Name the two like train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz or not)."
        )
    candidates = [path.with_name(base), path.with_name(base + ".gz")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    tried = " nor ".join(str(c) for c in candidates)
    raise DataError(f"{path} has no labels file beside it: found neither {tried}. Put the labels there.")
