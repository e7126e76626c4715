"""A row's draws depend on its key, the step, the purpose and the place in the row: on nothing else, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potemkin.core import quantiles
from potemkin.core.random import RowStreams, row_keys

INT64 = st.integers(-(2**63), 2**63 - 1)
SHAPES = st.lists(st.integers(1, 7), max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.float64])
NAMES = st.sampled_from(["uniform", "normal", "exponential", "sign"])


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keys_of(seed: int, attack: int, examples: list[int], restart: int = 0) -> Tensor:
    return row_keys(seed, torch.tensor(examples), attack, torch.tensor(-1), torch.tensor(restart))


def draw(
    streams: RowStreams, name: str, step: Tensor, shape: tuple[int, ...], purpose: int, dtype: torch.dtype
) -> Tensor:
    drawn = getattr(streams, name)(step, shape, purpose, dtype)
    assert isinstance(drawn, Tensor)
    return drawn


@settings(deadline=None, max_examples=150)
@given(data=st.data(), name=NAMES, dtype=DTYPES, shape=SHAPES, seed=INT64, attack=INT64)
def test_a_row_alone_equals_the_row_in_any_company(
    data: st.DataObject, name: str, dtype: torch.dtype, shape: tuple[int, ...], seed: int, attack: int
) -> None:
    examples = data.draw(st.lists(INT64, min_size=1, max_size=20, unique=True))
    steps = data.draw(st.lists(INT64, min_size=len(examples), max_size=len(examples)))
    purpose = data.draw(st.integers(0, 2**32 - 1))
    together = draw(RowStreams(keys_of(seed, attack, examples)), name, torch.tensor(steps), shape, purpose, dtype)
    order = data.draw(st.permutations(range(len(examples))))
    picked = order[: data.draw(st.integers(1, len(examples)))]
    keys = keys_of(seed, attack, [examples[i] for i in picked])
    alone = draw(RowStreams(keys), name, torch.tensor([steps[i] for i in picked]), shape, purpose, dtype)
    assert torch.equal(alone, together[picked])


@settings(deadline=None, max_examples=60)
@given(name=NAMES, dtype=DTYPES, size=st.integers(1, 2000), rows=st.integers(2, 65), seed=INT64)
def test_sizes_that_no_vector_width_divides(name: str, dtype: torch.dtype, size: int, rows: int, seed: int) -> None:
    """Vectorised kernels treat the last few elements otherwise: where these fall must not show."""
    step = torch.arange(rows)
    together = draw(RowStreams(keys_of(seed, 0, list(range(rows)))), name, step, (size,), 0, dtype)
    for row in {0, 1, rows // 2, rows - 1}:
        alone = draw(RowStreams(keys_of(seed, 0, [row])), name, step[row : row + 1], (size,), 0, dtype)
        assert torch.equal(alone[0], together[row])


@settings(deadline=None, max_examples=60)
@given(name=NAMES, dtype=DTYPES, long=st.integers(1, 300), short=st.integers(1, 300), rows=st.integers(1, 9))
def test_a_longer_draw_begins_with_the_shorter(name: str, dtype: torch.dtype, long: int, short: int, rows: int) -> None:
    short, long = sorted((short, long))
    streams = RowStreams(keys_of(5, 0, list(range(rows))))
    step = torch.zeros(rows, dtype=torch.int64)
    begun = draw(streams, name, step, (short,), 1, dtype)
    assert torch.equal(draw(streams, name, step, (long,), 1, dtype)[:, :short], begun)


@settings(deadline=None, max_examples=100)
@given(shape=SHAPES, rows=st.integers(1, 17), data=st.data())
def test_integers_alone_and_in_company(shape: tuple[int, ...], rows: int, data: st.DataObject) -> None:
    high = torch.tensor(data.draw(st.lists(st.integers(1, 2**31), min_size=rows, max_size=rows)))
    together = RowStreams(keys_of(1, 2, list(range(rows)))).integers(0, high, shape)
    assert together.shape == (rows, *shape)
    assert (together >= 0).all()
    assert (together.reshape(rows, -1) < high[:, None]).all()
    row = data.draw(st.integers(0, rows - 1))
    alone = RowStreams(keys_of(1, 2, [row])).integers(0, int(high[row]), shape)
    assert torch.equal(alone[0], together[row])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["uniform", "normal", "exponential", "sign"])
def test_the_thread_count_does_not_show(name: str, dtype: torch.dtype) -> None:
    """Large enough that torch splits the work over its threads (more than 32,768 elements)."""
    step = torch.arange(37)
    streams = RowStreams(keys_of(0, 0, list(range(37))))
    drawn = []
    for count in (1, 2, 3):
        with threads(count):
            drawn.append(draw(streams, name, step, (3, 1021), 0, dtype))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
    with threads(1):
        alone = draw(RowStreams(streams.keys[20:21]), name, step[20:21], (3, 1021), 0, dtype)
    assert torch.equal(alone[0], drawn[2][20])


@settings(deadline=None, max_examples=60)
@given(tails=st.lists(st.floats(1e-17, 0.5), min_size=1, max_size=40), before=st.integers(0, 40))
def test_quantiles_do_not_depend_on_the_place_in_the_tensor(tails: list[float], before: int) -> None:
    here = torch.tensor(tails, dtype=torch.float64)
    moved = torch.cat((torch.full((before,), 0.3, dtype=torch.float64), here))
    assert torch.equal(quantiles.normal_upper(moved)[before:], quantiles.normal_upper(here))
    assert torch.equal(quantiles.log(moved)[before:], quantiles.log(here))


@settings(deadline=None, max_examples=200)
@given(fields=st.lists(INT64, min_size=5, max_size=5), other=INT64, field=st.integers(0, 4))
def test_another_field_is_another_stream(fields: list[int], other: int, field: int) -> None:
    changed = list(fields)
    changed[field] = other
    first, second = (
        row_keys(seed, torch.tensor([example]), attack, torch.tensor([target]), torch.tensor([restart]))
        for seed, example, attack, target, restart in (fields, changed)
    )
    assert torch.equal(first, second) == (fields == changed)


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(1, 20), seed=INT64)
def test_global_generator_neither_matters_nor_moves(rows: int, seed: int) -> None:
    streams = RowStreams(keys_of(seed, 0, list(range(rows))))
    torch.manual_seed(1)
    first = streams.normal(0, (5,))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(streams.normal(0, (5,)), first)
    assert torch.equal(torch.get_rng_state(), state)


@settings(deadline=None, max_examples=50)
@given(steps=st.lists(INT64, min_size=2, max_size=30, unique=True), purposes=st.tuples(*[st.integers(0, 99)] * 2))
def test_steps_and_purposes_are_other_numbers(steps: list[int], purposes: tuple[int, int]) -> None:
    streams = RowStreams(keys_of(0, 0, [0]))
    drawn = [tuple(streams.bits(s, 4, p).flatten().tolist()) for s in steps for p in set(purposes)]
    assert len(set(drawn)) == len(drawn)
    assert math.isclose(len(drawn), len(steps) * len(set(purposes)))
