"""Philox against the published vectors, and the draws against the distributions that they claim."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from potemkin.core.random import RowStreams, philox4x32, row_keys, text_key
from potemkin.errors import ConfigError

NONE = torch.tensor(-1)
ZERO = torch.tensor(0)
FLOATS = (torch.float32, torch.float64)
DRAWS = ("uniform", "normal", "exponential", "sign")

# Random123, kat_vectors: philox4x32, 10 rounds; counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def streams(rows: int, seed: int = 0) -> RowStreams:
    return RowStreams(row_keys(seed, torch.arange(rows), 0, NONE, ZERO))


def test_philox_gives_the_published_vectors() -> None:
    counters = torch.tensor([words(counter) for counter, _, _ in KNOWN_ANSWERS])
    keys = torch.tensor([words(key) for _, key, _ in KNOWN_ANSWERS])
    c0, c1, c2, c3 = counters.T
    k0, k1 = keys.T
    together = torch.stack(philox4x32((c0, c1, c2, c3), (k0, k1)), dim=1)
    assert together.tolist() == [words(result) for _, _, result in KNOWN_ANSWERS]


def philox_in_python(counter: list[int], key: list[int], rounds: int) -> list[int]:
    """The paper's figure in unbounded Python integers."""
    mask = 2**32 - 1
    left, right, (k0, k1) = counter[0], counter[2], key
    low, high = counter[1], counter[3]
    for _ in range(rounds):
        one, two = 0xD2511F53 * left, 0xCD9E8D57 * right
        left, low, right, high = two // 2**32 ^ low ^ k0, two & mask, one // 2**32 ^ high ^ k1, one & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return [left, low, right, high]


@pytest.mark.parametrize("rounds", [1, 7, 10])
def test_philox_equals_unbounded_integers(rounds: int) -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(0, 2**32, (200, 6), generator=generator)
    c0, c1, c2, c3, k0, k1 = drawn.T
    result = torch.stack(philox4x32((c0, c1, c2, c3), (k0, k1), rounds), dim=1)
    assert result.tolist() == [philox_in_python(row[:4], row[4:], rounds) for row in drawn.tolist()]


def test_philox_broadcasts_counters_against_keys() -> None:
    block, key = torch.arange(5).reshape(1, 5), torch.arange(3).reshape(3, 1)
    wide = philox4x32((block, ZERO, ZERO, ZERO), (key, ZERO))
    assert all(word.shape == (3, 5) for word in wide)
    one = philox4x32((torch.tensor(4), ZERO, ZERO, ZERO), (torch.tensor(2), ZERO))
    assert [int(word[2, 4]) for word in wide] == [int(word) for word in one]


def test_bits_are_the_published_words_of_the_counter() -> None:
    """Pins the layout (block, purpose, step low, step high): a change would silently change every number ever drawn."""
    key, step, purpose = [0xA4093822, 0x299F31D0], (5 << 32) + 7, 3
    drawn = RowStreams(torch.tensor([key])).bits(torch.tensor([step]), 6, purpose)
    expected = [philox_in_python([block, purpose, 7, 5], key, 10) for block in (0, 1)]
    assert drawn.tolist() == [(expected[0] + expected[1])[:6]]


def test_float_draws_are_the_named_bits() -> None:
    source, step = streams(3), torch.arange(3)
    top = source.bits(step, 40, purpose=9)
    assert torch.equal(source.uniform(step, (40,), 9), ((top >> 8).double() / 2**24).float())
    assert torch.equal(source.sign(step, (40,), 9), torch.where(top >= 2**31, 1.0, -1.0))


def test_text_key_is_pinned_and_spread() -> None:
    assert text_key("") == 8238016292129134938
    assert text_key("cat/001.png") == 8450431239155213612
    keys = {text_key(f"{i}.png") for i in range(1000)}
    assert len(keys) == 1000
    assert all(0 <= key < 2**63 for key in keys)
    assert max(keys) > 2**62 > 2**61 > min(keys)
    assert text_key("\udcff.png") != text_key("\udcfe.png"), "file names that are no UTF-8 have keys, too"


def test_row_keys_are_pinned() -> None:
    """Stored runs name their seed: the keys that come from it must never change."""
    keys = row_keys(0, torch.tensor([0, 1, -5]), 3, torch.tensor([-1, 2, 0]), torch.tensor([0, 0, 4]))
    assert keys.tolist() == [[898803958, 1113138851], [1952366908, 1670027873], [1785170343, 266217903]]


