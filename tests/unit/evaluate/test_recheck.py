"""Forged lines: the model is asked about the clean inputs again, and every line that says otherwise is refused."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import potemkin as pk
from engine_toys import random_rows
from potemkin.core.outcomes import Outcome
from potemkin.data.arrays import ArraySource
from potemkin.data.source import Batch
from potemkin.errors import BundleError, DataError, ModelError
from potemkin.evaluate.bundle import Bundle, BundleWriter, read_bundle
from potemkin.evaluate.cascade import AttackSummary
from potemkin.evaluate.lines import ExampleLine
from potemkin.evaluate.rates import Rate, Rates
from potemkin.evaluate.recheck import (
    NOT_FINITE,
    OTHER_ATTACKED,
    OTHER_CLASS,
    OTHER_DISTANCE,
    OTHER_EXAMPLE,
    RIGHT_AFTER_ALL,
    WRONG_BEFORE,
)

TIED, NAN = 38, 39


class Ramp(nn.Module):
    """Scores (0, 8 (x_0 - 1/2)); NaN where the second feature is 1. Counts the rows that it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        score = (8 * (x[:, 0] - 0.5)).masked_fill(x[:, 1] == 1, torch.nan)
        return torch.stack((torch.zeros_like(score), score), dim=1)


def data() -> tuple[Tensor, Tensor]:
    """Forty rows of label 0: right to 0.5, wrong beyond; one on the edge itself, one that gives NaN."""
    x = torch.full((40, 3), 0.5)
    x[:, 0] = torch.linspace(0.2, 0.6, 40)
    x[TIED, 0], x[NAN, 1] = 0.5, 1.0
    return x, torch.zeros(40, dtype=torch.int64)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Every outcome that matters here: held, broken, clean_wrong (one of them tied), and an error."""
    record = pk.audit(Ramp(), data(), pk.Linf(0.1), pk.pgd(steps=5), rows=8, out=tmp_path / "honest")
    assert {name for name, count in record.outcomes.items() if count} == {"held", "broken", "clean_wrong", "error"}
    assert (read_bundle(tmp_path / "honest").lines[TIED].outcome, record.outcomes["error"]) == ("clean_wrong", 1)
    return read_bundle(tmp_path / "honest")


Change = dict[str, object]


def forged(bundle: Bundle, changes: dict[int, Change], right: int = 0, keep: int | None = None) -> Path:
    """The bundle written anew, some lines changed, its counts and rates made to fit; `right`: clean ones added."""
    folder = bundle.folder.with_name("forged")
    lines, x = [], data()[0].numpy()
    rows = iter(bundle.tensor("inputs"))
    with BundleWriter(folder, input_shape=(3,)) as writer:
        for number, line in enumerate(bundle.lines[:keep]):
            old = next(rows) if line.outcome == "broken" else x[number]
            line = line.model_copy(update={"adversarial": None, **changes.get(number, {})})
            lines.append(writer.add(line, old if line.outcome == "broken" else None))
        outcomes = {name: sum(line.outcome == name for line in lines) for name in bundle.record.outcomes}
        clean = sum(line.outcome in ("held", "broken") for line in lines) + right
        cut: Change = {} if keep is None else {"complete": False, "why_incomplete": "interrupted"}
        fitting = {"outcomes": outcomes, "rates": Rates.of(outcomes, clean), "attacks": [summary(bundle, outcomes)]}
        writer.finish(bundle.record.model_copy(update=fitting | cut))
    return folder


def summary(bundle: Bundle, outcomes: Mapping[Outcome, int]) -> AttackSummary:
    """That of the one attack, with counts that the outcomes do not contradict."""
    [attack] = bundle.record.attacks
    tried = sum(outcomes[name] for name in ("held", "broken", "budget"))
    robust = Rate.of(outcomes["held"], sum(outcomes.values()))
    counts = {"tried": tried, "jobs": tried, "broken": outcomes["broken"], "robust_accuracy_after": robust}
    return attack.model_copy(update=counts)


BROKEN: Change = {"outcome": "broken", "broken_by": "pgd(steps=5)"}
"""What any line has to say to be called broken; its tensor is the clean input itself."""


def first(bundle: Bundle, outcome: str) -> int:
    return next(number for number, line in enumerate(bundle.lines) if line.outcome == outcome)


def test_an_honest_bundle_passes_and_so_does_its_copy(bundle: Bundle) -> None:
    for folder in (bundle.folder, forged(bundle, {})):
        found = pk.verify(folder, Ramp(), data())
        assert found.passed, str(found)
        assert (found.examples, found.agreed, found.held) == (40, 40, bundle.record.outcomes["held"])
        assert found.confirmed == found.claimed == bundle.record.outcomes["broken"] > 3


@pytest.mark.parametrize(
    ("of", "change", "why"),
    [
        ("held", {"outcome": "clean_wrong"}, RIGHT_AFTER_ALL),
        ("clean_wrong", {"outcome": "held", "prediction": 1}, WRONG_BEFORE),
        ("clean_wrong", {"outcome": "budget"}, WRONG_BEFORE),
        ("clean_wrong", BROKEN, WRONG_BEFORE),
        ("held", {"prediction": 1}, OTHER_CLASS),
        ("held", {"prediction": 2}, OTHER_CLASS),
        ("held", {"prediction": -1}, OTHER_CLASS),
        ("broken", {"prediction": 1}, OTHER_CLASS),
        ("held", {"label": 1}, OTHER_EXAMPLE),
        ("held", {"id": 999}, OTHER_EXAMPLE),
        ("error", {"outcome": "held"}, NOT_FINITE),
        ("error", {"outcome": "clean_wrong"}, NOT_FINITE),
    ],
)
def test_a_line_that_the_model_contradicts_is_refused(bundle: Bundle, of: str, change: Change, why: str) -> None:
    number = first(bundle, of)
    found = pk.verify(forged(bundle, {number: change}), Ramp(), data())
    assert not found.passed
    assert found.refused == {change.get("id", number): why}
    assert (found.examples, found.agreed) == (40, 39)
    assert found.confirmed == bundle.record.outcomes["broken"] - (of == "broken")


def test_an_input_that_was_wrong_all_along_is_no_adversarial(bundle: Bundle) -> None:
    """The claim itself stands: in the set, in the box, wrong class. Only the clean prediction gives it away."""
    number = first(bundle, "clean_wrong")
    found = pk.verify(forged(bundle, {number: BROKEN}), Ramp(), data())
    assert found.claimed == bundle.record.outcomes["broken"] + 1 == found.confirmed + 1
    assert found.refused == {number: WRONG_BEFORE}


def test_a_tie_may_be_told_either_way_and_nothing_beyond_it(bundle: Bundle) -> None:
    changes: tuple[Change, ...] = ({}, {"prediction": 1}, {"outcome": "held"})
    for change in changes:
        assert pk.verify(forged(bundle, {TIED: change}), Ramp(), data()).passed, change
        for path in (bundle.folder.with_name("forged")).iterdir():
            path.unlink()
    beyond = data()
    beyond[0][TIED, 0] += 1e-6
    assert pk.verify(bundle, Ramp(), beyond).refused == {}
    beyond[0][TIED, 0] += 1e-3
    found = pk.verify(forged(bundle, {TIED: {"outcome": "held", "prediction": 1}}), Ramp(), beyond)
    assert found.refused == {TIED: WRONG_BEFORE}


@pytest.mark.parametrize(
    ("moved", "change", "refused"),
    [
        (1e-6, {"outcome": "held", "prediction": 0}, None),
        (1e-6, {"outcome": "clean_wrong", "prediction": 0}, None),
        (-1e-6, {"outcome": "held", "prediction": 1}, None),
        (-1e-6, {"outcome": "clean_wrong", "prediction": 1}, None),
        (1e-4, {"outcome": "held", "prediction": 1}, WRONG_BEFORE),
        (-1e-4, {"outcome": "clean_wrong", "prediction": 0}, RIGHT_AFTER_ALL),
    ],
)
def test_scores_that_rounding_may_order_either_way_decide_nothing(
    bundle: Bundle, moved: float, change: Change, refused: str | None
) -> None:
    """A ten-thousandth beside the edge the scores are 0.0008 apart: no rounding. A millionth beside it they may be."""
    x, y = data()
    x[TIED, 0] += moved
    found = pk.verify(forged(bundle, {TIED: change}), Ramp(), (x, y))
    assert found.refused == ({} if refused is None else {TIED: refused})


@pytest.mark.parametrize(("right", "passes"), [(-1, False), (0, True), (1, True), (2, False)])
def test_clean_accuracy_is_the_models(bundle: Bundle, right: int, passes: bool) -> None:
    """It stands in no line. One example is tied, and may count; the others may not."""
    found = pk.verify(forged(bundle, {}, right=right), Ramp(), data())
    assert found.passed is passes and not found.refused
    assert passes or ["as right before the attack, but the model gets" in note for note in found.notes] == [True]


def test_what_no_second_look_can_see_is_said(bundle: Bundle) -> None:
    """A broken example passed off as held: only a new search could tell, and the result says so."""
    found = pk.verify(forged(bundle, {first(bundle, "broken"): {"outcome": "held", "broken_by": None}}), Ramp(), data())
    assert found.passed
    assert f"{bundle.record.outcomes['held'] + 1} held: not checked, that takes the search again" in str(found)


def test_it_costs_one_forward_per_example_and_one_per_claim(bundle: Bundle, tmp_path: Path) -> None:
    """In batches as the audit had them: the clean inputs as its own, the claims as its verifier's."""
    net = Ramp()
    pk.verify(bundle, net, data())
    chunks = [bundle.lines[start : start + 8] for start in range(0, 40, 8)]
    with_claims = sum(any(line.outcome == "broken" for line in chunk) for chunk in chunks)
    assert net.rows == [8] * (len(chunks) + with_claims)
    record = pk.audit(Ramp(), data(), pk.Linf(0.1), pk.pgd(steps=5), rows=64, out=tmp_path / "large")
    assert 0 < record.outcomes["broken"] <= 32 == record.settings.verify_rows
    net = Ramp()
    pk.verify(tmp_path / "large", net, data())
    assert net.rows == [64, 32]


