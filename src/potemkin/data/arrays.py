"""Arrays in memory, kept as they are stored and turned into float32 batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from potemkin.core.explain import counted
from potemkin.data.labels import as_labels
from potemkin.data.layout import Layout, find_layout
from potemkin.data.source import BaseSource, Batch, ExampleId, Ints, make_batch
from potemkin.errors import DataError


class ArraySource(BaseSource):
    """Inputs (N, ...) and labels (N,) from arrays or tensors on the CPU.

    Inputs are served as float32: uint8 pixels / `divisor` (255), (N, H, W) as (N, 1, H, W) and (N, H, W, C) as
    (N, C, H, W) with C = 1 or 3; floats and feature vectors (N, d) as they are. `ids` are the positions unless given.
    """

    def __init__(
        self,
        inputs: object,
        labels: object,
        *,
        name: str = "arrays",
        ids: Sequence[ExampleId] | Ints | None = None,
        classes: int | None = None,
        class_names: list[str] | None = None,
        divisor: float = 255.0,
        input_shape: tuple[int, ...] | None = None,
    ) -> None:
        stored = as_array(inputs, f"The inputs of {name}")
        self._layout: Layout = find_layout(stored, name, divisor=divisor, wanted=input_shape)
        known = classes if classes is not None or class_names is None else len(class_names)
        super().__init__(name=name, input_shape=self._layout.input_shape, classes=known, class_names=class_names)
        self._inputs = stored
        self._labels = as_labels(as_array(labels, f"The labels of {name}"), len(stored), name, known)
        self._ids: list[ExampleId] | None = None if ids is None else _plain_ids(ids, len(stored), name)

    def __len__(self) -> int:
        return len(self._inputs)

    def labels(self) -> Ints:
        return self._labels.copy()

    def _read(self, positions: Ints) -> Batch:
        ids: list[ExampleId] = positions.tolist() if self._ids is None else [self._ids[p] for p in positions.tolist()]
        inputs = self._layout.serve(self._inputs[positions])
        return make_batch(ids, positions, inputs, self._labels[positions])


def as_array(value: object, what: str) -> NDArray[Any]:
    """A numpy view of a tensor, an array, or nested lists of numbers; `what` starts the message of a refusal."""
    if isinstance(value, Tensor):
        return _from_tensor(value, what)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{what} do not make one array: {error}. Give an array or tensor (N, ...).") from error
    if array.dtype.hasobject:
        raise DataError(
            f"{what} are an array of Python objects ({type(value).__name__}), not of numbers: often rows of different "
            "length. Make them equally long (resize, pad), then np.stack them into one numeric array."
        )
    return array


def _from_tensor(tensor: Tensor, what: str) -> NDArray[Any]:
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
        raise DataError(f"{what} are a {tensor.layout} or quantised tensor: give a dense one (tensor.to_dense()).")
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if str(plain.dtype) in {"torch.bfloat16"} or "float8" in str(plain.dtype):
        plain = plain.float()  # numpy has no such type, and float32 holds each of its values exactly
    array: NDArray[Any] = plain.numpy()
    return array


def _plain_ids(ids: Sequence[ExampleId] | Ints, total: int, name: str) -> list[ExampleId]:
    plain: list[ExampleId] = [i if isinstance(i, str) else int(i) for i in ids]
    if len(plain) != total:
        raise DataError(
            f"Found {counted(total, 'input')} but {counted(len(plain), 'id')} in {name}: give one id per example."
        )
    if len(set(plain)) != total:
        raise DataError(f"Some ids of {name} occur more than once: an id must belong to one example.")
    return plain
