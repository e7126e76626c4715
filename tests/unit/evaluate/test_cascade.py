"""What the attacks of a cascade may be said to have done, given how the examples ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundles import RECIPES, write_bundle
from potemkin.core.outcomes import Outcome
from potemkin.errors import BundleError
from potemkin.evaluate.bundle import read_bundle
from potemkin.evaluate.cascade import AttackSummary, contradiction
from potemkin.evaluate.costs import Cost
from potemkin.evaluate.rates import Rate

OUTCOMES: dict[Outcome, int] = {"held": 5, "broken": 4, "invalid": 2, "budget": 3, "error": 4, "clean_wrong": 1}
"""11 met the first attack for certain, and the 3 without queries left, too; of the 4 in error, any number did."""


def cascade(*tried: int, broken: tuple[int, ...] = (3, 1), left: tuple[int, ...] = (6, 5)) -> list[AttackSummary]:
    return [
        AttackSummary(
            recipe=RECIPES[order],
            order=order,
            tried=met,
            jobs=2 * met,
            broken=fell,
            robust_accuracy_after=Rate.of(standing, 19),
            cost=Cost(),
        )
        for order, (met, fell, standing) in enumerate(zip(tried, broken, left, strict=True))
    ]


@pytest.mark.parametrize("tried", [(14, 8), (14, 11), (16, 10), (16, 13), (18, 12), (18, 15)])
def test_what_one_run_can_have_done_passes(tried: tuple[int, int]) -> None:
    assert contradiction(cascade(*tried), OUTCOMES) is None


@pytest.mark.parametrize(
    ("tried", "told"),
    [
        ((13, 8), r"attacks\.0 was tried on 13 examples, but 14 to 18 met it"),
        ((19, 12), r"attacks\.0 was tried on 19 examples, but 14 to 18 met it"),
        ((16, 9), r"attacks\.1 was tried on 9 examples, but 10 to 13 met it"),
        ((16, 14), r"attacks\.1 was tried on 14 examples, but 10 to 13 met it"),
        ((14, 12), r"attacks\.1 was tried on 12 examples, but 8 to 11 met it"),
    ],
    ids=["too few", "too many", "those in error met all or none", "nobody begins late", "none in error"],
)
def test_counts_that_no_order_of_attacks_gives_are_told(tried: tuple[int, int], told: str) -> None:
    why = contradiction(cascade(*tried), OUTCOMES)
    assert why is not None
    with pytest.raises(ValueError, match=told):
        raise ValueError(why)


def test_what_fell_has_to_add_up_after_every_attack() -> None:
    assert "broke 5 examples, but 4" in (contradiction(cascade(16, 10, broken=(3, 2)), OUTCOMES) or "")
    assert "attacks.0 leaves 31.6 %" in (contradiction(cascade(16, 10, left=(7, 5)), OUTCOMES) or "")
    assert "attacks.1 leaves 26.3 %" in (contradiction(cascade(16, 10, left=(6, 6)), OUTCOMES) or "")


def test_without_attacks_nothing_was_attacked() -> None:
    none: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
    assert contradiction([], none | {"clean_wrong": 3, "error": 1}) is None
    for met in ("held", "broken", "invalid", "budget"):
        assert "1 examples met one" in (contradiction([], none | {met: 1}) or ""), met


def test_an_example_passed_from_one_attack_to_another_is_missed(tmp_path: Path) -> None:
    """Both recipes are the record's, and the sum is right: only the counts of each give it away."""
    write_bundle(tmp_path, {"broken": 12, "held": 3})
    path = tmp_path / "examples.jsonl"
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    forged = next(line for line in lines if line["broken_by"] == RECIPES[0])
    forged["broken_by"] = RECIPES[1]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(BundleError, match=r"examples broken by .*, but record\.json counts"):
        read_bundle(tmp_path)
