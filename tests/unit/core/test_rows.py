"""Per-row reductions and shapes; each test would catch a reduction that ran over the batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from potemkin.core import rows
from potemkin.errors import ConfigError

NORMS = (0, 1, 2, math.inf)
SHAPES = [(), (1,), (7,), (3, 4), (3, 5, 2), (2, 3, 4, 5)]


def some(*shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(drawn.abs() < 0.2, 0.0, drawn)


@pytest.mark.parametrize("shape", SHAPES)
def test_flat_keeps_rows_and_order(shape: tuple[int, ...]) -> None:
    for count in (0, 1, 3):
        x = some(count, *shape)
        flat = rows.flat(x)
        assert flat.shape == (count, math.prod(shape))
        assert flat.flatten().tolist() == x.flatten().tolist()
    assert rows.flat(some(4, 0, 3)).shape == (4, 0)


def test_flat_goes_by_the_index_not_by_the_memory() -> None:
    x = some(2, 3, 4, 5)
    last = x.to(memory_format=torch.channels_last)
    assert last.stride() != x.stride()
    assert torch.equal(rows.flat(last), rows.flat(x))
    assert rows.flat(some(5, 4).T).is_contiguous()


@pytest.mark.parametrize("shape", SHAPES)
def test_spread_reaches_each_row(shape: tuple[int, ...]) -> None:
    x = some(3, *shape)
    v = torch.tensor([1.0, 2.0, 3.0])
    assert rows.spread(v, x).ndim == x.ndim
    product = rows.spread(v, x) * x
    assert product.shape == x.shape
    for i in range(3):
        assert torch.equal(product[i], x[i] * v[i])
    assert rows.spread(v[:0], x[:0]).shape == (0, *(1,) * len(shape))


@pytest.mark.parametrize("p", NORMS)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_norm_is_that_of_each_row(p: float, dtype: torch.dtype | None, shape: tuple[int, ...]) -> None:
    x = some(5, *shape)
    found = rows.norm(x, p, dtype)
    assert found.dtype == (dtype or torch.float32)
    expected = [_norm_in_python(row.flatten().tolist(), p) for row in x]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert rows.norm(x.double(), p).tolist() == pytest.approx(expected, rel=1e-14)


def _norm_in_python(row: list[float], p: float) -> float:
    if p == 0:
        return sum(value != 0 for value in row)
    if p == math.inf:
        return max(abs(value) for value in row)
    return float(math.fsum(abs(value) ** p for value in row) ** (1 / p))


@pytest.mark.parametrize("p", NORMS)
def test_norm_of_a_row_is_the_same_bits_in_any_company(p: float) -> None:
    x = some(24, 3072)
    whole = rows.norm(x, p)
    assert torch.equal(rows.norm(x[8:16], p), whole[8:16])
    assert torch.equal(rows.norm(x.flip(0), p).flip(0), whole)


@pytest.mark.parametrize("p", NORMS)
def test_norm_of_nothing_and_of_nan(p: float) -> None:
    assert rows.norm(some(0, 3), p).shape == (0,)
    assert rows.norm(some(2, 0), p).tolist() == [0.0, 0.0]
    found = rows.norm(torch.tensor([[1.0, math.nan], [1.0, -2.0]]), p)
    assert p == 0 or math.isnan(found[0])
    assert found[1].item() == pytest.approx(_norm_in_python([1.0, -2.0], p))


@pytest.mark.parametrize("shape", SHAPES)
def test_peak_is_the_largest_of_each_row_however_it_lies_in_memory(shape: tuple[int, ...]) -> None:
    x = some(5, *shape)
    expected = [max(abs(v) for v in row.flatten().tolist()) for row in x]
    turned = x.permute(*reversed(range(x.ndim))).contiguous().permute(*reversed(range(x.ndim)))
    assert rows.peak(x).tolist() == rows.peak(turned).tolist() == expected
    assert rows.peak(x[:0]).shape == (0,) and rows.peak(torch.zeros(3, *shape, 0)).tolist() == [0.0] * 3
    x[2], x[3] = math.nan, -math.inf
    found = rows.peak(x).tolist()
    assert math.isnan(found[2]) and found[3] == math.inf and found[:2] == expected[:2]


def test_norm_in_float64_sees_what_float32_squares_away() -> None:
    x = torch.full((2, 4), 1e-30)
    assert rows.norm(x, 2, torch.float64).tolist() == pytest.approx([2e-30, 2e-30], rel=1e-6)


def test_norm_refuses_other_p() -> None:
    with pytest.raises(ConfigError, match=r"p must be 0, 1, 2 or inf, found 3"):
        rows.norm(some(2, 2), 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_dot_is_that_of_each_row(shape: tuple[int, ...]) -> None:
    a, b = some(4, *shape), some(4, *shape, seed=1)
    expected = [math.fsum((a[i].double() * b[i].double()).flatten().tolist()) for i in range(4)]
    assert rows.dot(a, b).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    wide = rows.dot(a, b, torch.float64)
    assert wide.dtype == torch.float64
    assert wide.tolist() == pytest.approx(expected, rel=1e-14)
    assert rows.dot(a[:0], b[:0]).shape == (0,)


def test_all_true_and_finite_judge_each_row_alone() -> None:
    mask = torch.tensor([[[True, True]], [[True, False]], [[False, False]], [[True, True]]])
    assert rows.all_true(mask).tolist() == [True, False, False, True]
    assert rows.all_true(mask[:, 0, 1]).tolist() == [True, False, False, True]
    assert rows.all_true(mask[:0]).shape == (0,)
    x = torch.zeros(4, 2, 3)
    x[1, 0, 2], x[2, 1, 0], x[3, 1, 1] = math.nan, -math.inf, 3e38
    assert rows.finite(x).tolist() == [True, False, False, True]
    both = torch.tensor([[math.nan, math.inf], [math.inf, math.nan], [-math.inf, 1.0], [-1.0, 0.0]])
    assert rows.finite(both).tolist() == [False, False, False, True]
    assert rows.finite(both[:, :0]).tolist() == [True] * 4
    assert rows.finite(both[:0]).shape == (0,)


def test_select_takes_whole_rows() -> None:
    a, b = some(3, 2, 4), some(3, 2, 4, seed=1)
    which = torch.tensor([True, False, True])
    found = rows.select(which, a, b)
    assert torch.equal(found, torch.stack((a[0], b[1], a[2])))
    assert torch.equal(rows.select(which, a, 0.0)[1], torch.zeros(2, 4))
    assert rows.select(which, a[:, 0, 0], b[:, 0, 0]).tolist() == [a[0, 0, 0], b[1, 0, 0], a[2, 0, 0]]
    ids = torch.arange(3)
    assert rows.select(which, ids, -ids).dtype == torch.int64


def test_select_does_not_let_nan_through() -> None:
    """A product with the mask instead of `where` would: 0 * nan is nan."""
    a = torch.tensor([[1.0], [math.nan]])
    assert rows.select(torch.tensor([True, False]), a, torch.zeros(2, 1)).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("shape", SHAPES)
def test_pad_rows_repeats_row_0(shape: tuple[int, ...]) -> None:
    x = some(3, *shape)
    padded = rows.pad_rows(x, 8)
    assert padded.shape == (8, *shape)
    assert padded.dtype == x.dtype
    assert torch.equal(padded[:3], x)
    for i in range(3, 8):
        assert torch.equal(padded[i], x[0])
    padded[0] = 99.0
    assert not (padded[3:] == 99.0).any(), "padding must be a copy, not a view of row 0"


def test_pad_rows_that_are_enough_are_untouched() -> None:
    x = some(8, 2)
    assert rows.pad_rows(x, 8) is x
    labels = torch.tensor([3, 4])
    assert rows.pad_rows(labels, 4).tolist() == [3, 4, 3, 3]
    assert rows.pad_rows(labels == 4, 3).tolist() == [False, True, False]


def test_pad_rows_refuses_no_rows_and_too_many() -> None:
    with pytest.raises(ConfigError, match=r"x has no rows, its shape is \(0, 3\)"):
        rows.pad_rows(some(0, 3), 8)
    with pytest.raises(ConfigError, match=r"x has 9 rows and cannot be padded to 8"):
        rows.pad_rows(some(9, 3), 8)


def test_round_up() -> None:
    assert [rows.round_up(n) for n in (0, 1, 7, 8, 9, 128)] == [0, 8, 8, 8, 16, 128]


@pytest.mark.parametrize(
    "reduction",
    [lambda x: rows.norm(x, 1), lambda x: rows.norm(x, 2), lambda x: rows.norm(x, math.inf), lambda x: rows.dot(x, x)],
)
def test_gradients_stay_in_their_row(reduction: Callable[[Tensor], Tensor]) -> None:
    x = some(3, 2, 2).add(0.5).requires_grad_()
    (gradient,) = torch.autograd.grad(reduction(x)[1], x)
    assert gradient[1].abs().sum() > 0
    assert gradient[0].abs().sum() == gradient[2].abs().sum() == 0
