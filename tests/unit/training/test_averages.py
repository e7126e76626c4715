"""Averages of the weights over a run, against the plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from potemkin.errors import ConfigError
from potemkin.training.averages import EMA, SWA, Average, update


def walk(steps: int, seed: int = 0) -> list[Tensor]:
    """The weights after 0, 1, ... steps."""
    return list(torch.randn(steps + 1, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def averaged(rule: Average, weights: list[Tensor]) -> Tensor:
    """As the loop does it: begun with the first weights, updated after every step."""
    total, average = len(weights) - 1, {"w": weights[0].clone()}
    for step in range(1, total + 1):
        update(average, {"w": weights[step]}, rule.weight(step, step / total))
    return average["w"]


@pytest.mark.parametrize("total", [10, 12, 13, 100, 997])
@pytest.mark.parametrize("start", [0.0, 0.1, 0.3, 0.5, 0.7, 0.75, 0.9])
def test_swa_is_the_plain_mean_of_the_weights_since_its_start(start: float, total: int) -> None:
    weights = walk(total)
    since = [w for step, w in enumerate(weights) if step >= start * total - 1e-9]
    assert torch.allclose(averaged(SWA(start), weights), torch.stack(since).mean(dim=0), atol=1e-9)


def test_before_its_start_swa_is_the_newest_weights() -> None:
    assert all(SWA(0.75).weight(step, step / 100) == 1.0 for step in range(75))
    assert [SWA(0.75).weight(step, step / 100) for step in (75, 76, 77)] == pytest.approx([1, 1 / 2, 1 / 3])


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.995])
def test_ema_in_closed_form(decay: float) -> None:
    """a_T = sum_t (1 - d_t) prod_{s > t} d_s w_t, d_t = min(decay, (1 + t) / (10 + t))."""
    weights = walk(60)
    decays = [min(decay, (1 + t) / (10 + t)) for t in range(61)]
    expected, left = torch.zeros(3, dtype=torch.float64), 1.0
    for t in range(60, 0, -1):
        expected += left * (1 - decays[t]) * weights[t]
        left *= decays[t]
    expected += left * weights[0]
    assert torch.allclose(averaged(EMA(decay), weights), expected, atol=1e-12)


def test_ema_forgets_the_first_weights_and_settles_on_its_decay() -> None:
    rule = EMA(0.995)
    assert [rule.weight(t, 0.5) for t in (1, 2, 10)] == pytest.approx([9 / 11, 9 / 12, 9 / 20])
    assert rule.weight(10_000, 0.5) == pytest.approx(0.005)
    constant = [torch.ones(3, dtype=torch.float64)] * 50
    assert torch.allclose(averaged(rule, constant), constant[0])


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_counters_are_copied_and_statistics_averaged_in_place(weight: float) -> None:
    average = {"w": torch.zeros(2), "running_mean": torch.zeros(1), "num_batches_tracked": torch.tensor(3)}
    kept = dict(average)
    newest = {"w": torch.ones(2), "running_mean": torch.ones(1) * 4, "num_batches_tracked": torch.tensor(9)}
    update(average, newest, weight)
    assert average["w"].tolist() == [weight] * 2 and float(average["running_mean"]) == 4 * weight
    assert int(average["num_batches_tracked"]) == 9 and all(average[k] is kept[k] for k in kept)
    assert newest["w"].tolist() == [1.0, 1.0]


def test_arguments_are_checked() -> None:
    for wrong in (lambda: EMA(1.0), lambda: EMA(-0.1), lambda: SWA(1.0), lambda: SWA(-0.1)):
        with pytest.raises(ConfigError):
            wrong()
