"""Webdataset tar shards, read at any position: indexed once when they are opened, no stream and no shuffle buffer."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from potemkin.core.checks import choice, flag, instance, number
from potemkin.core.explain import counted, first_line
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.data.files import OpenFiles, expand, short_name
from potemkin.data.images import Picture, decode, measure, other_size
from potemkin.data.labels import check_labels
from potemkin.data.source import BaseSource, Batch, ExampleId, Ints, make_batch
from potemkin.data.tar_index import Fault, Index, ShardIndex, scan
from potemkin.data.tar_samples import quoted
from potemkin.errors import DataError

FAULTY = ("refuse", "leave out")
_MEASURED = 512  # as for folders: so many headers are read at once; other sizes further on are found when decoded
_NAMED = 5


class ShardSource(BaseSource):
    """The samples of webdataset tar shards: picture and label members of one key; id = the key.

    If a key stands in two shards, every id is "SHARD/KEY". Served as float32 (C, H, W), 8-bit values / 255, C = 1 if
    all pictures looked at are grey, else 3; `image_size` resizes the short side and crops the centre. The classes are
    known if a `classes.json` stands beside the first shard: a list of names, or of objects with a "name".

    `faulty`: "refuse" raises a DataError for a truncated or damaged shard and for a sample without picture or label;
    "leave out" goes on without them, and `left_out` says which and why. Whether a picture decodes shows when it is
    read (DataError); `decode_check` decodes all once at opening, so that those are faults like the others.

    Cost: opening reads one header per member; memory about 44 bytes and the key per sample. It can be pickled and
    forked: files are opened where they are read, at most 64 at a time in each process.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        *,
        image_size: int | None = None,
        faulty: Literal["refuse", "leave out"] = "refuse",
        decode_check: bool = False,
    ) -> None:
        choice("faulty", faulty, FAULTY)
        flag("decode_check", decode_check)
        if image_size is not None:
            number("image_size", image_size, low=1, integer=True)
        self._shards = _names(paths)
        self._files = OpenFiles(paths)
        self._image_size, self._leaves = image_size, faulty == "leave out"
        self.left_out: list[str] = []
        found = [scan(path, shard) for path, shard in zip(paths, self._shards, strict=True)]
        faults = [fault for index in found for fault in index.faults]
        self._index = Index(found)
        self._prefixed = _repeats(found)
        if not decode_check:
            self._settle(faults, name)
        self._grey, height, width = self._form(faults, decode_check)
        if decode_check:
            self._settle(faults, name)
        names = _class_names(paths[0].parent / "classes.json")
        classes = None if names is None else len(names)
        check_labels(self._index.labels, name, classes)
        shape = (1 if self._grey else 3, height, width)
        super().__init__(name=name, input_shape=shape, classes=classes, class_names=names)

    def __len__(self) -> int:
        return len(self._index)

    def labels(self) -> Ints:
        return self._index.labels.copy()

    def _settle(self, faults: list[Fault], name: str) -> None:
        """Refuse the faults, or note what is left out."""
        self.left_out = [str(fault) for fault in faults]
        if faults and not self._leaves:
            raise _refusal(faults, len(self._index), name)
        if not len(self._index):
            why = f" All was left out: {self.left_out[0]}; ..." if faults else ""
            raise DataError(f"There is no sample with a picture and a label in {name}.{why}")

    def _form(self, faults: list[Fault], decode_check: bool) -> tuple[bool, int, int]:
        """Whether all pictures looked at are grey, and their one size; with `decode_check` all are looked at."""
        total = len(self._index)
        some = np.unique(np.linspace(0, total - 1, total if decode_check else min(_MEASURED, total)).astype(int))
        first, grey, bad = None, True, []
        for place in some.tolist():
            body = self._body(place)  # outside of the try: a disk that fails is no fault of the sample
            try:
                picture = self._look(place, body, decode_check)
            except DataError as error:
                if not decode_check:
                    raise self._unreadable(error) from error
                bad.append(place)
                faults.append(Fault(self._shards[self._index.shards[place]], str(error), 1))
                continue
            first = first or picture
            grey &= picture.grey
            if self._image_size is None and picture.size != first.size:
                raise other_size(self._where(place), picture.size, first.size)
        self._index = self._index.without(bad)
        if self._image_size is not None:
            return grey, self._image_size, self._image_size
        return grey, *(first.size[::-1] if first else (0, 0))

    def _look(self, place: int, body: bytes, decode_check: bool) -> Picture:
        if not decode_check:
            return measure(io.BytesIO(body), self._where(place))
        where = f"the sample {quoted(self._index.key(place))}"
        decode(io.BytesIO(body), where, grey=False, size=self._image_size)
        return measure(io.BytesIO(body), where)

    def _where(self, place: int) -> str:
        return f"{quoted(self._index.key(place))} in {self._shards[self._index.shards[place]]}"

    def _body(self, place: int) -> bytes:
        index = self._index
        return self._files.read(int(index.shards[place]), int(index.offsets[place]), int(index.sizes[place]))

    def _unreadable(self, error: DataError) -> DataError:
        return DataError(f"{error} To leave such samples out, give faulty='leave out' and decode_check=True.")

    def _id(self, place: int) -> str:
        key = self._index.key(place)
        return f"{self._shards[self._index.shards[place]]}/{key}" if self._prefixed else key

    def _read(self, positions: Ints) -> Batch:
        places = positions.tolist()
        channels, height, width = self.input_shape
        pixels = np.empty((len(places), channels, height, width), dtype=np.float32)
        for row, place in zip(pixels, places, strict=True):
            body = self._body(place)
            try:
                array = decode(io.BytesIO(body), self._where(place), grey=self._grey, size=self._image_size)
            except DataError as error:
                raise self._unreadable(error) from error
            if array.shape[1:] != (height, width):
                raise other_size(self._where(place), (array.shape[2], array.shape[1]), (width, height))
            row[...] = array
        pixels /= np.float32(255)
        ids: list[ExampleId] = [self._id(place) for place in places]
        return make_batch(ids, positions, pixels, self._index.labels[positions])


