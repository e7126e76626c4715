"""Parquet files through pyarrow (an extra): pictures or numbers with a label column, one row group at a time."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potemkin.core.checks import instance, number
from potemkin.core.explain import listed
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.data.files import expand, short_name
from potemkin.data.images import decode, measure, other_size
from potemkin.data.labels import as_labels
from potemkin.data.parquet_rows import RowGroups, as_float32, kind, lists, numbers, pyarrow
from potemkin.data.source import BaseSource, Batch, ExampleId, Ints, make_batch
from potemkin.data.tar_samples import quoted
from potemkin.errors import ConfigError, DataError, suggest

LABELS = ("label", "labels")

_LOOKED_AT = 64  # pictures of the first and of the last row group; other sizes further on are found when decoded
_INDEX = re.compile(r"__index_level_\d+__")  # pandas keeps its row names beside the columns
_SPLIT = re.compile(r"(.+)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.parquet")  # how Hugging Face names the parts of a split


class ParquetSource(BaseSource):
    """The rows of parquet files: one picture, one list of numbers or several numbers, and a label; id = row number.

    `label` names the label column (None: "label" or "labels"). `columns` names the inputs; None takes the one picture
    column ({bytes, path} as Hugging Face writes it, or binary), else the one column of lists, else all number columns.
    Pictures are served as from folders, float32 (C, H, W), 8-bit values / 255, `image_size` resizing the short side and
    cropping the centre; numbers as they are, in float32 (features,). The class names are those that Hugging Face notes.

    Cost: opening reads the labels; a row group is decoded whole, and the last 4 are kept. Reading in order decodes each
    once; reading in random order decodes several per batch (write small row groups, or use tar shards).
    """

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        *,
        label: str | None = None,
        columns: tuple[str, ...] | None = None,
        image_size: int | None = None,
    ) -> None:
        check_arguments(label, columns, image_size)
        self._rows = RowGroups(paths)
        schema = self._rows.schema
        label = _label_column(schema, label, name)
        self._columns, self._kind = _inputs(schema, label, columns, name)
        self._rows.check_columns([label, *self._columns])
        if not len(self._rows):
            raise DataError(f"There are no rows in {name}: expected at least one.")
        if image_size is not None and self._kind != "picture":
            raise ConfigError(f"image_size={image_size} is for pictures; {name} holds numbers. Leave it out.")
        self._image_size, self._grey = image_size, False
        class_names = _class_names(schema, label)
        classes = None if class_names is None else len(class_names)
        self._labels = as_labels(self._all(label), len(self._rows), name, classes)
        super().__init__(name=name, input_shape=self._form(), classes=classes, class_names=class_names)

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> Ints:
        return self._labels.copy()

    def _all(self, column: str) -> NDArray[Any]:
        starts = self._rows.starts
        groups = range(len(starts) - 1)
        parts = [numbers(self._rows.table(n, [column]).column(column), column, int(starts[n])) for n in groups]
        return np.concatenate(parts)

    def _form(self) -> tuple[int, ...]:
        """The shape of one example; for pictures also whether all looked at are grey."""
        if self._kind == "number":
            return (len(self._columns),)
        if self._kind == "list":
            first = self._rows.table(int(self._rows.group_of(np.zeros(1, np.int64))[0]), self._columns).slice(0, 1)
            return (lists(first.column(self._columns[0]), self._columns[0], 0, None).shape[1],)
        total = len(self._rows)
        ends = self._rows.group_of(np.array([0, total - 1]))
        look = {*range(min(_LOOKED_AT, total)), *range(int(self._rows.starts[ends[1]]), total)}
        rows = np.array(sorted(look)[:_LOOKED_AT] + sorted(look)[_LOOKED_AT:][:_LOOKED_AT], dtype=np.int64)
        seen = {row: measure(io.BytesIO(body), self._where(row)) for row, body in self._pictures(rows)}
        size = seen[0].size
        for row, picture in seen.items():
            if self._image_size is None and picture.size != size:
                raise other_size(f"row {row}", picture.size, size, first="row 0")
        self._grey = all(picture.grey for picture in seen.values())
        width, height = size if self._image_size is None else (self._image_size, self._image_size)
        return (1 if self._grey else 3, height, width)

    def _where(self, row: int) -> str:
        return f"Row {row}, column {self._columns[0]!r},"

    def _read(self, positions: Ints) -> Batch:
        inputs = np.empty((len(positions), *self.input_shape), dtype=np.float32)
        if self._kind == "picture":
            self._read_pictures(positions, inputs)
        else:
            for group, places in self._by_group(positions):
                held = self._rows.decoded(group, self._columns, self._features)
                inputs[places] = held[positions[places] - self._rows.starts[group]]
        ids: list[ExampleId] = list(positions.tolist())
        return make_batch(ids, positions, inputs, self._labels[positions])

    def _read_pictures(self, positions: Ints, inputs: NDArray[np.float32]) -> None:
        _, height, width = self.input_shape
        decoded = {}
        for row, body in self._pictures(np.unique(positions)):
            array = decode(io.BytesIO(body), self._where(row), grey=self._grey, size=self._image_size)
            if array.shape[1:] != (height, width):
                raise other_size(f"row {row}", (array.shape[2], array.shape[1]), (width, height), first="row 0")
            decoded[row] = array
        for out, row in zip(inputs, positions.tolist(), strict=True):
            out[...] = decoded[row]
        inputs /= np.float32(255)

    def _by_group(self, positions: Ints) -> list[tuple[int, Ints]]:
        """Each row group that is wanted, with the places in `positions` that it fills: so none is decoded twice."""
        groups = self._rows.group_of(positions)
        return [(int(group), np.flatnonzero(groups == group)) for group in np.unique(groups)]

    def _pictures(self, rows: Ints) -> list[tuple[int, bytes]]:
        """Row number and the bytes of its picture, grouped by row group."""
        found = []
        for group, places in self._by_group(rows):
            column = self._rows.decoded(group, self._columns, lambda table, first: table.column(self._columns[0]))
            for row in rows[places].tolist():
                cell = column[row - int(self._rows.starts[group])].as_py()
                body = cell.get("bytes") if isinstance(cell, dict) else cell
                if body is None:
                    held = (
                        f"only a path, {quoted(cell['path'])}"
                        if isinstance(cell, dict) and cell.get("path")
                        else "null"
                    )
                    raise DataError(f"{self._where(row)} holds no picture ({held}): embed its bytes or leave it out.")
                found.append((row, body))
        return found

    def _features(self, table: Any, first: int) -> NDArray[np.float32]:
        if self._kind == "list":
            array = lists(table.column(self._columns[0]), self._columns[0], first, self.input_shape[0])
        else:
            array = np.stack([numbers(table.column(name), name, first) for name in self._columns], axis=1)
        return as_float32(array, self._columns, first)


@register("data")
@dataclasses.dataclass(frozen=True, repr=False)
class parquet(Noted):
    """Parquet files, 'rows.parquet', 'train-{00000..00003}.parquet' or a folder of them; needs the extra [parquet].

    The arguments are those of `ParquetSource`. Errors: ConfigError (arguments, no pyarrow), DataError when opened.

    >>> parquet("rows.parquet", label="y", columns=("age", "income"))
    parquet('rows.parquet', label='y', columns=('age', 'income'))
    """

    path: str
    label: str | None = None
    columns: tuple[str, ...] | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        instance("path of parquet", self.path, str, "a text such as 'rows.parquet'")
        check_arguments(self.label, self.columns, self.image_size)

    def open(self) -> ParquetSource:
        """The rows; the labels are read at once."""
        name = repr(dataclasses.replace(self, path=short_name(Path(self.path))))
        options: dict[str, Any] = {"label": self.label, "columns": self.columns, "image_size": self.image_size}
        return ParquetSource(tables(self.path), name, **options)


def open_parquet(path: Path, name: str, image_size: int | None = None) -> ParquetSource:
    """The rows of a file, a range of files or a folder, with their columns guessed as `ParquetSource` says."""
    return ParquetSource(tables(path), name, image_size=image_size)


def check_arguments(label: object, columns: object, image_size: object) -> None:
    """Refuse what is no column name, no tuple of different names, no size."""
    if label is not None:
        instance("label (the name of the label column)", label, str, "a text")
    if columns is not None:
        names = columns if isinstance(columns, tuple) else ()
        if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise ConfigError(
                f"columns must be a tuple of different names, such as ('age', 'income'); found {columns!r}."
            )
    if image_size is not None:
        number("image_size", image_size, low=1, integer=True)


def tables(path: str | Path) -> list[Path]:
    """The files that a path, a range in braces or a folder names; a folder that holds several splits is refused."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return expand(path)
    found = sorted(item for item in folder.glob("*.parquet") if not item.name.startswith("."))
    if not found:
        raise DataError(f"There is no .parquet file in the folder {folder}.")
    splits = sorted({match[1] for item in found if (match := _SPLIT.fullmatch(item.name))})
    if len(splits) > 1:
        raise DataError(
            f"{folder} holds several splits, {listed(splits)}: give one, such as "
            f"{folder}/{splits[0]}-{{00000..00001}}-of-00002.parquet."
        )
    return found


