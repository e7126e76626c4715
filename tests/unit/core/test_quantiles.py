"""The own logarithm and normal quantile against scipy's, over the whole range."""

from __future__ import annotations

import pytest
import torch
from scipy import special  # type: ignore[import-untyped]

from potemkin.core import quantiles


def test_log_over_the_normal_range() -> None:
    x = torch.cat((torch.logspace(-307, 308, 200_001, dtype=torch.float64), torch.tensor([0.5, 1.0, 2.0]).double()))
    exact = torch.log(x)
    error = (quantiles.log(x) - exact).abs()
    assert (error <= 4e-16 * exact.abs()).all()


def test_log_next_to_one_keeps_its_relative_precision() -> None:
    offset = torch.logspace(-15, -1, 2001, dtype=torch.float64)
    for x in (1 + offset, 1 - offset):
        exact = torch.from_numpy(special.log1p((x - 1).numpy()))
        assert torch.allclose(quantiles.log(x), exact, rtol=5e-16, atol=0)
    assert quantiles.log(torch.ones(1, dtype=torch.float64)).item() == 0.0


def test_normal_upper_over_all_three_branches() -> None:
    tail = torch.cat((torch.logspace(-17, -0.30103, 100_001, dtype=torch.float64), torch.tensor([0.075, 1.4e-11])))
    exact = -torch.from_numpy(special.ndtri(tail.numpy()))
    assert torch.allclose(quantiles.normal_upper(tail), exact, rtol=3e-15, atol=0)
    assert quantiles.normal_upper(torch.tensor([0.5], dtype=torch.float64)).item() == 0.0


def test_normal_upper_without_the_far_branch_serves_32_bits() -> None:
    tail = torch.logspace(-9.94, -0.30103, 50_001, dtype=torch.float64)
    assert tail.min() < 2.0**-33
    assert torch.equal(quantiles.normal_upper(tail, far=False), quantiles.normal_upper(tail))


def test_normal_central_is_exact_at_both_ends() -> None:
    mass = torch.cat((torch.logspace(-300, -0.31, 100_001, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)))
    exact = torch.from_numpy(special.ndtri((0.5 + mass).numpy()))
    near = mass < 1e-6  # there 0.5 + mass has lost what the quantile, mass sqrt(2 pi), still has
    exact = torch.where(near, mass * (2 * torch.pi) ** 0.5, exact)
    assert torch.allclose(quantiles.normal_central(mass), exact, rtol=1e-9, atol=0)
    last = torch.tensor([0.5 - 2.0**-54], dtype=torch.float64)
    assert quantiles.normal_central(last).equal(quantiles.normal_upper(torch.tensor([2.0**-54], dtype=torch.float64)))


def test_central_mass_over_the_whole_range() -> None:
    for z in (0.0, 1e-300, 1e-9, 0.1, 0.5, 1.0, 2.0, 3.7, 6.0, 8.9, 9.0, 9.1, 1e9):
        assert quantiles.central_mass(z) == pytest.approx(special.erf(z / 2**0.5) / 2, rel=4e-16, abs=0), z
