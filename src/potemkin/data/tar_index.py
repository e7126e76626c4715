"""Where the samples of a webdataset shard lie: its tar headers are read once, the bodies are seeked over."""

from __future__ import annotations

import tarfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from potemkin.core.explain import first_line
from potemkin.data.source import Ints
from potemkin.data.tar_samples import Sample, fault, quoted, sample_key, take
from potemkin.errors import DataError

_BLOCK = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class Fault:
    """What is wrong at one place of a shard, and how many samples are known to be lost by it."""

    shard: str
    said: str
    samples: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.said}"


def _int64() -> array[int]:
    return array("q")


@dataclass
class ShardIndex:
    """The whole samples of one shard, in its order: key, where the picture's bytes lie, and the label."""

    keys: list[str] = field(default_factory=list)
    offsets: array[int] = field(default_factory=_int64)
    sizes: array[int] = field(default_factory=_int64)
    labels: array[int] = field(default_factory=_int64)
    faults: list[Fault] = field(default_factory=list)


class _BrokenError(Exception):
    """The file stops being a tar; the message says where and how."""


def scan(path: Path, shard: str) -> ShardIndex:
    """The index of one shard (called `shard` in messages): its whole samples, and every fault by name.

    Members belong together if their names agree up to the first dot after the last slash, as in webdataset. A picture
    is a .jpg, .jpeg, .png, .webp, .bmp or .gif; the label is the .cls or, where there is none, "cls" or "label" in the
    .json; other members of a sample, folders, hidden files and webdataset's own `__name__` are no part of it.
    Cost: one header per member and the labels are read; nothing is decoded, nothing written.
    """
    index = ShardIndex()
    samples: dict[str, Sample] = {}
    try:
        with path.open("rb") as file:
            _refuse_compressed(file, path)
            try:
                for member in _members(file, path.stat().st_size, samples):
                    if said := take(member, file, samples):
                        index.faults.append(Fault(shard, said, 0))
            except _BrokenError as broken:
                index.faults.append(Fault(shard, str(broken), 0))
    except OSError as error:
        raise DataError(f"The shard {path} cannot be read: {error.strerror or error}.") from error
    for key, sample in samples.items():
        _close(index, shard, key, sample)
    return index


def _refuse_compressed(file: BinaryIO, path: Path) -> None:
    head = file.read(8)
    file.seek(0)
    for magic, kind in _COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(
                f"{path} is compressed ({kind}): reading at any position needs a plain tar. Decompress it; the "
                "pictures in it are compressed already."
            )


def _members(file: BinaryIO, total: int, samples: dict[str, Sample]) -> Iterator[tarfile.TarInfo]:
    """The members whose bytes are all there; _BrokenError where the tar is cut off, damaged or goes on after its end.

    tarfile's iterator ends in silence at a damaged header and at a missing end marker, so both are looked for here.
    """
    at = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                if member.size < 0 or tar.offset <= at:
                    raise _BrokenError(_corrupt(at, total, f"{quoted(member.name)} has a size of {member.size}"))
                # A sparse file claims more than is stored, a link stores nothing: `take` refuses both.
                if member.isreg() and not member.issparse() and member.offset_data + member.size > total:
                    samples.setdefault(sample_key(member.name)[0], Sample())
                    raise _BrokenError(
                        f"is truncated or damaged: it ends at byte {total}, within {quoted(member.name)}, which goes "
                        f"on to byte {member.offset_data + member.size}; whatever followed is missing"
                    )
                at = tar.offset
                yield member
            at = max(at, tar.offset)
    except (_BrokenError, OSError):
        raise
    except Exception as error:  # damaged headers make tarfile raise almost anything, RecursionError too
        cut = total == 0 or "unexpected end" in str(error) or "truncated" in str(error)
        raise _BrokenError(_cut_off(total) if cut else _corrupt(at, total, first_line(error))) from error
    _check_end(file, at, total)


def _check_end(file: BinaryIO, at: int, total: int) -> None:
    file.seek(at)
    block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise _BrokenError(_cut_off(total))
    if block.strip(b"\0"):
        raise _BrokenError(_corrupt(at, total, "its checksum is wrong"))
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            raise _BrokenError(
                f"goes on after its end marker at byte {at} (of {total}): several tars, one behind the other? Those "
                "after the first are not read: unpack them into one"
            )


def _cut_off(total: int) -> str:
    return f"is truncated: it ends at byte {total} without an end marker; whatever followed is missing"


def _corrupt(at: int, total: int, why: str) -> str:
    return f"has a corrupt header at byte {at} ({why}): the {total - at} bytes from there on cannot be read"


def _close(index: ShardIndex, shard: str, key: str, sample: Sample) -> None:
    """Enter a finished sample into the index, as an example or as a fault."""
    wrong = fault(sample)
    if wrong:
        index.faults.append(Fault(shard, f"the sample {quoted(key)} {wrong}", 1))
        return
    label = sample.label
    assert sample.offset is not None and isinstance(label, int)
    index.keys.append(key)
    index.offsets.append(sample.offset)
    index.sizes.append(sample.size)
    index.labels.append(label)


class Index:
    """All samples as arrays: 44 bytes each and the key, so that a million fits and travels to the workers."""

    def __init__(self, found: Sequence[ShardIndex]) -> None:
        counts = [len(index.keys) for index in found]
        self.shards: NDArray[np.int32] = np.repeat(np.arange(len(found), dtype=np.int32), counts)
        self.offsets = _joined(index.offsets for index in found)
        self.sizes = _joined(index.sizes for index in found)
        self.labels = _joined(index.labels for index in found)
        keys = [key.encode() for index in found for key in index.keys]
        self._keys = b"".join(keys)
        self._ends = np.cumsum([0, *map(len, keys)], dtype=np.int64)
        self._places = np.arange(len(keys), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def key(self, place: int) -> str:
        at = int(self._places[place])
        return self._keys[self._ends[at] : self._ends[at + 1]].decode()

    def without(self, places: Sequence[int]) -> Index:
        """The others; the text of the keys is shared."""
        left = object.__new__(Index)
        left.__dict__ = dict(self.__dict__)
        for part in ("shards", "offsets", "sizes", "labels", "_places"):
            setattr(left, part, np.delete(getattr(self, part), places))
        return left


def _joined(parts: Iterable[array[int]]) -> Ints:
    return np.concatenate([np.zeros(0, np.int64), *(np.frombuffer(part, np.int64) for part in parts if part)])
