"""Random numbers that belong to a row: Philox-4x32-10, counter-based, in torch integer arithmetic.

A draw is a pure function of (key of the row, step, purpose, position in the row). No generator is advanced, so the draw
of a row does not depend on the row count, the row's place in the batch, the other rows, the thread count or the order
of the calls, and a run that resumes draws what it would have drawn.

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 3.3.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from potemkin.core import quantiles
from potemkin.core.checks import number
from potemkin.errors import ConfigError

Words2: TypeAlias = tuple[Tensor, Tensor]
Words4: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW_HALF = 1 << 31  # block numbers from here on give the low-order words: float64 draws refine the float32 ones


def philox4x32(counter: Words4, key: Words2, rounds: int = 10) -> Words4:
    """Encrypt 128-bit counters under 64-bit keys: four random 32-bit words each.

    Words are int64 tensors with values in [0, 2**32); counter and key broadcast against each other. The 64-bit product
    wraps in int64, which keeps its bits: the high word is (p >> 32) & 0xffffffff whatever the sign.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for turn in range(rounds):
        if turn:
            k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0 = (p1 >> 32).bitwise_and_(_MASK) ^ c1 ^ k0
        c2 = (p0 >> 32).bitwise_and_(_MASK) ^ c3 ^ k1
        c1, c3 = p1.bitwise_and_(_MASK), p0.bitwise_and_(_MASK)
    return c0, c1, c2, c3


