"""How numbers and foreign text are set on the page: no line break inside a number, no name that rearranges the page."""

from __future__ import annotations

import unicodedata

from potemkin.evaluate.rates import Rate

NARROW = "\u202f"  # no-break, thin: between a number and its unit, between groups of three digits
HARD = "\u00a0"


def count(n: int) -> str:
    """A count; groups of three digits from five digits on."""
    return f"{n:,}".replace(",", NARROW) if abs(n) >= 10_000 else str(n)


def percent(value: float | None) -> str:
    """A share of one as a percentage with one decimal."""
    return "not measured" if value is None else f"{100 * value:.1f}{NARROW}%"


def rate(measured: Rate) -> str:
    """A rate with its 95 % interval and its n, as everywhere in potemkin."""
    if measured.value is None:
        return f"not measured (n{HARD}={HARD}{measured.n})"
    return f"{percent(measured.value)} {interval(measured)} (n{HARD}={HARD}{count(measured.n)})"


def interval(measured: Rate) -> str:
    """The 95 % interval in percent, in brackets; empty where nothing was measured."""
    if measured.low is None or measured.high is None:
        return ""
    return f"[{100 * measured.low:.1f},{HARD}{100 * measured.high:.1f}]"


def number(value: float | None) -> str:
    """A measured quantity to four digits; a large one whole, as counts are."""
    if value is None:
        return "–"
    return count(round(value)) if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def shown(text: object, limit: int = 160) -> str:
    """Foreign text for the page: control and direction characters made visible, and cut where it is endless.

    Escaping is jinja's business; this is against names that reorder or swamp what stands around them.
    """
    clean = "".join(_visible(char) for char in str(text)[: limit + 1])
    return clean[:limit] + "…" if len(clean) > limit else clean


def _visible(char: str) -> str:
    return char if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else "\ufffd"


def code(text: object) -> str:
    """A recipe or command, in full up to a length that no honest one has."""
    return shown(text, 2000)