def _label_column(schema: Any, label: str | None, name: str) -> str:
    if label is None:
        found = [item for item in LABELS if item in schema.names]
        if len(found) != 1:
            what = "two label columns, 'label' and 'labels'" if found else "no column 'label' or 'labels'"
            raise DataError(f"{name} has {what}: name it, parquet('...', label='NAME'). {_held(schema)}")
        label = found[0]
    _exists(schema, label, name)
    found_type = schema.field(label).type
    types = pyarrow().types
    if not (types.is_integer(found_type) or types.is_boolean(found_type)):
        raise DataError(
            f"The labels of {name}, column {label!r}, are {found_type}, expected whole class numbers 0, 1, 2, ... "
            "Write them as int64."
        )
    return label


def _inputs(schema: Any, label: str, columns: tuple[str, ...] | None, name: str) -> tuple[tuple[str, ...], str]:
    """The input columns, and what they are: "picture", "list" (one column each) or "number"."""
    for item in columns or ():
        _exists(schema, item, name)
    if columns is not None and label in columns:
        raise ConfigError(f"The column {label!r} of {name} is the label, it cannot be an input too: columns={columns}.")
    given = columns or tuple(item for item in schema.names if item != label and not _INDEX.fullmatch(item))
    kinds = {item: kind(schema.field(item).type) for item in given}
    for one in ("picture", "list"):
        found = tuple(item for item in given if kinds[item] == one)
        # Numbers beside a picture say something about it (its id, its width); beside a list nobody knows.
        if len(found) == 1 and (len(given) == 1 or (one == "picture" and columns is None)):
            return found, one
        if found:
            break
    else:
        if given and all(held == "number" for held in kinds.values()):
            return given, "number"
    raise DataError(
        f"The columns of {name} are no one input: expected one picture ({{bytes, path}} or binary), one list of "
        f"numbers, or numbers only. Choose with parquet('...', columns=('NAME', ...)). {_held(schema)}"
    )


def _exists(schema: Any, column: str, name: str) -> None:
    if schema.names.count(column) != 1:
        count = "no column" if column not in schema.names else "several columns"
        raise ConfigError(f"{name} has {count} {column!r}.{suggest(column, schema.names)} {_held(schema)}")


def _held(schema: Any) -> str:
    shown = ", ".join(f"{field.name!r} ({field.type})" for field in list(schema)[:12])
    return f"It holds {shown}{f' and {len(schema) - 12} more' if len(schema) > 12 else ''}."


def _class_names(schema: Any, label: str) -> list[str] | None:
    """The names that Hugging Face's metadata give for the label column, if they do."""
    held = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(held)["info"]["features"][label]["names"] if held else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None  # metadata of another shape: the classes are as unknown as without
    return names if isinstance(names, list) and names and all(isinstance(item, str) for item in names) else None
