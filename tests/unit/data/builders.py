"""Small data sets for the tests of this folder, written the slow and obvious way."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(count: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels that use the whole range 0..255."""
    made = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    made.flat[0], made.flat[-1] = 0, 255
    return made


def classes(count: int, k: int = 3) -> NDArray[np.int64]:
    return np.arange(count, dtype=np.int64) % k


def write_npz(path: Path, **members: Any) -> Path:
    np.savez(path, **members)
    return path


def idx_bytes(array: NDArray[Any], kind: int = 0x08) -> bytes:
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return head + array.tobytes()


def write_idx(folder: Path, images: bytes, labels: bytes | None, *, zipped: bool = False, stem: str = "t10k") -> Path:
    end = ".gz" if zipped else ""
    pack = gzip.compress if zipped else bytes
    path = folder / f"{stem}-images-idx3-ubyte{end}"
    path.write_bytes(pack(images))
    if labels is not None:
        (folder / f"{stem}-labels-idx1-ubyte{end}").write_bytes(pack(labels))
    return path


def write_picture(path: Path, array: NDArray[np.uint8], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def write_folder(root: Path, per_class: int = 2, size: tuple[int, ...] = (6, 5, 3)) -> Path:
    """Two classes, `ant` and `bee`, with losslessly written pictures."""
    for label, name in enumerate(("ant", "bee")):
        for number, array in enumerate(pixels(per_class, *size, seed=label)):
            write_picture(root / name / f"{number}.png", array)
    return root
