"""Logarithm and normal quantile from exactly rounded operations only.

`torch.log` and its kin come from vectorised libraries that may give another last bit at another place in the tensor
(the vector body and the scalar tail differ). Sums, products, quotients, square roots and frexp are exactly rounded
everywhere, so what is built from them alone is the same number wherever the element stands.
"""

from __future__ import annotations

import decimal
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

_LOG_2 = 0.6931471805599453
_PI = decimal.Decimal("3.14159265358979323846264338327950288")
_SQRT_HALF = 0.7071067811865476
_ARTANH = tuple(2.0 / (2 * k + 1) for k in range(12))  # 2 artanh(s) = s (2 + 2/3 s^2 + 2/5 s^4 + ...)

# Wichura, "Algorithm AS 241" (Applied Statistics 37, 1988), PPND16; lowest power first.
_CENTRE_ABOVE = (
    3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
    4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3,
)  # fmt: skip
_CENTRE_BELOW = (
    1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
    2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3,
)  # fmt: skip
_TAIL_ABOVE = (
    1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
    1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4,
)  # fmt: skip
_TAIL_BELOW = (
    1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
    1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9,
)  # fmt: skip
_FAR_ABOVE = (
    6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
    2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7,
)  # fmt: skip
_FAR_BELOW = (
    1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
    7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15,
)  # fmt: skip


def log(x: Tensor) -> Tensor:
    """Natural logarithm of positive, normal float64 numbers, to about one unit in the last place."""
    mantissa, exponent = torch.frexp(x)
    small = mantissa < _SQRT_HALF
    mantissa = torch.where(small, mantissa * 2, mantissa)
    s = (mantissa - 1.0).div_(mantissa + 1.0)
    series = _horner(_ARTANH, s * s).mul_(s)
    return (exponent - small.to(exponent.dtype)).to(x.dtype).mul_(_LOG_2).add_(series)


def normal_upper(tail: Tensor, far: bool = True) -> Tensor:
    """z >= 0 with P(Z > z) = tail, for float64 tails in (0, 1/2]; relative error about 1e-15.

    `far=False` leaves out the branch for tails below exp(-25), about 1.4e-11.
    """
    return _quantile(tail, 0.5 - tail, far)


def normal_central(mass: Tensor) -> Tensor:
    """z >= 0 with P(0 < Z < z) = mass, for float64 masses in [0, 1/2); near 0 as exact as `normal_upper` near 0."""
    return _quantile(0.5 - mass, mass, far=True)


@functools.cache
def central_mass(z: float) -> float:
    """P(0 < Z < z) for z >= 0, the same number on every machine: `decimal` rounds exactly, as `math.erf` does not.

    >>> central_mass(2.0)
    0.4772498680518208
    """
    if z > 9:
        return 0.5  # but for 1e-19
    with decimal.localcontext(prec=50):
        # exp(-z^2 / 2) / sqrt(2 pi) (z + z^3 / 3 + z^5 / (3 5) + ...): all terms positive, so that nothing cancels.
        square = decimal.Decimal(z) ** 2
        term = total = decimal.Decimal(z)
        odd = 1
        while term > total * decimal.Decimal("1e-30"):
            odd += 2
            term *= square / odd
            total += term
        return float((-square / 2).exp() * total / (2 * _PI).sqrt())


def _quantile(tail: Tensor, q: Tensor, far: bool) -> Tensor:
    """z with P(Z > z) = tail and P(0 < Z < z) = q, where each of the two is exact where it is small."""
    r = (q * q).neg_().add_(0.180625)
    centre = _horner(_CENTRE_ABOVE, r).div_(_horner(_CENTRE_BELOW, r)).mul_(q)
    root = log(tail).neg_().sqrt_()
    r = root - 1.6
    size = _horner(_TAIL_ABOVE, r).div_(_horner(_TAIL_BELOW, r))
    if far:
        r = root - 5.0
        size = torch.where(root <= 5.0, size, _horner(_FAR_ABOVE, r).div_(_horner(_FAR_BELOW, r)))
    return torch.where(q <= 0.425, centre, size)


def _horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """sum_k coefficients[k] x^k, each product and sum rounded on its own."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total.mul_(x).add_(coefficient)
    return total
