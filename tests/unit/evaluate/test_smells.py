"""Smells: what a first look and the sums give away, and what is no smell at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import potemkin as pk
from engine_toys import batch_of
from potemkin.engine.setup import Settings
from potemkin.evaluate.collect import Collector
from potemkin.evaluate.record import Smell
from potemkin.evaluate.smells.examine import Checkup, examine
from potemkin.evaluate.smells.reflect import reflect
from potemkin.evaluate.statistics import wilson
from potemkin.models.oracle import Oracle


def looked_at(net: nn.Module, x: Tensor, *, trained: tuple[str, ...] = (), **other: object) -> dict[str, Smell]:
    classifier = pk.Classifier(net, **other)  # type: ignore[arg-type]
    oracle = Oracle(classifier)
    with classifier.guest():
        settings = Settings(8, 1, 8, True, True)
        found = examine(oracle, batch_of(x, torch.zeros(len(x), dtype=torch.int64)), settings, [pk.fgsm()], trained)
    names = {smell.name for smell in found.smells}
    assert (found.randomised, found.batch_dependent) == ("randomised" in names, "batch_dependent" in names)
    cost = oracle.physical["check"]
    assert (cost.forwards, cost.backwards) == (16 if found.randomised else 24, 16)
    return {smell.name: smell for smell in found.smells}


def reflected(
    outcomes: Mapping[str, int],
    right: int,
    whys: Mapping[tuple[str, str], int] | None = None,
    classes: int = 10,
    declared: float | None = None,
) -> dict[str, Smell]:
    collector = Collector(None)
    collector.outcomes.update(outcomes)  # type: ignore[arg-type]
    collector.clean_right = right
    collector.whys = Counter(whys or {})
    return {smell.name: smell for smell in reflect(Checkup(), collector, declared, None, classes)}


class TwoWays(nn.Linear):
    """Like a transformer's fast path: without gradients another kernel answers, with another last digit."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (0.0 if torch.is_grad_enabled() else 1e-4)


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x))


def test_another_kernel_without_gradients_is_no_randomness() -> None:
    x = torch.rand(5, 3)
    assert looked_at(TwoWays(3, 2), x) == {}
    assert looked_at(Noisy(3, 2), x)["randomised"].severity == "alarm"


class Dead(nn.Module):
    """Two scores that the input moves only where its first feature is above 1/2; differentiable all the same."""

    def forward(self, x: Tensor) -> Tensor:
        score = (x[:, 0] - 0.5).relu()
        return torch.stack((score, -score), dim=1)


@pytest.mark.parametrize(
    ("dead", "severity"), [(5, "alarm"), (4, "warning"), (1, "warning"), (0, None)], ids=["all", "most", "one", "none"]
)
def test_gradients_that_vanish_everywhere_are_an_alarm_and_some_a_warning(dead: int, severity: str | None) -> None:
    x = torch.full((5, 3), 0.75)
    x[:dead, 0] = 0.25
    smell = looked_at(Dead(), x).get("zero_gradients")
    assert (smell and smell.severity) == severity
    assert smell is None or (smell.evidence["zero"], smell.evidence["inputs"]) == (dead, 5)


def test_a_transformer_is_not_randomised() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    net = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(32, 2))
    assert "randomised" not in looked_at(net, torch.rand(6, 4, 8))


def test_a_whole_model_in_train_mode_is_a_note_a_mixed_one_a_warning() -> None:
    x, net = torch.rand(2, 3), nn.Linear(3, 2)
    whole = looked_at(net, x, trained=("the model itself (Sequential)", "0 (Linear)", "1 (Dropout)"))["train_mode"]
    assert whole.severity == "note" and ".eval() where you make it" in whole.advice
    mixed = looked_at(net, x, trained=("1 (Dropout)", "2 (BatchNorm1d)"))["train_mode"]
    assert mixed.severity == "warning" and "1 (Dropout), 2 (BatchNorm1d)" in mixed.message


def test_the_guest_names_the_root_as_the_smell_expects() -> None:
    x, y = torch.rand(8, 3), torch.zeros(8, dtype=torch.int64)
    net = nn.Sequential(nn.Linear(3, 2), nn.Dropout())

    def severity() -> list[str]:
        record = pk.audit(net, (x, y), pk.Linf(0.1), pk.fgsm(), rows=8)
        return [smell.severity for smell in record.smells if smell.name == "train_mode"]

    assert severity() == ["note"]
    net.eval()
    assert severity() == []
    net[1].train()
    assert severity() == ["warning"]


