"""Random starts: that what is drawn has the law that the docstring names."""

from __future__ import annotations

import pytest
import torch
from scipy import stats  # type: ignore[import-untyped]
from torch import Tensor

import potemkin as pk
from potemkin.attacks.parts.starts import TruncatedNormal
from potemkin.attacks.program import Rows
from potemkin.core.random import RowStreams, row_keys
from potemkin.errors import ConfigError
from potemkin.threat.goals import Aim


def drawn(sigma: float, dtype: torch.dtype = torch.float64, eps: float = 0.25, count: int = 3) -> Tensor:
    """(rows, 5000) starts around 0.5, as offsets in units of eps."""
    x, none = torch.full((count, 5000), 0.5, dtype=dtype), torch.full((count,), -1)
    rows = Rows(
        x=x,
        aim=Aim(none + 1, none, torch.zeros(count, 2, dtype=dtype)),
        set=pk.Linf(eps),
        region=pk.Linf(eps).around(x, pk.Box(0, 1)),
        steps=none + 1,
        streams=RowStreams(row_keys(0, torch.arange(count), 0, torch.tensor(-1), torch.tensor(0))),
    )
    return (TruncatedNormal(sigma).point(rows) - x) / eps


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.0, 4.0])
def test_truncated_normal_has_its_law_without_a_heap_at_the_ends(sigma: float) -> None:
    found = drawn(sigma).flatten().numpy()
    assert stats.kstest(found, stats.truncnorm(-1 / sigma, 1 / sigma, scale=sigma).cdf).pvalue > 1e-3
    # Clipped or redrawn a few times, some share would lie on the ends: 62 % at sigma 4.
    assert (abs(found) < 1).all()
    assert abs(found).max() > 0.99 or sigma < 0.2


def test_a_wide_normal_is_uniform_and_a_narrow_one_is_a_normal() -> None:
    assert stats.kstest(drawn(1e9).flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3
    narrow = drawn(1e-6, eps=0.25).flatten().numpy()
    assert stats.kstest(narrow, stats.norm(scale=1e-6).cdf).pvalue > 1e-3


def test_truncated_normal_in_float32_is_its_float64_draw_and_stays_inside() -> None:
    assert torch.allclose(drawn(0.5, torch.float32).double(), drawn(0.5), atol=1e-6)
    assert (drawn(40.0, torch.float32).abs() <= 1).all()


def test_the_draw_of_a_row_is_its_own() -> None:
    assert torch.equal(drawn(0.5, count=3)[:2], drawn(0.5, count=2))


def test_r_fgsm_takes_every_fraction_below_one() -> None:
    assert pk.r_fgsm(fraction=0.9995).fraction == 0.9995
    with pytest.raises(ConfigError, match="less than 1"):
        pk.r_fgsm(fraction=1.0)
