"""Image folders: one subfolder per class, decoded batch by batch."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from potemkin.core.explain import counted
from potemkin.data.images import SUFFIXES, Picture, decode, measure, other_size
from potemkin.data.source import BaseSource, Batch, ExampleId, Ints, make_batch
from potemkin.errors import DataError

_MEASURED = 512  # so many headers are read at once; other sizes further on are found when they are decoded
_HIDDEN = {"thumbs.db", "desktop.ini"}  # hidden in their own system, not by a dot


class FolderSource(BaseSource):
    """The pictures of `root/CLASS/FILE`; label = rank of the sorted class names, id = "CLASS/FILE".

    Served as float32 (C, H, W), 8-bit values / 255, C = 1 if all pictures are grey, else 3.
    """

    labels_by_rank = True

    def __init__(self, root: Path, name: str, image_size: int | None = None) -> None:
        names = _class_folders(root)
        found = [(label, file) for label, held in enumerate(names) for file in _pictures(root / held, root)]
        if not found:
            raise DataError(
                f"{root} has {counted(len(names), 'class subfolder')}, but no picture in them ({_kinds()})."
            )
        self._root, self._files = root, [f"{names[label]}/{file}" for label, file in found]
        self._labels = np.array([label for label, _ in found], dtype=np.int64)
        self._image_size = image_size
        self._grey, height, width = self._form()
        shape = (1 if self._grey else 3, height, width)
        super().__init__(name=name, input_shape=shape, classes=len(names), class_names=names)

    def __len__(self) -> int:
        return len(self._files)

    def labels(self) -> Ints:
        return self._labels.copy()

    def _form(self) -> tuple[bool, int, int]:
        """Whether all pictures (looked at) are grey, and their one size."""
        some = np.unique(np.linspace(0, len(self._files) - 1, min(_MEASURED, len(self._files))).astype(int))
        first: tuple[str, Picture] | None = None
        grey = True
        for file in (self._files[place] for place in some):
            picture = measure(self._root / file, file)
            first = first or (file, picture)
            grey &= picture.grey
            if self._image_size is None and picture.size != first[1].size:
                raise self._other_size(file, picture.size, first[1].size)
        assert first is not None
        width, height = first[1].size if self._image_size is None else (self._image_size, self._image_size)
        return grey, height, width

    def _other_size(self, file: str, found: tuple[int, int], expected: tuple[int, int]) -> DataError:
        of, first = f"The pictures of {self._root}", f"the first, {self._files[0]},"
        return other_size(file, found, expected, of=of, first=first)

    def _read(self, positions: Ints) -> Batch:
        files = [self._files[position] for position in positions.tolist()]
        channels, height, width = self.input_shape
        pixels = np.empty((len(files), channels, height, width), dtype=np.float32)
        for row, file in zip(pixels, files, strict=True):
            array = decode(self._root / file, file, grey=self._grey, size=self._image_size)
            if array.shape[1:] != (height, width):
                raise self._other_size(file, (array.shape[2], array.shape[1]), (width, height))
            row[...] = array
        pixels /= np.float32(255)
        ids: list[ExampleId] = list(files)
        return make_batch(ids, positions, pixels, self._labels[positions])


def open_folder(root: Path, name: str, image_size: int | None = None) -> FolderSource:
    """The pictures of a folder with one subfolder per class; `image_size` resizes the short side, crops the centre.

    Hidden files are left out; every other file in a class subfolder must be a picture (the first frame of a moving
    one is taken). Files beside the subfolders are no examples, unless they are pictures: then there is no telling.
    """
    return FolderSource(root, name, image_size)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            listed = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    for entry in listed:
        if entry.name.startswith(".") or entry.name.lower() in _HIDDEN:
            continue
        if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in entry.name):
            raise DataError(f"The name {entry.name!r} in {folder} is not printable text: ids are names. Rename it.")
        yield entry


def _class_folders(root: Path) -> list[str]:
    names, stray = [], []
    for entry in _entries(root):
        if entry.is_dir():
            names.append(entry.name)
        elif Path(entry.name).suffix.lower() in SUFFIXES:
            stray.append(entry.name)
    if stray and names:
        raise DataError(
            f"{root} has pictures beside its class subfolders ({stray[0]}, {len(stray)} in all): they have no class. "
            "Move them into a subfolder or away."
        )
    if not names:
        held = f"{counted(len(stray), 'picture')} but no subfolder" if stray else "no subfolder"
        raise DataError(
            f"{root} has {held}: expected one subfolder per class, with its pictures in it ({_kinds()}).{_files(root)}"
        )
    return names


def _files(root: Path) -> str:
    """What else in there is read as data by itself."""
    found = sorted(entry.name for entry in _entries(root) if entry.name.endswith((".npz", "ubyte", "ubyte.gz")))
    return f" Did you mean {' or '.join(str(root / name) for name in found[:3])}?" if found else ""


def _pictures(folder: Path, root: Path) -> Iterator[str]:
    for entry in _entries(folder):
        where = f"{folder.name}/{entry.name}"
        if entry.is_dir():
            raise DataError(
                f"{where} in {root} is a folder inside a class: expected pictures only. {_level_below(root)}"
            )
        if Path(entry.name).suffix.lower() not in SUFFIXES:
            raise DataError(f"{where} in {root} is no picture ({_kinds()}). Move it away, or convert it.")
        if not _is_file(entry):
            raise DataError(f"{where} in {root} is no ordinary file, or a link that leads nowhere. Move it away.")
        yield entry.name


def _level_below(root: Path) -> str:
    """What to do about folders inside of classes: most often the root is one level too high (train/, test/)."""
    holders = [entry.name for entry in _entries(root) if entry.is_dir() and _holds_folders_only(root / entry.name)]
    if not holders:
        return "Move it away."
    forms = " or ".join(str(root / name) for name in holders[:3])
    return f"Is the folder one level too high? Then give {forms}; else move it away."


def _holds_folders_only(folder: Path) -> bool:
    kinds = [entry.is_dir() for entry in _entries(folder)]
    return bool(kinds) and all(kinds)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(entry.stat().st_mode)
    except OSError:
        return False


def _kinds() -> str:
    return " ".join(sorted(SUFFIXES))