@pytest.mark.parametrize(
    ("x", "box", "expected"),
    [
        (torch.randn(8, 3, 4, 4), (-float("inf"), float("inf")), True),
        (torch.randn(8, 1, 4, 4), (-9.0, float("inf")), True),
        (torch.randn(8, 3, 4, 4), (-9.0, 9.0), False),
        (torch.rand(8, 3, 4, 4), (-float("inf"), float("inf")), False),
        (torch.randn(8, 48), (-float("inf"), float("inf")), False),
    ],
)
def test_eps_in_normalised_pixels_is_told(x: Tensor, box: tuple[float, float], expected: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 2)).eval()
    found = looked_at(net, x, box=box)
    assert ("normalised_inputs" in found) == expected
    if expected:
        assert found["normalised_inputs"].severity == "note"
        assert "eps is in units of normalised pixels" in found["normalised_inputs"].message


@pytest.mark.parametrize(
    ("right", "n", "classes", "expected"),
    [
        (10, 100, 10, True),
        (0, 100, 10, True),
        (15, 100, 10, True),
        (30, 100, 10, False),
        (55, 100, 2, True),
        (70, 100, 2, False),
        (0, 19, 10, False),
        (0, 20, 10, True),
    ],
)
def test_accuracy_at_chance(right: int, n: int, classes: int, expected: bool) -> None:
    found = reflected({"held": right, "clean_wrong": n - right}, right, classes=classes)
    surely_below_half = n >= 20 and wilson(right, n)[1] < 0.5
    assert set(found) == (
        {"accuracy_at_chance"} if expected else {"low_clean_accuracy"} if surely_below_half else set()
    )
    if expected:
        smell = found["accuracy_at_chance"]
        assert smell.severity == "alarm" and f"among {classes} classes" in smell.message
        assert "mean, std, channel order" in smell.advice and "not loaded" in smell.advice


def test_an_audit_of_a_model_that_guesses_raises_it() -> None:
    torch.manual_seed(0)
    data = torch.rand(64, 4), torch.arange(64) % 8
    record = pk.audit(nn.Linear(4, 8).eval(), data, pk.Linf(0.01), pk.fgsm(), rows=32)
    assert [smell.name for smell in record.alarms] == ["accuracy_at_chance"]


ON_TARGET = ("error", "the true class is the target itself: leave such examples out")
NAN = ("error", "the model answered with NaN")


def test_reasons_are_those_of_the_outcome() -> None:
    whys = {("budget", "2 jobs left"): 3, NAN: 2, ("error", "b"): 1, ("error", "c"): 1}
    found = reflected({"held": 50, "budget": 3, "error": 4}, 57, whys)
    assert found["budget_examples"].message == "3 of 57 examples ended as 'budget': 2 jobs left (3)."
    told = found["error_examples"].message
    assert "the model answered with NaN (2); b (1); and 1 more kinds of reason" in told and "jobs" not in told


def test_examples_on_the_target_are_to_be_left_out() -> None:
    alone = reflected({"held": 50, "error": 4}, 54, {ON_TARGET: 4})["error_examples"].advice
    mixed = reflected({"held": 50, "error": 4}, 54, {ON_TARGET: 3, NAN: 1})["error_examples"].advice
    other = reflected({"held": 50, "error": 4}, 54, {NAN: 4})["error_examples"].advice
    assert "leave such examples out" in alone and "Margin" not in alone
    assert "leave such examples out" in mixed and "Margin" in mixed
    assert "leave such" not in other and "Margin" in other


@pytest.mark.parametrize(
    ("right", "n", "declared", "told"),
    [(30, 100, None, True), (30, 100, 0.3, False), (45, 100, None, False), (3, 19, None, False)],
)
def test_a_low_clean_accuracy_is_asked_about_unless_it_was_declared(
    right: int, n: int, declared: float | None, told: bool
) -> None:
    found = reflected({"held": right, "clean_wrong": n - right}, right, classes=10, declared=declared)
    assert ("low_clean_accuracy" in found) == told
    if told:
        assert found["low_clean_accuracy"].severity == "warning" and "30.0 %" in found["low_clean_accuracy"].message
