"""Rows of parquet files, read one row group at a time through pyarrow, and made numbers of."""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potemkin.core.explain import counted, first_line
from potemkin.data.files import stamp
from potemkin.data.source import Ints
from potemkin.errors import ConfigError, DataError

KEPT = 4  # decoded row groups: enough to read in order and for some turns back


def pyarrow(part: str = "") -> Any:
    """pyarrow, or a part of it such as "parquet"; ConfigError if it is not installed."""
    try:
        return importlib.import_module(f"pyarrow.{part}" if part else "pyarrow")
    except ImportError as error:
        raise ConfigError(
            f"Parquet files are read through pyarrow, which cannot be imported ({first_line(error)}). Install it: "
            "pip install 'potemkin-ml[parquet]'."
        ) from error


class RowGroups:
    """The row groups of some files of one schema, one behind the other; rows are counted over all files.

    Nothing stays open: a file is opened for each row group, with the metadata read once. Single-threaded, so that it
    may be forked; a pickle leaves the decoded row groups behind.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._stamps = [stamp(path) for path in paths]
        self._metadata = [self._metadata_of(path) for path in paths]
        self.schema = self._metadata[0].schema.to_arrow_schema()
        self._groups = [
            (file, group) for file, held in enumerate(self._metadata) for group in range(held.num_row_groups)
        ]
        counts = [self._metadata[file].row_group(group).num_rows for file, group in self._groups]
        self.starts: Ints = np.cumsum([0, *counts], dtype=np.int64)
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": OrderedDict()}

    def check_columns(self, names: Sequence[str]) -> None:
        """Refuse files whose columns of these names are of another type than the first file's."""
        for path, held in zip(self._paths, self._metadata, strict=True):
            schema = held.schema.to_arrow_schema()
            for name in names:
                wanted, found = self.schema.field(name).type, schema.field(name).type if name in schema.names else None
                if found != wanted:
                    raise DataError(
                        f"The column {name!r} is {wanted} in {self._paths[0].name}, but {found or 'missing'} in "
                        f"{path.name}: the files must have the same columns."
                    )

    def group_of(self, rows: Ints) -> Ints:
        """The number of the row group of each row."""
        return np.searchsorted(self.starts, rows, side="right").astype(np.int64) - 1

    def decoded(self, group: int, columns: Sequence[str], make: Callable[[Any, int], Any]) -> Any:
        """What `make(table, first row)` gives for a row group; the last few are kept (for one `make` only)."""
        held = self._kept.pop(group, None)  # taken out and put back: two threads at most decode one twice
        if held is None:
            held = make(self.table(group, columns), int(self.starts[group]))
        self._kept[group] = held
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return held

    def table(self, group: int, columns: Sequence[str]) -> Any:
        """Some columns of one row group, as pyarrow reads them."""
        file, number = self._groups[group]
        path = self._paths[file]
        try:
            if stamp(path) != self._stamps[file]:
                raise DataError(f"{path} was changed after it had been opened: open the data again.")
            opened = pyarrow("parquet").ParquetFile(path, metadata=self._metadata[file], pre_buffer=False)
            with opened:
                return opened.read_row_group(number, columns=list(columns), use_threads=False)
        except (ConfigError, DataError):
            raise
        except Exception as error:  # pyarrow has errors of its own kinds, and raises most of Python's
            raise DataError(_unreadable(path, error, f"row group {number}")) from error

    @staticmethod
    def _metadata_of(path: Path) -> Any:
        read = pyarrow("parquet").read_metadata
        try:
            return read(path)
        except Exception as error:
            raise DataError(_unreadable(path, error, "its footer")) from error


def _unreadable(path: Path, error: Exception, part: str) -> str:
    said = f"{type(error).__name__}: {first_line(error)}"
    return f"{path} cannot be read as parquet ({part}: {said}). It is damaged or truncated: fetch or write it again."


def kind(held: Any) -> str:
    """What a column of this pyarrow type can serve as: "picture", "list", "number" or "" (nothing)."""
    types = pyarrow().types

    def number(item: Any) -> bool:
        return bool(types.is_integer(item) or types.is_floating(item) or types.is_boolean(item))

    def binary(item: Any) -> bool:
        return bool(types.is_binary(item) or types.is_large_binary(item))

    if binary(held):
        return "picture"
    if types.is_struct(held):  # Hugging Face: {"bytes": ..., "path": ...}
        return "picture" if any(field.name == "bytes" and binary(field.type) for field in held.fields) else ""
    if types.is_list(held) or types.is_large_list(held) or types.is_fixed_size_list(held):
        return "list" if number(held.value_type) else ""
    return "number" if number(held) else ""


def numbers(column: Any, name: str, first: int) -> NDArray[Any]:
    """A column of numbers as (n,), without nulls; `first` is the number of its first row, for messages."""
    whole = column.combine_chunks()
    _no_nulls(whole, name, first)
    array: NDArray[Any] = whole.to_numpy(zero_copy_only=False)
    return array


def lists(column: Any, name: str, first: int, width: int | None) -> NDArray[Any]:
    """A column of lists as (n, width); `width` None: that of its first row."""
    whole = column.combine_chunks()
    _no_nulls(whole, name, first)
    if pyarrow().types.is_fixed_size_list(whole.type):
        lengths = np.full(len(whole), whole.type.list_size)
    else:
        lengths = whole.value_lengths().to_numpy(zero_copy_only=False)
    wanted = int(lengths[0]) if width is None else width
    other = np.flatnonzero(lengths != wanted)
    if other.size:
        raise DataError(
            f"The list in column {name!r}, row {first + int(other[0])}, has length {int(lengths[other[0]])}, the "
            f"first one {wanted}: all must be of one length."
        )
    flat = whole.flatten()
    _no_nulls(flat, name, first, wanted)
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(whole), wanted)


def as_float32(array: NDArray[Any], names: Sequence[str], first: int) -> NDArray[np.float32]:
    """Features (n, k) as float32; NaN, infinity and what float32 cannot hold are refused by row."""
    with np.errstate(over="ignore"):
        features = array.astype(np.float32)
    bad = np.argwhere(~np.isfinite(features))
    if bad.size:
        row, place = bad[0].tolist()
        name = names[place] if len(names) > 1 else names[0]
        raise DataError(
            f"Row {first + row} has {array[row, place]} in column {name!r}, which is no finite float32 "
            f"({counted(len(np.unique(bad[:, 0])), 'such row')} in this row group): fill them or leave the rows out."
        )
    return features


def _no_nulls(array: Any, name: str, first: int, per_row: int = 1) -> None:
    if array.null_count:
        places = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)) // max(per_row, 1)
        raise DataError(
            f"Row {first + int(places[0])} has no value (null) in column {name!r} "
            f"({counted(len(np.unique(places)), 'such row')} in this row group): fill them or leave the rows out."
        )