def test_row_keys_are_two_passes_of_philox() -> None:
    def halves(value: int) -> list[int]:
        return [value & (2**32 - 1), value >> 32 & (2**32 - 1)]

    for seed, example, attack, target, restart in [(0, 0, 0, -1, 0), (-7, 2**40 + 5, 2**62, 9, 3), (1, -9, -2, 0, -8)]:
        state = philox_in_python(halves(example) + halves(attack), halves(seed), 10)
        mixed = [a ^ b for a, b in zip(halves(target), state[2:], strict=True)]
        expected = philox_in_python(mixed + halves(restart), state[:2], 10)[:2]
        keys = row_keys(seed, torch.tensor([example]), attack, torch.tensor([target]), torch.tensor([restart]))
        assert keys.tolist() == [expected]


def test_row_keys_differ_if_any_field_differs() -> None:
    ids = [0, 1, -1, 2**32, 2**31, -(2**63), 2**63 - 1]
    seen: set[tuple[int, ...]] = set()
    for seed, attack in itertools.product(ids, ids):
        grid = torch.tensor(list(itertools.product(ids, ids, ids)))
        keys = row_keys(seed, grid[:, 0], attack, grid[:, 1], grid[:, 2])
        assert keys.shape == (len(grid), 2)
        assert int(keys.min()) >= 0
        assert int(keys.max()) < 2**32
        seen.update(map(tuple, keys.tolist()))
    assert len(seen) == len(ids) ** 5


def test_row_keys_have_no_simple_relation() -> None:
    """Neighbouring ids must differ in about half of the 64 bits (avalanche), in every field."""
    base = torch.arange(150)
    for field in range(5):
        fields: list[Tensor] = [torch.zeros(150, dtype=torch.int64) for _ in range(5)]
        fields[field] = base
        keys = torch.cat(
            [row_keys(int(s), e[None], int(a), t[None], r[None]) for s, e, a, t, r in zip(*fields, strict=True)]
        )
        changed = (keys[1:] ^ keys[:-1]).reshape(-1, 2, 1) >> torch.arange(32) & 1
        mean = changed.double().mean(dim=0)
        assert mean.min() > 0.3
        assert mean.max() < 0.7


def test_row_keys_broadcast_scalars() -> None:
    many = row_keys(7, torch.arange(4), 1, torch.full((4,), -1), torch.full((4,), 2))
    assert torch.equal(row_keys(7, torch.arange(4), 1, NONE, torch.tensor(2)), many)
    restarts = row_keys(7, torch.tensor(3), 1, NONE, torch.arange(4))
    assert restarts.shape == (4, 2)
    assert torch.equal(restarts[2], many[3])
    assert row_keys(7, torch.arange(0), 1, NONE, ZERO).shape == (0, 2)


@pytest.mark.parametrize("seed", [True, 1.0, "0", 2**63, -(2**63) - 1])
def test_row_keys_refuse_other_seeds(seed: object) -> None:
    with pytest.raises(ConfigError, match=r"seed must be an integer .* found"):
        row_keys(seed, torch.arange(2), 0, NONE, ZERO)  # type: ignore[arg-type]


def test_ids_must_be_int64() -> None:
    with pytest.raises(ConfigError, match=r"int64 tensors, found torch\.float32"):
        row_keys(0, torch.zeros(2), 0, NONE, ZERO)
    with pytest.raises(ConfigError, match=r"int64 tensors, found torch\.int32"):
        streams(2).bits(torch.zeros(2, dtype=torch.int32), 3)


@pytest.mark.parametrize("keys", [torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 2), torch.zeros(2).long()])
def test_streams_refuse_keys_of_another_form(keys: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"keys must be an int64 tensor \(B, 2\)"):
        RowStreams(keys)


def test_draws_refuse_what_they_cannot_do() -> None:
    source, step = streams(3), torch.zeros(3, dtype=torch.int64)
    for name in DRAWS:
        with pytest.raises(ConfigError, match=r"float32 or torch\.float64, not torch\.bfloat16"):
            getattr(source, name)(step, (2,), dtype=torch.bfloat16)
    for purpose in (-1, 2**32):
        with pytest.raises(ConfigError, match=r"purpose must be an integer from 0"):
            source.bits(step, 2, purpose)
    with pytest.raises(ConfigError, match=r"step must be an int or one per row, \(3,\); found shape \(2,\)"):
        source.bits(torch.zeros(2, dtype=torch.int64), 2)
    for high in (0, -1, 2**31 + 1, True):
        with pytest.raises(ConfigError, match=r"high must be an integer at least 1 and at most 2\*\*31"):
            source.integers(step, high)


def test_one_int_step_is_the_same_step_for_all_rows() -> None:
    source = streams(3)
    assert torch.equal(source.bits(6, 5), source.bits(torch.full((3,), 6), 5))


