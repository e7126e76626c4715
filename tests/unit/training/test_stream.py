"""Which examples come when: permutations, shares, resumed runs, workers, extra data, errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
import torch

from potemkin.data.arrays import ArraySource
from potemkin.data.source import Batch, Ints
from potemkin.errors import ConfigError, DataError
from potemkin.training.stream import Share, Stream, as_examples

N, SIZE = 40, 8
ALONE = Share()


def source(rows: int = N, seed: int = 0, **others: Any) -> ArraySource:
    inputs = np.random.default_rng(seed).random((rows, 5), dtype=np.float32)
    return ArraySource(inputs, np.arange(rows) % 3, **others)


def stream(data: ArraySource | None = None, size: int = SIZE, seed: int = 0, **others: Any) -> Stream:
    data = data or source()
    positions = others.pop("positions", np.arange(len(data), dtype=np.int64))
    return Stream(data, positions, size, seed, others.pop("share", ALONE), **others)


def places(read: Stream, batches: int, step: int = 0) -> list[list[int]]:
    return [each[0].positions.tolist() for each in islice(read.from_step(step), batches)]


def joined(batches: Iterable[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


# The order ----------------------------------------------------------------------------------------------------------


def test_every_epoch_is_another_permutation_of_the_data() -> None:
    read = places(stream(), 15)
    epochs = [joined(read[k : k + 5]) for k in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(N)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0] and epochs[0] != list(range(N))
    assert all(len(batch) == SIZE for batch in read)


def test_every_order_is_about_as_likely_as_any() -> None:
    """First place of the epoch over 600 epochs of six examples: each example a hundred times (sd 9)."""
    read = places(stream(source(6), size=6), 600)
    counts = np.bincount([batch[0] for batch in read], minlength=6)
    assert counts.min() > 65 and counts.max() < 135


def test_what_does_not_fill_a_batch_waits_for_another_epoch() -> None:
    data = source(43)
    read = places(stream(data), 30)
    assert stream(data).batches_per_epoch == 5
    left_out = [set(range(43)) - set(joined(read[k : k + 5])) for k in range(0, 30, 5)]
    assert all(len(each) == 3 for each in left_out) and len(set.union(*left_out)) > 9


def test_only_the_given_places_are_read() -> None:
    chosen = np.arange(4, N, 2, dtype=np.int64)
    read = joined(places(stream(size=6, positions=chosen), 3))
    assert sorted(read) == chosen.tolist()


def test_the_order_is_the_seeds() -> None:
    assert places(stream(), 12) == places(stream(), 12)
    assert places(stream(seed=1), 12) != places(stream(), 12)


def test_rows_arrive_as_they_are_stored() -> None:
    data = source(ids=[f"picture {k}" for k in range(N)])
    for (batch,) in islice(stream(data).from_step(0), 6):
        expected = next(data.batches(SIZE, batch.positions))
        assert torch.equal(batch.inputs, expected.inputs) and torch.equal(batch.labels, expected.labels)
        assert batch.ids == [f"picture {k}" for k in batch.positions.tolist()]


@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_shares_of_all_processes_interleave_to_the_same_batches(world: int) -> None:
    whole = places(stream(), 12)
    shares = [places(stream(share=Share(rank, world)), 12) for rank in range(world)]
    for number, batch in enumerate(whole):
        assert [batch[rank::world] for rank in range(world)] == [share[number] for share in shares]
        assert sorted(joined(share[number] for share in shares)) == sorted(batch)


# Going on from a step -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 4, 5, 7, 10, 13])
def test_from_a_step_is_as_if_all_before_had_been_skipped(step: int) -> None:
    assert places(stream(), 6, step) == places(stream(), 20)[step : step + 6]


def test_replays_take_one_batch_for_so_many_steps() -> None:
    read = stream(replays=3)
    assert read.batches_per_epoch == 5 and read.steps_per_epoch == 15
    whole = places(stream(), 20)
    for step in (0, 1, 2, 3, 15, 17, 18):
        assert places(read, 2, step) == whole[step // 3 : step // 3 + 2]


def test_two_streams_do_not_disturb_each_other() -> None:
    """The permutations that are kept are told apart by their size, seed and epoch."""
    expected = {seed: places(stream(seed=seed), 15) for seed in range(6)}
    running = {seed: stream(seed=seed).from_step(0) for seed in range(6)}
    found: dict[int, list[list[int]]] = {seed: [] for seed in running}
    for _ in range(15):
        for seed, each in running.items():
            found[seed].append(next(each)[0].positions.tolist())
    assert found == expected


# Workers ------------------------------------------------------------------------------------------------------------


def test_workers_give_the_same_batches_in_the_same_order() -> None:
    extra = source(30, seed=1)
    alone, helped = (
        list(islice(stream(extra=extra, extra_rows=3, workers=workers, share=Share(1, 2)).from_step(4), 12))
        for workers in (0, 2)
    )
    for one, other in zip(alone, helped, strict=True):
        assert len(one) == len(other) == 2
        for a, b in zip(one, other, strict=True):
            assert a.ids == b.ids and torch.equal(a.inputs, b.inputs) and torch.equal(a.labels, b.labels)


class Broken(ArraySource):
    """Fails when example 7 is read."""

    failure: Exception = DataError("broken.png is no picture: replace it.")

    def _read(self, positions: Ints) -> Batch:
        if 7 in positions:
            raise self.failure
        return super()._read(positions)


def broken() -> Broken:
    return Broken(np.random.default_rng(0).random((N, 5), dtype=np.float32), np.arange(N) % 3)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_ours_comes_out_of_a_worker_as_it_is(workers: int) -> None:
    failing = next(k for k, batch in enumerate(places(stream(), 5)) if 7 in batch)
    got: list[list[Batch]] = []
    with pytest.raises(DataError) as caught:
        for each in islice(stream(broken(), workers=workers).from_step(0), 5):
            got.append(each)
    assert type(caught.value) is DataError and str(caught.value) == "broken.png is no picture: replace it."
    assert len(got) == failing, "the batches before it are served"


def test_another_error_is_not_swallowed() -> None:
    data = broken()
    data.failure = OSError("the disk is gone")
    for workers in (0, 1):
        with pytest.raises(OSError, match="the disk is gone"):
            list(islice(stream(data, workers=workers).from_step(0), 5))


# What is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN|not a number|finite"), (1.5, "box|outside")])
@pytest.mark.parametrize("workers", [0, 1])
def test_bad_rows_are_refused_when_they_first_come(value: float, said: str, workers: int) -> None:
    inputs = np.random.default_rng(0).random((N, 5), dtype=np.float32)
    inputs[7, 2] = value
    data = ArraySource(inputs, np.arange(N) % 3)
    with pytest.raises(DataError, match=said):
        list(islice(stream(data, workers=workers).from_step(0), 5))


def test_labels_beyond_the_models_classes_are_refused() -> None:
    with pytest.raises(DataError, match="label"):
        list(islice(stream(classes=2).from_step(0), 5))


def test_fewer_examples_than_a_batch_are_refused() -> None:
    with pytest.raises(DataError, match="batch_size"):
        stream(source(7))
    stream(source(8))


# Extra data ---------------------------------------------------------------------------------------------------------


def test_extra_data_have_their_share_of_every_batch_and_all_come_alike() -> None:
    extra = source(25, seed=1)
    read = list(islice(stream(extra=extra, extra_rows=2).from_step(0), 50))
    assert all(len(own) == 6 and len(more) == 2 for own, more in read)
    taken = [p for _, more in read for p in more.positions.tolist()]
    sweeps = [taken[k : k + 25] for k in range(0, 100, 25)]  # a sweep ends in the middle of a batch
    assert all(sorted(sweep) == list(range(25)) for sweep in sweeps) and sweeps[0] != sweeps[1]
    assert all(torch.equal(more.inputs, next(extra.batches(2, more.positions)).inputs) for _, more in read)
    own = [p for first, _ in read[:6] for p in first.positions.tolist()]
    assert len(set(own)) == 36, "the training data are swept by themselves, 6 a batch"


def test_extra_data_do_not_depend_on_processes_or_on_where_the_run_began() -> None:
    def read(step: int, share: Share = ALONE) -> Iterator[list[int]]:
        made = stream(extra=source(25, seed=1), extra_rows=4, share=share)
        return (more.positions.tolist() for _, more in islice(made.from_step(step), 9))

    whole = list(read(0))
    assert list(read(3))[:6] == whole[3:]
    shares = [list(read(0, Share(rank, 2))) for rank in (0, 1)]
    assert [[batch[0::2], batch[1::2]] for batch in whole] == [list(pair) for pair in zip(*shares, strict=True)]


@pytest.mark.parametrize("rows", [0, SIZE])
def test_a_share_that_leaves_one_side_without_rows_is_refused(rows: int) -> None:
    with pytest.raises(ConfigError, match="extra"):
        stream(extra=source(25), extra_rows=rows)


def test_a_process_may_have_no_extra_row() -> None:
    for own, more in islice(stream(extra=source(25), extra_rows=1, share=Share(1, 2)).from_step(0), 3):
        assert len(own) == 3 and len(more) == 0 and more.inputs.shape == (0, 5)


# Random streams of the rows -----------------------------------------------------------------------------------------


def keyed(batches: list[Batch], epoch: int = 0, seed: int = 0, salt: int = 0) -> torch.Tensor:
    return as_examples(batches, torch.device("cpu"), seed, epoch, salt, 0.0, 0).streams.keys


def test_a_rows_draws_are_those_of_its_id_epoch_seed_and_salt_alone() -> None:
    data = source()
    one = next(data.batches(6, [3, 9, 1, 30, 2, 8]))
    other = next(data.batches(3, [30, 5, 3]))
    keys = keyed([one])
    assert torch.equal(keyed([other])[[2, 0]], keys[[0, 3]])
    assert len(torch.unique(keys, dim=0)) == 6
    for changed in (keyed([one], epoch=1), keyed([one], seed=1), keyed([one], salt=1)):
        assert not torch.any((changed == keys).all(dim=1))


def test_training_and_extra_data_with_the_same_ids_draw_differently() -> None:
    batch = next(source().batches(4, [0, 1, 2, 3]))
    keys = keyed([batch, batch])
    assert len(torch.unique(keys, dim=0)) == 8


def test_batches_become_examples_with_the_extra_rows_among_them() -> None:
    """Spread, so that recipes which cut the batch by place cut both kinds."""
    own, more = next(source().batches(2, [4, 5])), next(source(25, seed=1).batches(1, [7]))
    given = as_examples([own, more], torch.device("cpu"), 0, 2, 0, 0.25, 17)
    assert torch.equal(given.x, torch.cat([own.inputs, more.inputs])[[0, 2, 1]]) and given.y.tolist() == [1, 1, 2]
    assert given.positions.tolist() == [4, 7, 5] and given.progress == 0.25 and given.step == 17
    assert len(given) == 3 and given.partner is None and given.share is None


def test_text_ids_key_the_draws_too() -> None:
    named = source(ids=[f"picture {k}" for k in range(N)])
    first, again = (keyed([next(named.batches(2, rows))]) for rows in ([3, 4], [4, 3]))
    assert torch.equal(first, again.flip(0)) and not torch.equal(first[0], first[1])
