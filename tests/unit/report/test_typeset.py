"""Numbers that do not break across lines, and foreign text that cannot rearrange the page."""

from __future__ import annotations

import pytest

from potemkin.evaluate.rates import Rate
from potemkin.report import typeset


@pytest.mark.parametrize(("n", "text"), [(0, "0"), (9999, "9999"), (10_000, "10 000"), (1_234_567, "1 234 567")])
def test_count(n: int, text: str) -> None:
    assert typeset.count(n) == text.replace(" ", typeset.NARROW)


def test_a_rate_has_its_interval_and_n_and_no_breaking_space_inside_a_number() -> None:
    text = typeset.rate(Rate.of(462, 1000))
    assert text.replace(typeset.NARROW, " ").replace(typeset.HARD, " ") == "46.2 % [43.1, 49.3] (n = 1000)"
    assert text.count(" ") == 2


def test_not_measured() -> None:
    assert typeset.rate(Rate.of(0, 0)).startswith("not measured")
    assert typeset.percent(None) == "not measured"
    assert typeset.interval(Rate.of(0, 0)) == ""
    assert typeset.number(None) == "–"
    assert [typeset.number(x) for x in (21_513.4, 1e-5, 6.0724, 3e38)] == [
        typeset.count(21_513),
        "1e-05",
        "6.072",
        "3e+38",
    ]


def test_control_and_direction_characters_become_visible() -> None:
    assert typeset.shown("a\u202eb\u0000c\u2028d\u200be") == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert typeset.shown("naïve 日本 8/255") == "naïve 日本 8/255"


def test_endless_text_is_cut_and_says_so() -> None:
    assert typeset.shown("x" * 10_000) == "x" * 160 + "…"
    assert typeset.shown("x" * 160) == "x" * 160
    assert typeset.code("y" * 1500) == "y" * 1500