@register("data")
@dataclasses.dataclass(frozen=True, repr=False)
class shards(Noted):
    """Webdataset tar shards, 'path/shard-{000000..000146}.tar' or one .tar: KEY.jpg with KEY.cls or KEY.json.

    The arguments are those of `ShardSource`. Errors: ConfigError (arguments), DataError when opened.

    >>> shards("train-{000..146}.tar", faulty="leave out", image_size=224)
    shards('train-{000..146}.tar', image_size=224, faulty='leave out')
    """

    path: str
    image_size: int | None = None
    faulty: Literal["refuse", "leave out"] = "refuse"
    decode_check: bool = False

    def __post_init__(self) -> None:
        instance("path of shards", self.path, str, "a text such as 'shard-{000000..000146}.tar'")
        if self.image_size is not None:
            number("image_size", self.image_size, low=1, integer=True)
        choice("faulty", self.faulty, FAULTY)
        flag("decode_check", self.decode_check)

    def open(self) -> ShardSource:
        """The samples; each shard is scanned once."""
        name = repr(dataclasses.replace(self, path=short_name(Path(self.path))))
        options = {"image_size": self.image_size, "faulty": self.faulty, "decode_check": self.decode_check}
        return ShardSource(expand(self.path), name, **options)  # type: ignore[arg-type]


def open_shards(path: Path, name: str, image_size: int | None = None) -> ShardSource:
    """The samples of one shard or a range of shards; what is faulty is refused."""
    return ShardSource(expand(path), name, image_size=image_size)


def _names(paths: Sequence[Path]) -> list[str]:
    """What each shard is called: its file name, with the folders where the shards lie in several."""
    if len({path.parent for path in paths}) <= 1:
        return [path.name for path in paths]
    common = Path(os.path.commonpath(paths))
    return [path.relative_to(common).as_posix() for path in paths]


def _repeats(found: Sequence[ShardIndex]) -> bool:
    """Whether a key stands in two shards (within one it cannot)."""
    return len(found) > 1 and len({key for index in found for key in index.keys}) < sum(len(i.keys) for i in found)


def _refusal(faults: list[Fault], whole: int, name: str) -> DataError:
    touched = len({fault.shard for fault in faults})
    lost = sum(fault.samples for fault in faults)
    shown = "; ".join(map(str, faults[:_NAMED])) + (f"; and {len(faults) - _NAMED} more" * (len(faults) > _NAMED))
    return DataError(
        f"{name} has {counted(len(faults), 'fault')} in {counted(touched, 'shard')}, {counted(lost, 'sample')} known "
        f"to be lost, {whole} whole: {shown}. Fetch or write the {'shard' if touched == 1 else 'shards'} again; to go "
        "on without what is faulty, give shards('...', faulty='leave out')."
    )


def _class_names(path: Path) -> list[str] | None:
    """The names in `classes.json`, in the order of the labels; None if there is no such file."""
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {first_line(error)}. Mend it or move it away.") from error
    items = held if isinstance(held, list) else []
    names: list[Any] = [item.get("name") if isinstance(item, dict) else item for item in items]
    ranked = all(item.get("index", rank) == rank for rank, item in enumerate(items) if isinstance(item, dict))
    if not names or not ranked or not all(isinstance(name, str) for name in names):
        raise DataError(
            f'{path} is no list of class names: expected ["tench", "goldfish", ...] or [{{"name": "tench"}}, '
            '...], in the order of the labels (an "index" must be the place). Mend it or move it away.'
        )
    return names
