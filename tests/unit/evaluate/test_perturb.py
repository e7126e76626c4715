"""`perturb`: what its result says when it is printed, and how it takes the threat."""

from __future__ import annotations

import pytest
import torch

import potemkin as pk
from engine_toys import Ramp, ramp_rows
from potemkin.errors import DataError
from potemkin.evaluate.perturb import Perturbed


def found(*first: float) -> Perturbed:
    return pk.perturb(Ramp(), *ramp_rows(*first), pk.Linf(0.1), pk.fgsm())


def test_printed_it_is_one_line_with_rows_outcomes_and_cost() -> None:
    told = "<Perturbed: 4 rows, 1 clean_wrong, 2 broken, 1 held; 10 forwards, 3 backwards, 6 queries>"
    result = found(0.47, 0.45, 0.2, 0.8)
    assert str(result) == repr(result) == told


def test_printed_it_stays_one_line_however_large_it_is() -> None:
    x = torch.full((64, 3, 32, 32), 0.5)
    x[:, 0, 0, 0] = 0.3
    result = pk.perturb(Ramp(), x, torch.zeros(64, dtype=torch.int64), pk.Linf(0.1), pk.fgsm())
    assert str(result) == "<Perturbed: 64 rows, 64 held; 192 forwards, 64 backwards, 128 queries>"


def test_one_of_each_is_singular() -> None:
    assert str(found(0.8)) == "<Perturbed: 1 row, 1 clean_wrong; 1 forward, 0 backwards, 0 queries>"


def test_a_threat_may_be_its_notation() -> None:
    x, y = ramp_rows(0.47, 0.2)
    given = pk.perturb(Ramp(), x, y, "Linf(0.1)", pk.fgsm())
    assert (given.outcome, given.inputs.tolist()) == (found(0.47, 0.2).outcome, found(0.47, 0.2).inputs.tolist())


def test_what_is_wrong_with_the_rows_is_said_of_the_rows() -> None:
    with pytest.raises(DataError, match=r"^The inputs of the batch lie outside of the box \[0, 1\] in 1 of the 2"):
        found(0.47, 1.2)


def test_what_makes_the_outcomes_doubtful_is_kept_and_printed() -> None:
    class Noisy(Ramp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + 0.01 * torch.randn(len(x), 1)

    result = pk.perturb(Noisy(0.5), *ramp_rows(0.45, 0.2), pk.Linf(0.1), "fgsm()")
    assert "randomised" in [smell.name for smell in result.smells]
    assert str(result).endswith("queries; alarm: randomised>")
    assert "randomised" not in [smell.name for smell in found(0.45).smells]
