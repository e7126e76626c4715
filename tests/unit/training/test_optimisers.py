"""Optimisers against their formulas, schedules at their ends and peaks."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from potemkin.core.notation import parse
from potemkin.errors import ConfigError
from potemkin.training.optimisers import SGD, AdamW, Cosine, Cyclic, Flat, Optimiser, RMSProp, Schedule, Stepwise

GRADIENTS = [0.5, -1.0, 2.0, 0.25]


def run(optimiser: Optimiser, start: float = 1.0) -> list[float]:
    """A weight's path under the given gradients."""
    weight = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    made, path = optimiser.make([weight]), []
    for gradient in GRADIENTS:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        made.step()
        path.append(weight.item())
    return path


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov: bool) -> None:
    """v <- mu v + (g + lambda w);   w <- w - lr v, or w - lr (g + lambda w + mu v)."""
    w, v, expected = 1.0, 0.0, []
    for g in GRADIENTS:
        g += 0.01 * w
        v = 0.9 * v + g
        w -= 0.1 * (g + 0.9 * v if nesterov else v)
        expected.append(w)
    assert run(SGD(0.1, 0.9, 0.01, nesterov)) == pytest.approx(expected, rel=1e-12)


def test_adamw() -> None:
    """Algorithm 2: the decay stands beside Adam's step, not inside its gradient."""
    w, m, v, expected = 1.0, 0.0, 0.0, []
    for t, g in enumerate(GRADIENTS, start=1):
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        w = w * (1 - 0.1 * 0.3) - 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-8)
        expected.append(w)
    assert run(AdamW(0.1, 0.8, 0.95, 0.3)) == pytest.approx(expected, rel=1e-9)


def test_rmsprop() -> None:
    """s <- a s + (1 - a) g^2;   b <- mu b + g / (sqrt(s) + damping);   w <- w - lr b."""
    w, s, b, expected = 1.0, 0.0, 0.0, []
    for g in GRADIENTS:
        g += 0.01 * w
        s = 0.7 * s + 0.3 * g * g
        b = 0.5 * b + g / (math.sqrt(s) + 0.4)
        w -= 0.1 * b
        expected.append(w)
    assert run(RMSProp(0.1, 0.7, 0.5, 0.4, 0.01)) == pytest.approx(expected, rel=1e-9)


def test_the_defaults_are_the_papers() -> None:
    assert SGD() == SGD(learning_rate=0.1, momentum=0.9, weight_decay=5e-4)
    assert RMSProp().learning_rate == 0.045 and RMSProp().damping == 1.0
    group = RMSProp().make([nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["alpha"], group["momentum"], group["eps"]) == (0.045, 0.9, 0.9, 1.0)
    assert group["weight_decay"] == 4e-5


SCHEDULES: dict[str, tuple[Schedule, dict[float, float]]] = {
    "cyclic": (Cyclic(), {0.0: 0.0, 0.2: 0.5, 0.4: 1.0, 0.7: 0.5, 1.0: 0.0}),
    "cyclic, late peak": (Cyclic(peak=0.9), {0.0: 0.0, 0.45: 0.5, 0.9: 1.0, 0.95: 0.5, 1.0: 0.0}),
    "cosine": (Cosine(warmup=0.2), {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 1.0: 0.0}),
    "cosine without warm-up": (Cosine(warmup=0.0), {0.0: 1.0, 0.5: 0.5, 2 / 3: 0.25, 1.0: 0.0}),
    "stepwise": (Stepwise(), {0.0: 1.0, 0.499: 1.0, 0.5: 0.1, 0.749: 0.1, 0.75: 0.01, 1.0: 0.01}),
    "stepwise, one": (Stepwise(at=(0.3,), ratio=0.5), {0.0: 1.0, 0.3: 0.5, 1.0: 0.5}),
    "flat": (Flat(), {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_at_their_ends_and_peaks(name: str) -> None:
    schedule, values = SCHEDULES[name]
    for progress, factor in values.items():
        assert schedule.factor(progress) == pytest.approx(factor, abs=1e-12), progress
    fine = [schedule.factor(k / 1000) for k in range(1001)]
    assert max(fine) == pytest.approx(1.0, abs=3e-3) and min(fine) >= 0


@pytest.mark.parametrize("schedule", [Cyclic(), Cosine()], ids=repr)
def test_a_schedule_rises_to_one_peak_and_falls(schedule: Schedule) -> None:
    fine = [schedule.factor(k / 1000) for k in range(1001)]
    top = fine.index(max(fine))
    assert fine[: top + 1] == sorted(fine[: top + 1]) and fine[top:] == sorted(fine[top:], reverse=True)
    jumps = [abs(b - a) for a, b in pairwise(fine)]
    assert max(jumps) < 0.025, "no leap"


@pytest.mark.parametrize(
    "text", ["SGD(learning_rate=0.2, nesterov=True)", "AdamW(beta2=0.95)", "RMSProp(damping=0.1)", "Cyclic(peak=0.3)",
             "Cosine()",
             "Stepwise(at=(0.3,), ratio=0.2)", "Flat()"],
)  # fmt: skip
def test_the_notation_makes_the_same_again(text: str) -> None:
    assert repr(parse(text, kind="part")) == text


REFUSED: list[Callable[[], object]] = [
    lambda: SGD(learning_rate=0.0), lambda: SGD(momentum=-0.1), lambda: SGD(weight_decay=-1), lambda: SGD(nesterov=1),
    lambda: SGD(momentum=0.0, nesterov=True), lambda: AdamW(learning_rate=-1), lambda: AdamW(beta1=1.0),
    lambda: AdamW(beta2=1.0),
    lambda: RMSProp(learning_rate=0), lambda: RMSProp(smoothing=1.0), lambda: RMSProp(smoothing=-0.1),
    lambda: RMSProp(damping=0),
    lambda: Cyclic(peak=0.0), lambda: Cyclic(peak=1.0), lambda: Cosine(warmup=1.0), lambda: Stepwise(at=(1.5,)),
    lambda: Stepwise(ratio=0),
]  # fmt: skip


@pytest.mark.parametrize("wrong", REFUSED)
def test_arguments_are_checked(wrong: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        wrong()
