"""Wilson and McNemar against scipy, over the whole range and at its edges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from potemkin.evaluate.statistics import mcnemar, wilson


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(kn: tuple[int, int]) -> None:
    k, n = kn
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_at_the_edges_is_exact() -> None:
    assert wilson(0, 50)[0] == 0.0
    assert wilson(50, 50)[1] == 1.0
    assert 0.0 < wilson(0, 50)[1] < 0.1
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (1, 0)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"k = {k} and n = {n}"):
        wilson(k, n)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_equals_the_binomial_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(b, c) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_of_many_pairs_neither_overflows_nor_hangs() -> None:
    assert mcnemar(20_000, 20_000) == 1.0
    assert mcnemar(0, 20_000) == 0.0
    assert mcnemar(9_800, 10_200) == pytest.approx(binomtest(9_800, 20_000).pvalue, rel=1e-6)


def test_mcnemar_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="b = -1"):
        mcnemar(-1, 3)
