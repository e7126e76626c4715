"""Interval of a rate and test of a pair: standard library only, checked against scipy in the tests."""

from __future__ import annotations

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)
"""Of the 95 % that every interval here has."""


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of the rate k / n.

    (p + z^2/2n  +-  z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),  p = k/n, z the normal quantile at 0.975.
    It stays inside [0, 1] and keeps its coverage at k = 0 and k = n, where the textbook p +- z s does not.
    n = 0 says nothing about the rate: (0, 1).

    >>> low, high = wilson(37, 200)
    >>> round(low, 4), round(high, 4)
    (0.1373, 0.2446)

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= k <= n:
        raise ValueError(f"a rate needs 0 <= k <= n, but k = {k} and n = {n}")
    if n == 0:
        return 0.0, 1.0
    p, z = k / n, Z
    middle = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if k == 0 else max(0.0, (middle - spread) / scale)
    high = 1.0 if k == n else min(1.0, (middle + spread) / scale)
    return low, high


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided McNemar test: may two paired rates differ by chance alone?

    b and c count the discordant pairs (only the first held, only the second held). Under the null each discordant
    pair falls either way with probability 1/2, so p = min(1, 2 P[Binomial(b + c, 1/2) <= min(b, c)]).
    No discordant pair is no evidence at all: p = 1.

    >>> round(mcnemar(15, 5), 6)
    0.041389

    Source: McNemar (1947), in its exact binomial form.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts of discordant pairs are not negative, but b = {b} and c = {c}")
    n, fewer = b + c, min(b, c)
    tail, term = 0, 1
    for i in range(fewer + 1):
        tail += term
        term = term * (n - i) // (i + 1)
    total: int = 2**n
    return min(1.0, 2 * tail / total)
