"""torch Datasets, DataLoaders, and anything else that yields (input, label) again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from potemkin.data.arrays import ArraySource, as_array
from potemkin.data.labels import as_labels
from potemkin.data.layout import find_layout
from potemkin.data.source import BaseSource, Batch, Ints, make_batch
from potemkin.errors import DataError

_SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
_PAIRS = "expected pairs (input, label)"


def open_iterable(data: Any, name: str) -> BaseSource:
    """A source over a Dataset, a DataLoader that does not shuffle, or a sized re-iterable of examples or batches."""
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        return ArraySource(data.tensors[0], data.tensors[1], name=name)
    if hasattr(data, "__next__"):
        raise DataError(
            f"The data are a {type(data).__name__}, which can be read only once; an evaluation reads its examples more "
            "than once. Give a list, a Dataset, a DataLoader, or a tuple (inputs, labels)."
        )
    if isinstance(data, type) or (callable(data) and not hasattr(data, "__len__") and not hasattr(data, "__iter__")):
        what = getattr(data, "__name__", repr(data))
        raise DataError(f"The data are {what} itself, not what it makes: call it, {what}().")
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise DataError(
            f"The data are a {type(data).__name__}, which cannot be read: {_PAIRS}. Give a tuple (inputs, labels), a "
            "Dataset, a DataLoader, a path or a registered name."
        )
    total = _length(data, name)
    if total == 0:
        raise DataError(f"{name} holds no examples: there is nothing to evaluate.")
    if isinstance(data, DataLoader):
        return LoaderSource(data, name, _count_of_loader(data, name))
    if hasattr(data, "__getitem__") and not isinstance(data, IterableDataset):
        return DatasetSource(data, name)
    return LoaderSource(data, name, None)


def _length(data: Any, name: str) -> int:
    try:
        return len(data)
    except (TypeError, NotImplementedError) as error:
        raise DataError(
            f"{name} does not know its length ({type(data).__name__} without len()). Give it __len__, or a list of "
            "(input, label), or a tuple (inputs, labels)."
        ) from error


def _count_of_loader(loader: DataLoader[Any], name: str) -> int | None:
    """The number of examples that a DataLoader will yield, where it is certain; a loader that shuffles is refused."""
    if isinstance(loader.sampler, _SHUFFLING):
        raise DataError(
            f"{name} shuffles ({type(loader.sampler).__name__}): each reading would give other examples under the same "
            "ids. Use DataLoader(..., shuffle=False), or give its dataset."
        )
    batches = loader.batch_sampler
    if type(batches) is not BatchSampler or not isinstance(loader.sampler, SequentialSampler):
        return None
    total = len(loader.sampler)
    return total - total % batches.batch_size if batches.drop_last else total


class DatasetSource(BaseSource):
    """Examples by index: `data[i]` gives (input, label)."""

    def __init__(self, data: Any, name: str) -> None:
        self._data = data
        first, _ = self._item(0, name)
        self._stored = (first.shape, first.dtype)
        self._layout = find_layout(first[None], name, whole=False)
        names = _class_names(data)
        classes = len(names) if names else None
        super().__init__(name=name, input_shape=self._layout.input_shape, classes=classes, class_names=names)

    def __len__(self) -> int:
        return len(self._data)

    def _item(self, position: int, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        try:
            item = self._data[position]
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise DataError(f"Reading example {position} of {name} failed: {told}.") from error
        return _pair(item, f"example {position} of {name}")

    def _read(self, positions: Ints) -> Batch:
        rows, labels = [], []
        for position in positions.tolist():
            row, label = self._item(position, self.name)
            _check_like_first(row, self._stored, f"Example {position} of {self.name}")
            rows.append(row)
            labels.append(label)
        numbers = _stack_labels(labels, f"{self.name} (at {_span(positions)})")
        return make_batch(positions.tolist(), positions, self._layout.serve(np.stack(rows)), numbers)


class LoaderSource(BaseSource):
    """Examples or batches in one fixed order; what lies before a wanted example is read and passed over."""

    def __init__(self, data: Any, name: str, count: int | None) -> None:
        self._data, self._given = data, name
        inputs, labels = next(self._pairs(), (None, None))
        if inputs is None or labels is None:
            raise DataError(f"{name} says that it is not empty, but yielded nothing.")
        self._batched = isinstance(data, DataLoader) and data.batch_sampler is not None
        self._batched |= labels.ndim > 0 and inputs.ndim > 0 and len(labels) == len(inputs)
        rows = inputs if self._batched else inputs[None]
        self._stored = (rows.shape[1:], rows.dtype)
        self._layout = find_layout(rows, name, whole=False)
        names = _class_names(getattr(data, "dataset", data))
        classes = len(names) if names else None
        super().__init__(name=name, input_shape=self._layout.input_shape, classes=classes, class_names=names)
        self._labels: Ints | None = None
        if count is None and not self._batched:
            count = len(data)
        if count is None:  # only reading tells how many examples the batches hold
            self._labels = np.concatenate([labels for _, labels in self._chunks()])
            count = len(self._labels)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def labels(self) -> Ints | None:
        return None if self._labels is None else self._labels.copy()

    def _pairs(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        state = torch.get_rng_state()
        iterator = iter(self._data)
        torch.set_rng_state(state)  # a DataLoader draws a seed from the global generator, which is the user's
        for number, item in enumerate(_told(iterator, self._given)):
            yield _pair(item, f"item {number} of {self._given}")

    def _chunks(self) -> Iterator[tuple[NDArray[Any], Ints]]:
        for number, (inputs, labels) in enumerate(self._pairs()):
            what = f"{self._given} (item {number})"
            rows = inputs if self._batched else inputs[None]
            _check_like_first(rows[0] if len(rows) else rows, self._stored, f"Item {number} of {self._given}")
            yield rows, as_labels(labels if self._batched else labels[None], len(rows), what)

    def _stream(self, size: int, positions: Ints) -> Iterator[Batch]:
        if np.any(np.diff(positions) <= 0):
            raise DataError(f"{self.name} can be read in its own order only: ask for ascending positions.")
        rows: list[NDArray[Any]] = []
        labels: list[int] = []
        start = done = 0  # the position of the chunk's first example; the number of examples handed on
        chunks = self._chunks() if len(positions) else iter(())
        for inputs, numbers in chunks:
            stop = start + len(inputs)
            for position in positions[done + len(rows) : np.searchsorted(positions, stop)].tolist():
                rows.append(inputs[position - start])
                labels.append(int(numbers[position - start]))
                if len(rows) == size or done + len(rows) == len(positions):
                    yield self._batch(positions[done : done + len(rows)], rows, labels)
                    done += len(rows)
                    rows, labels = [], []
            if done == len(positions):
                return
            start = stop
        if done < len(positions):
            raise DataError(f"{self.name} ended after {start} examples, expected {self._count}.")

    def _batch(self, positions: Ints, rows: list[NDArray[Any]], labels: list[int]) -> Batch:
        served = self._layout.serve(np.stack(rows))
        return make_batch(positions.tolist(), positions, served, np.array(labels, dtype=np.int64))

    def _read(self, positions: Ints) -> Batch:
        return next(self._stream(len(positions), positions))


def _told(iterator: Iterator[Any], name: str) -> Iterator[Any]:
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise DataError(f"Reading {name} failed: {type(error).__name__}: {error}.") from error
        yield item


def _pair(item: Any, what: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if isinstance(item, dict):
        keys = ", ".join(map(repr, list(item)[:8]))
        raise DataError(f"{what} is a dict with keys {keys}, {_PAIRS}. Wrap the data so that they yield pairs.")
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        found = f"a {type(item).__name__}"
        if isinstance(item, (tuple, list)):
            found += f" of {len(item)}"
        raise DataError(f"{what} is {found}, {_PAIRS}. Wrap the data so that they yield pairs.")
    return as_array(item[0], f"The input in {what}"), as_array(item[1], f"The label in {what}")


def _check_like_first(row: NDArray[Any], stored: tuple[tuple[int, ...], np.dtype[Any]], what: str) -> None:
    if (row.shape, row.dtype) != stored:
        raise DataError(
            f"{what} is {row.dtype} of shape {row.shape}, but the first is {stored[1]} of shape {stored[0]}: all "
            "examples need one type and one size (resize or pad them)."
        )


def _stack_labels(labels: Sequence[NDArray[Any]], name: str) -> Ints:
    if len({label.shape for label in labels}) > 1:
        raise DataError(f"The labels of {name} have different shapes: expected one class number each.")
    return as_labels(np.stack(labels), len(labels), name)


def _span(positions: Ints) -> str:
    return f"positions {positions.min()} to {positions.max()}"


def _class_names(data: Any) -> list[str] | None:
    names = getattr(data, "classes", None)
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return list(names)
    return None