@pytest.mark.parametrize("keep", [0, 1, 25])
def test_of_a_run_that_was_cut_short_what_there_is_is_checked(bundle: Bundle, keep: int) -> None:
    found = pk.verify(forged(bundle, {}, keep=keep), Ramp(), data())
    assert found.passed and (found.examples, found.agreed) == (keep, keep)


def test_a_lie_in_a_run_that_was_cut_short_is_refused(bundle: Bundle) -> None:
    found = pk.verify(forged(bundle, {first(bundle, "held"): {"outcome": "clean_wrong"}}, keep=25), Ramp(), data())
    assert list(found.refused.values()) == [RIGHT_AFTER_ALL]


@pytest.mark.parametrize(
    "threat",
    [
        pk.Linf(0.3),
        pk.ThreatModel(pk.Linf(0.7), pk.LeastLikely(), eight_bit=True),
        pk.ThreatModel(pk.Linf(0.5), pk.RandomTarget()),
    ],
)
def test_targets_are_those_of_the_audit(tmp_path: Path, threat: object) -> None:
    """Four classes, 20 examples in batches of 8: the least likely class by the clean scores, or one drawn by the id."""
    net = nn.Linear(6, 4)
    with torch.no_grad():
        net.weight.copy_(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)))
        net.bias.zero_()
    x, y = random_rows(net, 1, 20, 6)
    record = pk.audit(net, (x, y), threat, pk.pgd(steps=10), rows=8, out=tmp_path / "run")  # type: ignore[arg-type]
    assert record.outcomes["broken"] > 2 and record.outcomes["clean_wrong"] > 1
    found = pk.verify(tmp_path / "run", net, (x, y))
    assert found.passed and found.confirmed == record.outcomes["broken"], str(found)


