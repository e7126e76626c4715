"""Labels as int64 (N,), counted from 0, or a refusal that says what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from potemkin.core.explain import counted
from potemkin.data.source import Ints
from potemkin.errors import DataError


def as_labels(array: NDArray[Any], total: int, name: str, classes: int | None = None) -> Ints:
    """Class numbers (N,) or (N, 1) of any integer type as int64 (N,); one-hot, float and text labels are refused."""
    if array.ndim == 2 and array.shape[1] > 1:
        raise DataError(
            f"The labels of {name} have shape {array.shape}: that looks like one-hot rows or scores, expected (N,) "
            "class numbers. Use labels.argmax(axis=1)."
        )
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(f"The labels of {name} have shape {array.shape}, expected ({total},): one class number each.")
    if len(array) != total:
        raise DataError(
            f"Found {counted(total, 'input')} but {counted(len(array), 'label')} in {name}: give one label per input."
        )
    labels = _whole_numbers(array, name)
    check_labels(labels, name, classes)
    return labels


def _whole_numbers(array: NDArray[Any], name: str) -> Ints:
    kind = array.dtype.kind
    if kind in "SUT":
        raise DataError(
            f"The labels of {name} are texts such as {str(array[0])!r}, expected class numbers 0, 1, 2, ... "
            "Use names, labels = np.unique(labels, return_inverse=True)."
        )
    if kind not in "iub":
        raise DataError(
            f"The labels of {name} are {array.dtype} such as {array[0]!s}, expected whole class numbers 0, 1, 2, ... "
            "If they are class numbers, use labels.astype('int64')."
        )
    if kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DataError(f"The labels of {name} reach {int(array.max())}: expected class numbers 0, 1, 2, ...")
    return array.astype(np.int64)


def check_labels(labels: Ints, name: str, classes: int | None) -> None:
    """Refuse labels below 0 or, where the number of classes is known, at or above it; explain counting from 1."""
    if not labels.size:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        where = int(np.argmax(labels < 0))
        raise DataError(
            f"The labels of {name} include {int(labels[where])} (the first at place {where}): classes are counted from "
            "0. "
            "If -1 stands for the negative class, map it to 0; leave unlabelled examples out."
        )
    if classes is None or high < classes:
        return
    if low >= 1 and high == classes:
        raise DataError(
            f"The labels of {name} go from {low} to {high}, but with {classes} classes they go from 0 to "
            f"{classes - 1}: they seem to be counted from 1. Subtract 1 from each label."
        )
    beyond = int((labels >= classes).sum())
    raise DataError(
        f"The labels of {name} go up to {high}, but with {classes} classes they go from 0 to {classes - 1}; {beyond} "
        f"of {counted(labels.size, 'label')} {'lies' if beyond == 1 else 'lie'} beyond that. Do these data belong to "
        "this model?"
    )
