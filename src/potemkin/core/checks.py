"""Checks of arguments at construction: each raises a ConfigError that names the value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from potemkin.errors import ConfigError, suggest

FLOAT32, INT64 = (2 - 2**-23) * 2.0**127, 2**63 - 1
"""The greatest numbers that the tensors hold which every argument ends in."""


def number(
    name: str,
    value: object,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    integer: bool = False,
    *,
    open_high: bool = False,
    infinite: bool = False,
) -> None:
    """Refuse what is not a real number in [low, high]; `open_low` and `open_high` leave the end itself out.

    An `integer` must be an int (2.0, True and numpy or torch scalars are none) that 64 bits hold; other numbers must be
    within what float32 holds. NaN never passes, infinity only with `infinite=True`.

    >>> number("steps", 40, low=1, integer=True)
    """
    wanted = f"{name} must be {_range(low, high, open_low, open_high, integer)}"
    kind = int if integer else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ConfigError(f"{wanted}; found {value!r}, which is {_described(type(value))}.")
    assert isinstance(value, (int, float))
    if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not infinite)):
        raise ConfigError(f"{wanted}; found {value!r}, which is not finite.")
    below = low is not None and (value <= low if open_low else value < low)
    above = high is not None and (value >= high if open_high else value > high)
    if below or above:
        raise ConfigError(f"{wanted}; found {_shown(value)}.")
    if not (-INT64 - 1 <= value <= INT64 if integer else abs(value) <= FLOAT32 or abs(value) == math.inf):
        held = "64 bits hold, at most 2**63 - 1" if integer else f"float32 holds, at most {FLOAT32:.2g}"
        raise ConfigError(f"{wanted}; found {_shown(value)}, which is beyond what {held}.")


def flag(name: str, value: object) -> None:
    """Refuse what is not True or False.

    >>> flag("eight_bit", True)
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False; found {value!r}.")


def choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse what is not one of the allowed strings.

    >>> choice("level", "scores", ("gradients", "scores", "decisions"))
    """
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(repr(item) for item in allowed)
        hint = suggest(value, allowed) if isinstance(value, str) else ""
        raise ConfigError(f"{name} must be one of {listed}; found {value!r}.{hint}")


def instance(name: str, value: object, kind: type, wanted: str) -> None:
    """Refuse what is not an instance of `kind`; `wanted` says it in words ("a perturbation set such as Linf(8/255)").

    >>> instance("name", "digits", str, "a string")
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{name} must be {wanted}; found {value!r}, which is {_described(type(value))}.")


def _range(low: float | None, high: float | None, open_low: bool, open_high: bool, integer: bool) -> str:
    what = "an integer" if integer else "a number"
    ends = []
    if low is not None:
        ends.append(f"{'greater than' if open_low else 'at least'} {_end(low)}")
    if high is not None:
        ends.append(f"{'less than' if open_high else 'at most'} {_end(high)}")
    return " ".join((what, " and ".join(ends))).strip()


def _end(value: float) -> str:
    """A limit as people write it: the ends of 32 and 64 bits as powers of two."""
    for short in (31, 32, 63):
        said = {1 << short: f"2**{short}", -(1 << short): f"-2**{short}", (1 << short) - 1: f"2**{short} - 1"}
        if isinstance(value, int) and value in said:
            return said[value]
    return str(value)


def _shown(value: float) -> str:
    """The number itself, unless it is so long that Python refuses to write it, or nobody would read it."""
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)


def _described(kind: type) -> str:
    names = {str: "a string", bool: "a truth value", float: "a float", type(None): "no value", tuple: "a tuple"}
    return names.get(kind, f"of type {kind.__name__}")