def text_key(text: str) -> int:
    """A stable number in [0, 2**63) for a text (blake2b over its UTF-8 bytes)."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def row_keys(seed: int, example: Tensor, attack: int, target: Tensor, restart: Tensor) -> Tensor:
    """The key of each job, (B, 2) words: a hash of (seed, example id, attack, target, restart) by Philox itself.

    `example`, `target` and `restart` are int64 tensors (B,) (or scalars, which broadcast) with any value, negative too
    (target -1 = none); `seed` and `attack` are ints that fit into 64 bits with sign.
    """
    for name, value in (("seed", seed), ("attack", attack)):
        number(name, value, low=-(1 << 63), high=(1 << 63) - 1, integer=True)
    for ids in (example, target, restart):
        _int64(ids)
    start = _halves(torch.as_tensor(seed, device=example.device))
    of_attack = _halves(torch.as_tensor(attack, device=example.device))
    c0, c1, c2, c3 = philox4x32((*_halves(example), *of_attack), start)
    low, high = _halves(target)
    # All 128 bits of the first pass go on, two as the key and two mixed into the counter: nothing is lost half-way.
    first, second, _, _ = philox4x32((low ^ c2, high ^ c3, *_halves(restart)), (c0, c1))
    return torch.stack((first, second), dim=-1).reshape(-1, 2)


@dataclass(frozen=True, eq=False)
class RowStreams:
    """One independent random stream per row; `keys` is (B, 2), as `row_keys` makes it.

    Every draw takes the row's step counter `step` ((B,) int64, or one int for all rows) and a `purpose`: two uses at
    the same step must name different purposes, or they see the same bits. A draw with a longer shape starts with the
    numbers of the shorter one, and a float32 draw is the float64 draw of the same place, kept to fewer bits.

    >>> streams = RowStreams(row_keys(0, torch.arange(2), 0, torch.tensor(-1), torch.tensor(0)))
    >>> streams.uniform(torch.zeros(2, dtype=torch.int64), (3,)).shape
    torch.Size([2, 3])
    """

    keys: Tensor

    def __post_init__(self) -> None:
        if self.keys.ndim != 2 or self.keys.shape[1] != 2 or self.keys.dtype != torch.int64:
            found = f"{tuple(self.keys.shape)} of {self.keys.dtype}"
            raise ConfigError(f"keys must be an int64 tensor (B, 2), as row_keys() makes it; found {found}.")

    @property
    def rows(self) -> int:
        """B, the number of rows."""
        return self.keys.shape[0]

    def bits(self, step: Tensor | int, count: int, purpose: int = 0) -> Tensor:
        """(B, count) int64 words, uniform in [0, 2**32)."""
        return self._words(step, count, purpose, first_block=0)

    def uniform(
        self, step: Tensor | int, shape: Sequence[int], purpose: int = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(B, *shape) uniform in [0, 1): a multiple of 2**-24 (float32) or 2**-53 (float64)."""
        count = math.prod(shape)
        if _is_double(dtype):
            drawn = self._wide(step, count, purpose).to(torch.float64).mul_(2.0**-53)
        else:
            drawn = (self.bits(step, count, purpose) >> 8).to(torch.float32).mul_(2.0**-24)
        return drawn.reshape(self.rows, *shape)

    def normal(
        self, step: Tensor | int, shape: Sequence[int], purpose: int = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(B, *shape) standard normal by inversion, exact to some 1e-15; never beyond 6.4 (float32), 8.3 (float64)."""
        count, double = math.prod(shape), _is_double(dtype)
        words = self._wide(step, count, purpose) if double else self.bits(step, count, purpose)
        width = 53 if double else 32
        # The top bit is the sign, the others the tail's probability in (0, 1/2): (k + 1/2) 2**-width, exact in float64.
        tail = (words & ((1 << (width - 1)) - 1)).to(torch.float64).add_(0.5).mul_(2.0**-width)
        size = quantiles.normal_upper(tail, far=double)
        return torch.where(words >> (width - 1) != 0, size, -size).to(dtype).reshape(self.rows, *shape)

    def exponential(
        self, step: Tensor | int, shape: Sequence[int], purpose: int = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(B, *shape) exponential with mean 1: -log(u) with u in (0, 1), so always positive and finite."""
        count, double = math.prod(shape), _is_double(dtype)
        words = self._wide(step, count, purpose) >> 1 if double else self.bits(step, count, purpose)
        width = 52 if double else 32
        inside = words.to(torch.float64).add_(0.5).mul_(2.0**-width)
        return quantiles.log(inside).neg_().to(dtype).reshape(self.rows, *shape)

    def sign(
        self, step: Tensor | int, shape: Sequence[int], purpose: int = 0, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """(B, *shape) of -1.0 and +1.0, each with probability 1/2."""
        _is_double(dtype)
        words = self.bits(step, math.prod(shape), purpose)
        return ((words >> 31) * 2 - 1).to(dtype).reshape(self.rows, *shape)

    def integers(self, step: Tensor | int, high: int | Tensor, shape: Sequence[int] = (), purpose: int = 0) -> Tensor:
        """(B, *shape) int64, uniform in [0, high) up to 2**-32; `high` in [1, 2**31], an int or one per row (B,).

        A tensor `high` is not checked (that would wait for the device); where it is 0 the draw is 0.
        """
        if isinstance(high, int):
            number("high", high, low=1, high=1 << 31, integer=True)
            bound = torch.as_tensor(high, device=self.keys.device)
        else:
            bound = _int64(high).reshape(-1, 1)
        count = math.prod(shape)
        upper = self.bits(step, count, purpose)
        lower = self._words(step, count, purpose, first_block=_LOW_HALF)
        # floor(high * fraction) with a 64-bit fraction; both products stay below 2**63.
        drawn = (upper * bound + ((lower * bound) >> 32)) >> 32
        return drawn.reshape(self.rows, *shape)

    def _wide(self, step: Tensor | int, count: int, purpose: int) -> Tensor:
        """(B, count) int64 in [0, 2**53) whose upper 32 bits are `bits`."""
        lower = self._words(step, count, purpose, first_block=_LOW_HALF)
        return (self.bits(step, count, purpose) << 21) | (lower >> 11)

    def _words(self, step: Tensor | int, count: int, purpose: int, first_block: int) -> Tensor:
        if not 0 <= purpose <= _MASK:
            raise ConfigError(f"purpose must be an integer from 0 to 2**32 - 1, found {purpose!r}.")
        device, rows = self.keys.device, self.rows
        steps = _int64(torch.as_tensor(step, device=device))
        if steps.ndim and steps.shape != (rows,):
            raise ConfigError(f"step must be an int or one per row, ({rows},); found shape {tuple(steps.shape)}.")
        low, high = _halves(steps.expand(rows).reshape(rows, 1))
        block = torch.arange(-(-count // 4), device=device).add_(first_block).reshape(1, -1)
        counter = (block, torch.full_like(block, purpose), low, high)
        words = philox4x32(counter, (self.keys[:, :1], self.keys[:, 1:]))
        return torch.stack(words, dim=-1).reshape(rows, 4 * block.shape[1])[:, :count]


def _halves(value: Tensor) -> Words2:
    """The low and the high 32 bits of int64 values."""
    return value & _MASK, (value >> 32) & _MASK


def _int64(value: Tensor) -> Tensor:
    if value.dtype != torch.int64:
        raise ConfigError(f"Ids, steps, targets, restarts and bounds must be int64 tensors, found {value.dtype}.")
    return value


def _is_double(dtype: torch.dtype) -> bool:
    if dtype not in (torch.float32, torch.float64):
        raise ConfigError(
            f"Random draws come as torch.float32 or torch.float64, not {dtype}; draw float32 and convert."
        )
    return dtype == torch.float64
