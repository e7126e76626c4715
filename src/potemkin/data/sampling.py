"""Which examples are evaluated: the first, a random or a balanced sample, the same for the same seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potemkin.core.checks import choice, number
from potemkin.core.random import philox4x32
from potemkin.data.source import DataSource, Ints
from potemkin.errors import ConfigError

SAMPLES = ("first", "random", "balanced")


@dataclass(frozen=True, eq=False)
class Choice:
    """The chosen `positions`, sorted, and a few words on how they were chosen."""

    positions: Ints
    sample: str


def choose(
    n_total: int,
    examples: int | None = None,
    sample: str = "first",
    seed: int = 0,
    labels: NDArray[Any] | Tensor | list[int] | None = None,
) -> Ints:
    """The positions, int64 and ascending, of `examples` of `n_total` examples (None, or more than there are: all).

    "first" takes the first ones; "random" draws without replacement; "balanced" takes the same count of each label as
    far as there are enough (short classes give all they have). Draws depend on (seed, position) only (Philox-4x32-10),
    so the sample of 100 lies within the sample of 200, on any machine.

    Errors: ConfigError for examples < 1, an unknown sample, balanced without labels.

    >>> choose(10, 3).tolist()
    [0, 1, 2]
    """
    _check(n_total, examples, sample, seed)
    if sample == "balanced" and labels is None:
        raise ConfigError("sample='balanced' needs the labels: give labels=, or use choose_from(source, ...).")
    if examples is None or examples >= n_total:
        return np.arange(n_total, dtype=np.int64)
    if sample == "first":
        return np.arange(examples, dtype=np.int64)
    order = _random_order(n_total, seed)
    if sample == "balanced":
        order = _by_turns(order, _labels(labels, n_total))
    return np.sort(order[:examples])


def choose_from(source: DataSource, examples: int | None = None, sample: str = "first", seed: int = 0) -> Choice:
    """`choose` on a source, with its labels where they are needed, and how it was done in words.

    Cost: nothing is read, except for "balanced" on a source that knows its labels only by reading its examples.
    """
    total = len(source)
    _check(total, examples, sample, seed)
    balanced = sample == "balanced" and examples is not None and examples < total
    labels = labels_of(source) if balanced else np.zeros(total, dtype=np.int64)
    return Choice(choose(total, examples, sample, seed, labels), describe(total, examples, sample, seed))


def describe(n_total: int, examples: int | None, sample: str, seed: int) -> str:
    """How a sample was drawn, for the record.

    >>> describe(500, 100, "random", 0)
    'random 100 of 500 (seed 0)'
    """
    if examples is None or examples == n_total:
        return f"all {n_total}"
    if examples > n_total:
        return f"all {n_total} ({examples} were asked for)"
    return f"{sample} {examples} of {n_total}" + ("" if sample == "first" else f" (seed {seed})")


def labels_of(source: DataSource) -> Ints:
    """All labels in data order; reads the whole source once where it does not know them beforehand."""
    known = known_labels(source)
    if known is not None:
        return known
    parts = [batch.labels.numpy() for batch in source.batches(64)]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


def known_labels(source: DataSource) -> Ints | None:
    """All labels where the source knows them without reading inputs (it has a method `labels()`), else None."""
    method = getattr(source, "labels", None)
    found = method() if callable(method) else None
    return None if found is None else np.asarray(found).astype(np.int64)


def _check(n_total: int, examples: int | None, sample: str, seed: int) -> None:
    choice("sample", sample, SAMPLES)
    number("seed", seed, low=-(1 << 63), high=(1 << 63) - 1, integer=True)
    if examples is not None:
        number(f"examples (of {n_total}; None means all)", examples, low=1, integer=True)


def _labels(labels: NDArray[Any] | Tensor | list[int] | None, n_total: int) -> Ints:
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (n_total,):
        raise ConfigError(f"labels have shape {array.shape}, expected ({n_total},): one per example.")
    return array.astype(np.int64)


def _random_order(n_total: int, seed: int) -> Ints:
    """All positions in the order of a 64-bit random number each: its prefixes are the samples."""
    place = torch.arange(n_total, dtype=torch.int64)
    none = torch.zeros(1, dtype=torch.int64)
    key = (torch.tensor([seed & 0xFFFFFFFF]), torch.tensor([(seed >> 32) & 0xFFFFFFFF]))
    # The second word pair holds a constant of this use, so that no attack's stream meets these counters.
    high, low, _, _ = philox4x32((place & 0xFFFFFFFF, place >> 32, none + 0x73616D70, none), key)
    return np.lexsort((low.numpy(), high.numpy())).astype(np.int64)


def _by_turns(order: Ints, labels: Ints) -> Ints:
    """`order` rearranged so that each label has its turn: all first ones of a label, then all second ones, ..."""
    by_label = np.argsort(labels[order], kind="stable")
    sorted_labels = labels[order][by_label]
    starts = np.concatenate(([0], np.flatnonzero(np.diff(sorted_labels)) + 1))
    sizes = np.diff(np.append(starts, len(order)))
    turn = np.empty(len(order), dtype=np.int64)
    turn[by_label] = np.arange(len(order)) - np.repeat(starts, sizes)
    return order[np.argsort(turn, kind="stable")]