class Rationed(ArraySource):
    """Gives at most three examples at a time, and stops after so many."""

    total = 40

    def batches(self, size: int, indices: Sequence[int] | None = None) -> Iterator[Batch]:  # type: ignore[override]
        positions = list(range(len(self)) if indices is None else indices)[: self.total]
        for start in range(0, len(positions), 3):
            yield self._read(np.asarray(positions[start : start + 3]))


def test_other_batches_than_those_asked_for_are_no_trouble_and_missing_ones_are(bundle: Bundle) -> None:
    source = Rationed(*data(), name="rationed")
    assert pk.verify(bundle, Ramp(), source).passed
    source.total = 30
    with pytest.raises(DataError, match="rationed gave 30 of the 40 examples"):
        pk.verify(bundle, Ramp(), source)


@pytest.mark.parametrize(
    ("other", "error", "told"),
    [
        (lambda x, y: (x[:30], y[:30]), DataError, "position 39, but .* has 30 examples"),
        (lambda x, y: (x[:, :2], y), DataError, r"shape \(3,\), the data's \(2,\)"),
        (lambda x, y: (x, y + 2), ModelError, "labels go up to 2, but the model has 2 outputs"),
    ],
)
def test_data_that_cannot_be_those_are_refused(
    bundle: Bundle, other: Callable[..., object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        pk.verify(bundle, Ramp(), other(*data()))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"distance": 0.01}, OTHER_DISTANCE),
        ({"distance": -0.1}, OTHER_DISTANCE),
        ({"distance": None}, OTHER_DISTANCE),
        ({"attack_prediction": 0}, OTHER_ATTACKED),
        ({"attack_prediction": 2}, OTHER_ATTACKED),
        ({"attack_prediction": -1}, OTHER_ATTACKED),
        ({"attack_prediction": None}, OTHER_ATTACKED),
    ],
)
def test_what_a_broken_line_says_of_its_tensor_is_checked(bundle: Bundle, change: Change, why: str) -> None:
    """The claim itself is confirmed, its line is not."""
    number = first(bundle, "broken")
    found = pk.verify(forged(bundle, {number: change}), Ramp(), data())
    assert found.refused == {number: why} and not found.passed
    assert found.confirmed == found.claimed