def test_every_coordinate_of_the_counter_matters() -> None:
    source = streams(1)
    draws = [
        source.bits(torch.tensor([step]), 64, purpose).flatten().tolist()
        for step in (0, 1, 2**31, 2**32, 2**40, -1)
        for purpose in (0, 1, 2**31, 2**32 - 1)
    ]
    flat = [word for draw in draws for word in draw]
    assert len(set(flat)) > len(flat) - 3, "a repeated counter shows as repeated words"


def test_low_order_words_are_not_the_high_order_ones() -> None:
    """A float64 draw needs 53 random bits; copied ones would still look uniform."""
    wide = streams(64).uniform(0, (500,), dtype=torch.float64)
    scaled = (wide * 2**53).long()
    top, rest = scaled >> 32, scaled & (2**21 - 1)
    assert abs(float(torch.corrcoef(torch.stack((top, rest)).double().reshape(2, -1))[0, 1])) < 0.03
    assert abs(float(rest.double().mean()) / 2**20 - 1) < 0.02


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 2, 7), (0,), (2, 0)])
def test_shapes_and_dtypes(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    for rows in (0, 1, 6):
        drawn = getattr(streams(rows), name)(0, shape, dtype=dtype)
        assert drawn.shape == (rows, *shape)
        assert drawn.dtype == dtype


@pytest.mark.parametrize("name", ["uniform", "normal", "exponential"])
def test_float32_draws_are_float64_draws_to_fewer_bits(name: str) -> None:
    source = streams(16)
    narrow = getattr(source, name)(3, (1000,), 5)
    wide = getattr(source, name)(3, (1000,), 5, dtype=torch.float64)
    assert not torch.equal(narrow.double(), wide)
    if name == "uniform":
        assert torch.equal((wide * 2**24).floor() / 2**24, narrow.double())
    else:
        assert torch.allclose(narrow.double(), wide, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("name", "cdf"), [("uniform", stats.uniform.cdf), ("normal", stats.norm.cdf), ("exponential", stats.expon.cdf)]
)
def test_distribution(name: str, cdf: object, dtype: torch.dtype) -> None:
    drawn = getattr(streams(200, seed=11), name)(2, (601,), 4, dtype=dtype)
    for sample in (drawn.flatten(), drawn[:, 0], drawn[:, 600], drawn[7]):
        assert stats.kstest(sample.double().numpy(), cdf).pvalue > 1e-4
    along = [float(drawn[:, i].double().mean()) for i in range(601)]
    spread = {"uniform": 12**-0.5, "normal": 1.0, "exponential": 1.0}[name] / 200**0.5
    centre = {"uniform": 0.5, "normal": 0.0, "exponential": 1.0}[name]
    assert stats.kstest([(mean - centre) / spread for mean in along], stats.norm.cdf).pvalue > 1e-4


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_moments_and_tails(dtype: torch.dtype) -> None:
    drawn = streams(1000, seed=2).normal(0, (500,), dtype=dtype).double()
    count = drawn.numel()
    assert abs(float(drawn.mean())) < 5 / count**0.5
    assert abs(float(drawn.var()) - 1) < 5 * (2 / count) ** 0.5
    assert abs(float((drawn**3).mean())) < 5 * (15 / count) ** 0.5
    assert abs(float((drawn**4).mean()) - 3) < 5 * (96 / count) ** 0.5
    for limit in (1.0, 2.0, 3.0, 4.0):
        for side in (drawn > limit, drawn < -limit):
            expected = float(stats.norm.sf(limit)) * count
            assert abs(int(side.sum()) - expected) < 5 * expected**0.5 + 1


def test_uniform_covers_its_range_and_never_reaches_one() -> None:
    for dtype in FLOATS:
        drawn = streams(400).uniform(0, (500,), dtype=dtype)
        assert 0.0 <= float(drawn.min()) < 1e-4
        assert 1 - 1e-4 < float(drawn.max()) < 1.0


FARTHEST_32 = -float(stats.norm.ppf(2.0**-33))
FARTHEST_64 = -float(stats.norm.ppf(2.0**-54))


def test_extreme_bits_stay_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest and the smallest words that can ever come, which no sample of a test would meet."""
    extremes = torch.tensor([[0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1]])
    monkeypatch.setattr(RowStreams, "_words", lambda self, step, count, purpose, first_block: extremes)
    source = streams(1)
    for dtype, largest in ((torch.float32, FARTHEST_32), (torch.float64, FARTHEST_64)):
        uniform = source.uniform(0, (6,), dtype=dtype)
        assert float(uniform.max()) < 1.0
        assert float(uniform.min()) == 0.0
        exponential = source.exponential(0, (6,), dtype=dtype)
        assert float(exponential.min()) > 0.0
        assert torch.isfinite(exponential).all()
        normal = source.normal(0, (6,), dtype=dtype)
        assert torch.isfinite(normal).all()
        assert float(normal.abs().max()) == pytest.approx(largest, rel=1e-7 if dtype == torch.float32 else 1e-14)
        if dtype == torch.float32:
            assert torch.equal(normal[0, :3], -normal[0, 3:]), "mirrored bits give mirrored numbers"
        assert 0 < float(normal.abs().min()) < 1e-8
    for high in (1, 2, 10, 2**31):
        integers = source.integers(0, high, (6,))
        assert int(integers.min()) == 0
        assert int(integers.max()) == high - 1


def test_normal_and_exponential_are_the_inverse_distribution_functions() -> None:
    source = streams(8)
    uniform = source.bits(0, 4000, 1)
    wide = source.uniform(0, (4000,), 1, dtype=torch.float64)
    sign = torch.where(uniform >= 2**31, 1.0, -1.0).double()
    tail = (((wide * 2**53).long() & (2**52 - 1)).double() + 0.5) * 2.0**-53
    expected = -sign * torch.from_numpy(stats.norm.ppf(tail.numpy()))
    assert torch.allclose(source.normal(0, (4000,), 1, dtype=torch.float64), expected, rtol=1e-13, atol=0)
    inside = ((wide * 2**52).floor() + 0.5) * 2.0**-52
    drawn = source.exponential(0, (4000,), 1, dtype=torch.float64)
    assert torch.allclose(drawn, -torch.log(inside), rtol=1e-13, atol=0)


# Rounded exactly (or not at all), so the same at every place of every tensor; log, exp, cos and erfinv are not.
ARITHMETIC = {"add", "sub", "rsub", "mul", "div", "neg", "sqrt", "frexp", "where", "lt", "le", "ne", "eq"}
ON_BITS = {"bitwise_and", "bitwise_or", "bitwise_xor", "__rshift__", "__lshift__", "__and__", "__or__", "__xor__"}
MAKING = {"arange", "full_like", "empty_like", "scalar_tensor", "fill", "lift_fresh", "clone", "copy", "_to_copy"}
SHAPING = {"stack", "cat", "expand", "reshape", "view", "_unsafe_view", "slice", "select", "unsqueeze", "detach"}


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the name of every operation that reaches torch's kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.names.add(name if name.startswith("__") else name.rstrip("_"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", DRAWS)
def test_draws_use_exactly_rounded_operations_only(name: str, dtype: torch.dtype) -> None:
    source = streams(3)
    with Recorder() as recorder:
        getattr(source, name)(0, (5,), dtype=dtype)
    assert "mul" in recorder.names
    assert recorder.names <= ARITHMETIC | ON_BITS | MAKING | SHAPING


def test_signs_are_balanced() -> None:
    drawn = streams(300).sign(0, (1001,))
    assert set(drawn.flatten().tolist()) == {-1.0, 1.0}
    assert abs(float(drawn.mean())) < 5 / (300 * 1001) ** 0.5


@pytest.mark.parametrize("high", [1, 2, 3, 9, 1000])
def test_integers_are_uniform(high: int) -> None:
    drawn = streams(200).integers(0, high, (1000,))
    assert drawn.dtype == torch.int64
    counts = torch.bincount(drawn.flatten(), minlength=high)
    assert counts.shape == (high,)
    if high > 1:
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_integers_are_the_floor_of_a_64_bit_fraction() -> None:
    """A remainder instead would favour small numbers; at these bounds by as much as 2 to 1."""
    source = streams(50)
    for high in (3, 10**6 + 3, 3 * 2**29, 2**31):
        drawn = source.integers(4, high, (20,), purpose=6)
        upper = source.bits(4, 20, 6).tolist()
        lower = source._words(4, 20, 6, first_block=2**31).tolist()
        expected = [
            [high * ((u << 32) + w) >> 64 for u, w in zip(*pair, strict=True)]
            for pair in zip(upper, lower, strict=True)
        ]
        assert drawn.tolist() == expected


def test_integers_take_a_bound_per_row() -> None:
    high = torch.tensor([1, 2, 7, 2**31])
    source = streams(4)
    drawn = source.integers(0, high, (5, 3))
    for row, bound in enumerate(high.tolist()):
        assert torch.equal(drawn[row], source.integers(0, bound, (5, 3))[row])
    assert source.integers(0, high).shape == (4,)
    assert math.log2(float(drawn[3].max())) > 28
