"""Checks at construction name the value and what is allowed."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from potemkin.core import checks
from potemkin.errors import ConfigError

LONG, WIDE = "what 64 bits hold, at most 2**63 - 1", "what float32 holds, at most 3.4e+38"
REFUSED: list[tuple[object, dict[str, Any], str]] = [
    (0, {"low": 1, "integer": True}, "n must be an integer at least 1; found 0."),
    (2.0, {"integer": True}, "n must be an integer; found 2.0, which is a float."),
    (
        1 << 63,
        {"high": (1 << 63) - 1, "integer": True},
        "n must be an integer at most 2**63 - 1; found 9223372036854775808.",
    ),
    (
        -3,
        {"low": -2, "high": 1 << 31, "integer": True},
        "n must be an integer at least -2 and at most 2**31; found -3.",
    ),
    (2.5, {"integer": True}, "n must be an integer; found 2.5, which is a float."),
    (True, {"integer": True}, "n must be an integer; found True, which is a truth value."),
    (True, {}, "n must be a number; found True, which is a truth value."),
    ("3", {}, "n must be a number; found '3', which is a string."),
    (None, {"low": 0}, "n must be a number at least 0; found None, which is no value."),
    (np.int64(3), {"integer": True}, "n must be an integer; found np.int64(3), which is of type int64."),
    (torch.tensor(3.0), {}, "n must be a number; found tensor(3.), which is of type Tensor."),
    (-0.1, {"low": 0, "high": 1}, "n must be a number at least 0 and at most 1; found -0.1."),
    (1.1, {"low": 0, "high": 1}, "n must be a number at least 0 and at most 1; found 1.1."),
    (0.0, {"low": 0, "open_low": True}, "n must be a number greater than 0; found 0.0."),
    (1, {"high": 1, "open_high": True}, "n must be a number less than 1; found 1."),
    (math.nan, {}, "n must be a number; found nan, which is not finite."),
    (math.nan, {"infinite": True}, "n must be a number; found nan, which is not finite."),
    (math.inf, {"low": 0}, "n must be a number at least 0; found inf, which is not finite."),
    (-math.inf, {"low": 0, "infinite": True}, "n must be a number at least 0; found -inf."),
    (
        1 << 63,
        {"low": 1, "integer": True},
        f"n must be an integer at least 1; found {1 << 63}, which is beyond {LONG}.",
    ),
    (-(1 << 63) - 1, {"integer": True}, f"n must be an integer; found {-(1 << 63) - 1}, which is beyond {LONG}."),
    (10**400, {"low": 0}, f"n must be a number at least 0; found an integer of 1329 bits, which is beyond {WIDE}."),
    (10**400, {"high": 1}, "n must be a number at most 1; found an integer of 1329 bits."),
    (1e39, {"infinite": True}, f"n must be a number; found 1e+39, which is beyond {WIDE}."),
    (-1e300, {}, f"n must be a number; found -1e+300, which is beyond {WIDE}."),
    (1 + 2j, {}, "n must be a number; found (1+2j), which is of type complex."),
]


@pytest.mark.parametrize(("value", "limits", "message"), REFUSED)
def test_number_refuses(value: object, limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        checks.number("n", value, **limits)


def test_number_refuses_what_python_would_not_even_write() -> None:
    told = f"n must be an integer; found an integer of 16610 bits, which is beyond {LONG}."
    with pytest.raises(ConfigError, match=f"^{re.escape(told)}$"):
        checks.number("n", 10**5000, integer=True)


def test_number_accepts() -> None:
    checks.number("n", 1, low=1, integer=True)
    checks.number("n", 2**63 - 1, integer=True)
    checks.number("n", -(2**63), integer=True)
    checks.number("n", 10**30)
    checks.number("n", -3.4e38)
    checks.number("n", 3, low=0)
    checks.number("n", np.float64(0.5), low=0, high=1)
    checks.number("n", 0.0, low=0, high=0)
    checks.number("n", 1e-300, low=0, open_low=True)
    checks.number("n", math.inf, low=0, infinite=True)
    checks.number("n", -math.inf, infinite=True)


def test_flag() -> None:
    checks.flag("b", False)
    for value in (0, 1, "True", None):
        with pytest.raises(ConfigError, match=f"^b must be True or False; found {value!r}\\.$"):
            checks.flag("b", value)


def test_choice() -> None:
    checks.choice("level", "scores", ("gradients", "scores"))
    with pytest.raises(ConfigError, match=r"level must be one of 'gradients', 'scores'; found 'score'\. Did you mean"):
        checks.choice("level", "score", ("gradients", "scores"))
    with pytest.raises(ConfigError, match=r"found None\.$"):
        checks.choice("level", None, ("gradients", "scores"))
    with pytest.raises(ConfigError, match=r"found \['scores'\]\.$"):
        checks.choice("level", ["scores"], ("gradients", "scores"))


def test_instance() -> None:
    checks.instance("x", "a", str, "a string")
    with pytest.raises(ConfigError, match=r"^x must be a string; found 3, which is of type int\.$"):
        checks.instance("x", 3, str, "a string")