@pytest.mark.parametrize("factor", [1 + 1e-7, 1 - 1e-7, 1 + 1e-5, 1 - 1e-5])
def test_a_distance_may_differ_by_rounding(bundle: Bundle, factor: float) -> None:
    number = first(bundle, "broken")
    distance = bundle.lines[number].distance
    assert distance
    found = pk.verify(forged(bundle, {number: {"distance": distance * factor}}), Ramp(), data())
    assert found.passed is (abs(factor - 1) < 1e-6)


def test_an_attacked_tie_may_be_told_either_way(tmp_path: Path) -> None:
    """Both classes get the same score at every adversarial: a tie meets the goal, whichever class is written down."""

    class Flat(Ramp):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).clamp_max(0.0)

    record = pk.audit(Flat(), data(), pk.Linf(0.1), pk.pgd(steps=5), rows=8, out=tmp_path / "honest")
    assert record.outcomes["broken"]
    tied = read_bundle(tmp_path / "honest")
    number = first(tied, "broken")
    for prediction in (0, 1):
        assert pk.verify(forged(tied, {number: {"attack_prediction": prediction}}), Flat(), data()).passed
        for path in tied.folder.with_name("forged").iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        (("attacks", 0, "broken"), 1, "the attacks broke 1 examples"),
        (("attacks", 0, "tried"), 3, "was tried on 3 examples"),
        (("attacks", 0, "jobs"), 3, "had 3 jobs"),
        (("attacks", 0, "order"), 1, "has the order 1"),
        (("attacks", 0, "robust_accuracy_after", "value"), 0.99, "attacks.0 leaves"),
        (("attacks", 0, "robust_accuracy_after", "n"), 41, "attacks.0 leaves"),
        (("attacks", 0, "recipe"), "pgd(steps=99999)", r"broken_by 'pgd\(steps=5\)'"),
        (("attacks",), [], "attacks is empty"),
        (("threat", "norm"), "L2", "norm of the threat model is 'Linf', found 'L2'"),
        (("threat", "eps"), 0.09, "eps of the threat model is 0.1, found 0.09"),
        (("threat", "goal"), "LeastLikely()", "goal of the threat model"),
        (("threat", "access"), "Access('decisions')", "access of the threat model"),
        (("threat", "eight_bit"), True, "eight_bit of the threat model"),
        (("threat", "sentence"), "anything at all", "sentence of the threat model"),
        (("threat", "notation"), "Linf(0.2)", "Linf.0.2. the sentence of the threat model"),
        (("seed",), 2**63, "seed"),
        (("settings", "rows"), 2**21, "rows"),
    ],
)
def test_a_record_that_contradicts_its_lines_or_itself_is_refused(
    bundle: Bundle, keys: tuple[str | int, ...], value: object, told: str
) -> None:
    path = bundle.folder / "record.json"
    record = json.loads(path.read_bytes())
    *most, last = keys
    place = functools.reduce(lambda part, key: part[key], most, record)
    assert place[last] != value
    place[last] = value
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BundleError, match=told):
        pk.verify(bundle.folder, Ramp(), data())


@pytest.mark.parametrize(
    ("of", "change"),
    [
        ("broken", {"broken_by": "magic()"}),
        ("broken", {"broken_by": None}),
        ("held", {"broken_by": "pgd(steps=5)"}),
        ("held", {"prediction": 10**24}),
        ("held", {"label": -(2**63) - 1}),
        ("broken", {"attack_prediction": 2**63}),
    ],
)
def test_a_line_that_no_run_writes_is_refused(bundle: Bundle, of: str, change: Change) -> None:
    path = bundle.folder / "examples.jsonl"
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    lines[first(bundle, of)] |= change
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(BundleError, match=next(iter(change))):
        read_bundle(bundle.folder)


def test_every_field_of_a_line_that_is_forged_here_exists() -> None:
    forged = {"outcome", "prediction", "label", "id", "distance", "attack_prediction", "broken_by"}
    assert forged <= set(ExampleLine.model_fields)
