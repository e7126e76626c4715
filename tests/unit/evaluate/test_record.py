"""The Record: exact round trip, nothing that JSON cannot say, no quiet disagreement, a verdict that can be read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import potemkin
from bundles import line_of, record_of
from potemkin.core.outcomes import OUTCOMES
from potemkin.errors import BundleError
from potemkin.evaluate.asked import ThreatInfo
from potemkin.evaluate.costs import Cost
from potemkin.evaluate.rates import Rate, Rates
from potemkin.evaluate.record import Record, Smell, parse_record

COUNTS = {"held": 5, "broken": 3, "clean_wrong": 2}


def record(counts: dict[str, int] = COUNTS, **other: Any) -> Record:
    rng = np.random.default_rng(0)
    outcomes = [name for name, n in counts.items() for _ in range(n)]
    return record_of([line_of(i, name, rng) for i, name in enumerate(outcomes)], (1, 8, 8), **other)


def test_the_record_comes_back_equal() -> None:
    written = record()
    assert parse_record(written.to_json()) == written
    assert parse_record(written.to_json()).to_json() == written.to_json()


def test_the_json_is_sorted_and_indented() -> None:
    text = record().to_json()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False)
    assert text.count("\n") > 100


def test_two_equal_runs_differ_in_timing_and_environment_only() -> None:
    first, second = record(timing={"seconds": 1.5}), record(timing={"seconds": 2.5}, environment={"host": "b"})
    left, right = json.loads(first.to_json()), json.loads(second.to_json())
    assert {name for name in left if left[name] != right[name]} == {"timing", "environment"}


def test_rates_and_cost_are_where_gates_look_for_them() -> None:
    data = json.loads(record().to_json())
    assert data["rates"]["robust_accuracy"]["value"] == 0.5
    assert set(data["rates"]["robust_accuracy"]) == {"value", "n", "low", "high"}
    assert set(data["cost"]["useful"]) == {"forwards", "backwards", "queries", "forward_equivalents"}
    assert record().rates["robust_accuracy"] == record().rates.robust_accuracy
    with pytest.raises(KeyError):
        record().rates["robustness"]


def test_nothing_measured_is_null() -> None:
    none = Rate.of(0, 0)
    assert (none.value, none.n, none.low, none.high) == (None, 0, None, None)
    assert str(none) == "not measured (n = 0)"
    empty = record({})
    assert json.loads(empty.to_json())["rates"]["clean_accuracy"] == {"value": None, "n": 0, "low": None, "high": None}
    assert "not measured (n = 0)" in str(empty)


def test_what_json_cannot_say_is_said_otherwise() -> None:
    rng = np.random.default_rng(0)
    line = line_of(0, "error", rng, clean_confidence=math.nan, distance=math.inf)
    assert line.clean_confidence is None
    assert line.distance is None
    smell = Smell(name="nan", severity="alarm", message="m", advice="a", evidence={"largest": math.nan, "rows": 3})
    assert smell.evidence == {"largest": "nan", "rows": 3}
    threat = record().threat.model_dump() | {"box": (-math.inf, math.inf)}
    assert ThreatInfo(**threat).box == (None, None)
    text = record(timing={"a": {"b": [math.nan, 1.0]}}, smells=[smell], batch_fill=math.nan).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["timing"] == {"a": {"b": ["nan", 1.0]}}


def test_an_undecodable_file_name_can_be_written() -> None:
    line = line_of(0, "held", np.random.default_rng(0), id="a\udcff.png")
    assert line.id == "a\\udcff.png"
    line.model_dump_json().encode("utf-8")


@pytest.mark.parametrize("eps", [math.nan, math.inf, -0.1])
def test_an_eps_that_is_no_radius_is_refused(eps: float) -> None:
    with pytest.raises(ValidationError, match="eps"):
        ThreatInfo(**(record().threat.model_dump() | {"eps": eps}))


def test_a_rate_without_its_n_for_tables_that_say_it() -> None:
    assert Rate.of(462, 1000).short() == "46.2 % [43.1, 49.3]"
    assert (Rate.of(0, 0).short(), str(Rate.of(0, 0))) == ("not measured", "not measured (n = 0)")


def test_rates_from_the_partition() -> None:
    outcomes = {"clean_wrong": 10, "broken": 40, "budget": 3, "held": 42, "invalid": 2, "error": 3}
    rates = Rates.of(outcomes, clean_right=88)
    assert rates.clean_accuracy == Rate.of(88, 100)
    assert rates.robust_accuracy == Rate.of(42, 100)
    assert rates.robust_accuracy_upper == Rate.of(50, 100)
    assert rates.attack_success_rate == Rate.of(40, 88)


def test_forward_equivalents_and_sum() -> None:
    assert Cost(forwards=3, backwards=2).forward_equivalents == 5
    total = Cost(forwards=3, backwards=2, queries=1) + Cost(forwards=10, backwards=20, queries=5)
    assert total == Cost(forwards=13, backwards=22, queries=6, forward_equivalents=35)


def test_a_record_that_disagrees_with_itself_is_refused() -> None:
    good = record()
    with pytest.raises(ValidationError, match="robust_accuracy is"):
        record(outcomes=dict(good.outcomes, held=6, broken=2))
    with pytest.raises(ValidationError, match="outcomes needs exactly"):
        record(outcomes={"held": 5})
    with pytest.raises(ValidationError, match="10 outcomes for 20 examples"):
        record(data=good.data.model_copy(update={"examples": 20}))


def test_an_incomplete_record_may_have_fewer_outcomes_than_examples() -> None:
    data = record().data.model_copy(update={"examples": 20})
    cut = record(data=data, complete=False, why_incomplete="stopped with Ctrl-C")
    assert str(cut).startswith("INCOMPLETE: 10 of 20 examples are done (stopped with Ctrl-C)")


def test_the_verdict_has_rates_with_interval_and_n_threat_cost_and_smells() -> None:
    smell = Smell(name="softmax", severity="alarm", message="Probabilities.", advice="Return logits.")
    text = str(record(smells=[smell]))
    assert "robust accuracy 50.0 % [23.7, 76.3] (n = 10)" in text
    assert "clean accuracy 80.0 %" in text
    assert "attack success rate 37.5 %" in text
    assert "Linf distance at most 0.1" in text
    assert "forwards" in text
    assert "alarm: Probabilities. Return logits." in text
    assert "if every undecided" not in text


def test_the_upper_bound_is_told_where_it_differs() -> None:
    assert "at most 60.0 %" in str(record({"held": 5, "broken": 3, "budget": 1, "clean_wrong": 1}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[: len(text) // 2], "is not JSON"),
        (lambda text: "", "is not JSON"),
        (lambda text: "[1, 2]", "a JSON list"),
        (lambda text: text.replace('"schema_version": "1"', '"schema_version": "7"'), "schema_version '7'"),
        (lambda text: text.replace('"schema_version": "1"', '"schema_version": 1'), "schema_version 1"),
        (lambda text: text.replace('"seed"', '"sede"'), "seed: Field required"),
        (lambda text: text.replace('"Linf"', "[]"), "threat.norm"),
        (lambda text: "[" * 100_000, "is not JSON"),
    ],
)
def test_a_damaged_record_is_a_bundle_error(change: Any, told: str) -> None:
    with pytest.raises(BundleError, match=r"record\.json") as caught:
        parse_record(change(record().to_json()))
    assert told in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_the_outcomes_are_defined_once() -> None:
    """Two definitions drift apart: the engine would end examples in a way that no Record can say."""
    defined = [
        path.name for path in Path(potemkin.__file__).parent.rglob("*.py") if '"clean_wrong", "br' in path.read_text()
    ]
    assert defined == ["outcomes.py"]


def test_all_six_outcomes_are_always_there() -> None:
    assert set(record({"held": 1}).outcomes) == set(OUTCOMES)
    assert len(OUTCOMES) == 6
