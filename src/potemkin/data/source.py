"""What a data source is: examples with stable ids, read in batches, never held whole as float32."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potemkin.core.checks import number
from potemkin.core.explain import counted
from potemkin.core.random import text_key
from potemkin.errors import ConfigError

ExampleId: TypeAlias = int | str
Positions: TypeAlias = Sequence[int] | NDArray[Any] | Tensor
Ints: TypeAlias = NDArray[np.int64]

FINGERPRINT_BATCH = 64


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples: `ids`, `positions` (B,) int64, `inputs` (B, ...) float32, `labels` (B,) int64, all on the CPU.

    An id belongs to the example for ever (it keys the random streams); a position is its place in this source.
    """

    ids: list[ExampleId]
    positions: Tensor
    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.ids)


@runtime_checkable
class DataSource(Protocol):
    """Examples that can be read again and again, in batches, at any positions.

    `input_shape` is the shape of one example; `classes` and `class_names` are None where the data do not say.
    `batches(size, indices)` yields the examples at `indices` in that order (None: all, in data order).
    """

    @property
    def name(self) -> str: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...
    @property
    def classes(self) -> int | None: ...
    @property
    def class_names(self) -> list[str] | None: ...
    def __len__(self) -> int: ...
    def batches(self, size: int, indices: Positions | None = None) -> Iterator[Batch]: ...
    def fingerprint(self, indices: Positions | None = None) -> str: ...


class BaseSource(ABC):
    """What the built-in sources share: they only say how to read the examples at some positions (`_read`)."""

    labels_by_rank = False  # the labels are ranks of sorted names, so a model with other classes cannot fit (folders)

    def __init__(
        self, *, name: str, input_shape: tuple[int, ...], classes: int | None, class_names: list[str] | None
    ) -> None:
        self._name, self._input_shape = name, input_shape
        self._classes, self._class_names = classes, class_names

    @property
    def name(self) -> str:
        return self._name

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._input_shape

    @property
    def classes(self) -> int | None:
        return self._classes

    @property
    def class_names(self) -> list[str] | None:
        return self._class_names

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def _read(self, positions: Ints) -> Batch:
        """Read the examples at these positions (in range, any order, at least one), in that order."""

    def labels(self) -> Ints | None:
        """All labels in data order where they are known without reading inputs, else None."""
        return None

    def batches(self, size: int, indices: Positions | None = None) -> Iterator[Batch]:
        """Yield batches of at most `size` examples at `indices`, in their order (None: all, in data order)."""
        positions = as_positions(indices, len(self))
        return self._stream(check_size(size), positions)

    def _stream(self, size: int, positions: Ints) -> Iterator[Batch]:
        for start in range(0, len(positions), size):
            yield self._read(positions[start : start + size])

    def fingerprint(self, indices: Positions | None = None) -> str:
        """`sha256:...` over ids, labels and inputs at `indices` (None: all); costs one reading of them."""
        return fingerprint(self, indices)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {counted(len(self), 'example')} of shape {self.input_shape}>"


def check_size(size: int) -> int:
    """The batch size, if it is a positive int."""
    number("The batch size", size, low=1, integer=True)
    return size


def as_positions(indices: Positions | None, total: int) -> Ints:
    """`indices` as an int64 array, each checked to lie in 0..total-1; None means all."""
    if indices is None:
        return np.arange(total, dtype=np.int64)
    array = indices.detach().cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        found = f"shape {array.shape} of {array.dtype}"
        raise ConfigError(f"Positions must be whole numbers in one list, found {found}.")
    outside = array[(array < 0) | (array >= total)]
    if outside.size:
        raise ConfigError(f"Position {outside[0]} is outside of the data: positions go from 0 to {total - 1}.")
    return array.astype(np.int64)


def make_batch(ids: list[ExampleId], positions: Ints, inputs: NDArray[np.float32], labels: Ints) -> Batch:
    """A batch from arrays that nobody else holds (the tensors share their memory)."""
    return Batch(
        ids=ids,
        positions=torch.from_numpy(np.array(positions, dtype=np.int64)),
        inputs=torch.from_numpy(inputs),
        labels=torch.from_numpy(np.array(labels, dtype=np.int64)),
    )


def id_key(example: ExampleId) -> int:
    """The int64 that keys an example's random draws: an int id itself, a stable 63-bit hash of a text id.

    >>> id_key(7)
    7
    """
    if isinstance(example, str):
        return text_key(example)
    if isinstance(example, bool) or not isinstance(example, (int, np.integer)):
        raise ConfigError(f"An example id must be an integer or a text, found {example!r} ({type(example).__name__}).")
    return int(example)


class Fingerprint:
    """A sha256 that grows by batches: what is evaluated, independent of the batch size, sensitive to the order.

    Hashed per example: its id, its label (int64) and its input as served (float32), in little-endian byte order.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        self._hash = hashlib.sha256(f"potemkin data 1 {[int(n) for n in input_shape]}\n".encode())

    def add(self, batch: Batch) -> None:
        """Take the examples of `batch` in."""
        labels = batch.labels.cpu().numpy().astype("<i8")
        inputs = np.ascontiguousarray(batch.inputs.detach().cpu().numpy().astype("<f4", copy=False))
        for example, label, row in zip(batch.ids, labels, inputs, strict=True):
            # The length goes first: no id can be mistaken for the start of another.
            text = f"{'t' if isinstance(example, str) else 'i'}{example}".encode("utf-8", "surrogatepass")
            self._hash.update(f"{len(text)}:".encode() + text + label.tobytes())
            self._hash.update(row.tobytes())

    def hexdigest(self) -> str:
        """`sha256:` and 64 hexadecimal digits."""
        return f"sha256:{self._hash.hexdigest()}"


def fingerprint(source: DataSource, indices: Positions | None = None, size: int = FINGERPRINT_BATCH) -> str:
    """The fingerprint of the examples at `indices` (None: all), read in batches; `size` does not change it."""
    grown = Fingerprint(source.input_shape)
    for batch in source.batches(size, indices):
        grown.add(batch)
    return grown.hexdigest()
