"""Reductions and shapes per row: B rows lead every tensor, and no row looks at another.

Row counts are multiples of 8 (`round_up`, `pad_rows`): torch splits the sum of a single long row over its threads, so
only then is a row's sum the same, to the last bit, whatever the thread count and whatever stands beside it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from potemkin.errors import ConfigError


def flat(x: Tensor) -> Tensor:
    """(B, ...) -> (B, d), contiguous, so that reductions run in one order whatever the memory format was."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:])).contiguous()


def spread(v: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ..., 1) with the rank of `like`, ready to broadcast against it."""
    return v.reshape(-1, *(1,) * (like.ndim - 1))


def norm(x: Tensor, p: float, dtype: torch.dtype | None = None) -> Tensor:
    """(B, ...) -> (B,): the p-norm of each row, p in {0, 1, 2, inf}; p = 0 counts the nonzero coordinates.

    `dtype` is what it is computed in and returned as: float64 keeps p = 2 from underflow where |x| < 1e-19 in float32.
    """
    wide = x if dtype is None else x.to(dtype)
    if p == math.inf:
        return peak(wide)
    rows = flat(wide)
    if p == 2:
        length: Tensor = torch.linalg.vector_norm(rows, 2, dim=1)
        return length
    if p == 1:
        return rows.abs().sum(dim=1)
    if p == 0:
        return (rows != 0).sum(dim=1).to(rows.dtype)
    raise ConfigError(f"p must be 0, 1, 2 or inf, found {p!r}.")


def peak(x: Tensor) -> Tensor:
    """(B, ...) -> (B,): max |x| of each row, NaN where it holds one, 0 where it holds nothing.

    In the memory format that x has: the order cannot matter here, and a copy of a channels-last tensor costs 20 times
    as much as the maximum.
    """
    if x.ndim == 1:
        return x.abs()
    if not x[:1].numel():
        return x.new_zeros(len(x))
    return x.abs().amax(dim=tuple(range(1, x.ndim)))


def dot(a: Tensor, b: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The inner product of each row of `a` with the same row of `b`, (B,)."""
    if dtype is not None:
        a, b = a.to(dtype), b.to(dtype)
    return (flat(a) * flat(b)).sum(dim=1)


def all_true(mask: Tensor) -> Tensor:
    """(B, ...) bool -> (B,) bool: whether every coordinate of the row is True."""
    return flat(mask).all(dim=1)


def select(rows: Tensor, a: Tensor, b: Tensor | float) -> Tensor:
    """`a` in the rows where `rows` ((B,) bool) is True, `b` in the others; `b` may be a number."""
    return torch.where(spread(rows, a), a, b)


def finite(x: Tensor) -> Tensor:
    """(B, ...) -> (B,) bool: whether the row holds neither NaN nor infinity."""
    # The maximum is NaN or infinite where any coordinate is: several times faster than testing each of them.
    return torch.isfinite(peak(x))


def pad_rows(x: Tensor, count: int) -> Tensor:
    """Repeat row 0 behind the last row until there are `count` rows; `x` itself if it has as many already."""
    have = x.shape[0]
    if have == 0:
        raise ConfigError(f"Nothing to pad with: x has no rows, its shape is {tuple(x.shape)}; pass at least one row.")
    if have > count:
        raise ConfigError(f"x has {have} rows and cannot be padded to {count}; pass count >= {have}.")
    return x if have == count else torch.cat((x, x[:1].expand(count - have, *x.shape[1:])))


def round_up(n: int) -> int:
    """The smallest multiple of 8 that is at least `n`.

    >>> round_up(9), round_up(16)
    (16, 16)
    """
    return -(-n // 8) * 8


def ulps(x: Tensor, center: Tensor) -> Tensor:
    """One unit in the last place of x's dtype at max(|x|, |center|), in float64: what rounding may move a coordinate.

    Coordinate by coordinate, so that a wide box (a table with an income in it) excuses nothing in a narrow column.

    >>> ulps(torch.tensor([1.0, 1000.0, 0.0]), torch.zeros(3)).log2().tolist()
    [-23.0, -14.0, -inf]
    """
    scale = torch.maximum(x.abs(), center.abs()).to(torch.float64)
    found = torch.ldexp(torch.full_like(scale, torch.finfo(x.dtype).eps), torch.frexp(scale).exponent - 1)
    return found.where(scale > 0, scale)
