"""Which examples come when: a function of (seed, epoch, step), so a resumed run goes on at the very next example.

The order is drawn once per epoch and cut into batches of all processes together; process r of w takes rows r, r + w, …
of each. Nothing has to be remembered but the step, and another number of processes sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from potemkin.core.random import RowStreams, row_keys, text_key
from potemkin.data.checks import check_batch
from potemkin.data.source import Batch, DataSource, Ints, id_key
from potemkin.errors import ConfigError, DataError, PotemkinError
from potemkin.training.examples import Examples

TRAINING = text_key("training")
EXTRA = text_key("extra data")


@dataclass(frozen=True)
class Share:
    """Which rows of every batch are this process's."""

    rank: int = 0
    world: int = 1


class Stream:
    """The batches of a run.

    Args:
        source, positions: the training data and the places in it that are trained on.
        batch_size: rows per batch, all processes together, of which `extra_rows` come from the extra data.
        replays: steps that each batch is used for.
    """

    def __init__(
        self,
        source: DataSource,
        positions: Ints,
        batch_size: int,
        seed: int,
        share: Share = Share(),
        *,
        extra: DataSource | None = None,
        extra_rows: int = 0,
        replays: int = 1,
        workers: int = 0,
        box: tuple[float, float] = (0.0, 1.0),
        classes: int | None = None,
    ) -> None:
        self._sources = [source] if extra is None else [source, extra]
        self._positions, self._seed, self._share = positions, seed, share
        self._own, self._extra = batch_size - extra_rows, extra_rows
        self._replays, self._workers = replays, workers
        self._box, self._classes = box, classes
        if extra is not None and not 0 < extra_rows < batch_size:
            raise ConfigError(
                f"The extra data's share comes to {extra_rows} of {batch_size} rows per batch: change the recipe's "
                "extra or batch_size, so that both parts have rows."
            )
        if len(positions) < self._own:
            raise DataError(
                f"There are {len(positions)} training examples in {source.name}, fewer than one batch of {self._own}: "
                "set a smaller batch_size."
            )
        self.batches_per_epoch = len(positions) // self._own
        self.steps_per_epoch = self.batches_per_epoch * replays

    def from_step(self, step: int) -> Iterator[list[Batch]]:
        """Read on from `step`: for each batch, this process's rows of the training data, then of the extra data."""
        plan = self._plan(step // self._replays)
        reader = _Reader(self._sources, self._box, self._classes)
        if self._workers:
            loaded = DataLoader(reader, sampler=plan, batch_size=None, num_workers=self._workers, prefetch_factor=4)
        for answer in loaded if self._workers else map(reader.__getitem__, plan):
            if isinstance(answer, PotemkinError):
                raise answer
            yield answer

    def _plan(self, first: int) -> Iterator[list[Ints]]:
        order: Ints | None = None
        number = first
        while True:
            epoch, place = divmod(number, self.batches_per_epoch)
            if order is None or place == 0:
                order = self._positions[_permutation(len(self._positions), self._seed, epoch)]
            own = order[place * self._own : (place + 1) * self._own]
            extra = [self._extra_places(number)] if len(self._sources) > 1 else []
            yield [rows[self._share.rank :: self._share.world] for rows in (own, *extra)]
            number += 1

    def _extra_places(self, number: int) -> Ints:
        total = len(self._sources[1])
        wanted = np.arange(number * self._extra, (number + 1) * self._extra)
        return np.array([_permutation(total, self._seed ^ EXTRA, int(k) // total)[int(k) % total] for k in wanted])


class _Reader(Dataset[object]):
    """Reads and checks rows; what cannot be used is handed on as the error it is, past the worker's traceback."""

    def __init__(self, sources: list[DataSource], box: tuple[float, float], classes: int | None) -> None:
        self._sources, self._box, self._classes = sources, box, classes

    def __getitem__(self, places: list[Ints]) -> list[Batch] | PotemkinError:
        try:
            return [self._read(source, rows) for source, rows in zip(self._sources, places, strict=True)]
        except PotemkinError as error:
            return error

    def _read(self, source: DataSource, rows: Ints) -> Batch:
        if not len(rows):
            return _none(source)
        batch = next(iter(source.batches(len(rows), rows)))
        check_batch(batch, source.name, box=self._box, classes=self._classes, input_shape=source.input_shape)
        return batch


def _none(source: DataSource) -> Batch:
    empty = torch.zeros(0, dtype=torch.int64)
    return Batch([], empty, torch.zeros(0, *source.input_shape), empty)


@lru_cache(maxsize=4)
def _permutation(total: int, seed: int, epoch: int) -> Ints:
    """A permutation of range(total) that is a function of (seed, epoch)."""
    words = row_keys(seed, torch.tensor([epoch]), text_key("order"), torch.tensor(-1), torch.tensor(0))[0]
    draws = np.random.Generator(np.random.Philox(key=(int(words[0]) << 32) | int(words[1])))
    return draws.permutation(total)


def as_examples(
    batches: list[Batch], device: torch.device, seed: int, epoch: int, salt: int, progress: float, step: int
) -> Examples:
    """One batch on the device, extra data spread among the training data, each row with its own random stream."""
    ids = torch.tensor(
        [id_key(example) ^ (EXTRA if place else 0) for place, batch in enumerate(batches) for example in batch.ids]
    )
    keys = row_keys(seed, ids, TRAINING, torch.tensor(epoch), torch.tensor(salt))

    # Where rows are cut by place (parts of a batch, attacked and clean rows), each cut has its share of either.
    places = torch.cat([(torch.arange(len(batch)) + 0.5) / max(1, len(batch)) for batch in batches])
    order = torch.argsort(places, stable=True)

    def joined(name: str) -> Tensor:
        parts = [getattr(batch, name) for batch in batches]
        return parts[0] if len(parts) == 1 else torch.cat(parts)[order]

    return Examples(
        x=joined("inputs").to(device),
        y=joined("labels").to(device),
        positions=joined("positions"),
        streams=RowStreams((keys if len(batches) == 1 else keys[order]).to(device)),
        progress=progress,
        step=step,
        seed=seed,
    )
