"""Whole runs against what a few plain lines make of the same batches: steps, learning rates, averages, replays, costs.

What one step of a recipe does to one batch is in test_training_recipes.py; here is what the loop around it adds.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from potemkin.training.averages import EMA, SWA, Average
from potemkin.training.optimisers import SGD, Cosine, Cyclic, Flat, Schedule, Stepwise
from potemkin.training.train import Run
from trained import linear, pair, quick, same

EPS = 0.1
PLAIN = {"optimiser": SGD(0.5, momentum=0.0, weight_decay=0.0), "schedule": Flat()}
"""A step is -0.5 of the gradient, and nothing else."""
EPOCH = 7  # steps of `quick`

Weights = dict[str, Tensor]


def followed(
    out: Path, model: nn.Module | None = None, *, steps: int = EPOCH, **call: Any
) -> tuple[Run, list[Weights]]:
    """A run of so many steps, and the weights before it and after each of them."""
    net = linear() if model is None else model
    seen = {0: state(net)}

    def look(tick: Any) -> None:
        seen[tick.step] = state(net)

    run = quick(out, model=net, progress=look, **({"epochs": steps / EPOCH} | PLAIN | call))
    assert sorted(seen) == list(range(run.journal.info.steps + 1))
    return run, [seen[step] for step in sorted(seen)]


def state(net: nn.Module) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def normed() -> nn.Sequential:
    """A network with batch normalisation, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))


def close(a: Weights, b: Weights) -> bool:
    return sorted(a) == sorted(b) and all(torch.allclose(a[name], b[name], rtol=1e-5, atol=1e-6) for name in a)


def change(before: Weights, after: Weights) -> float:
    """Norm of all that moved."""
    return float(torch.cat([(after[name] - before[name]).flatten() for name in before]).norm())


# ---- one step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_same_step(parts: int, tmp_path: Path) -> None:
    """A gradient of the mean over all rows, whoever adds it up."""
    _, whole = followed(tmp_path / "whole", steps=3)
    _, cut = followed(tmp_path / "cut", steps=3, accumulate=parts)
    assert change(whole[0], whole[1]) > 0.01, "steps of nothing would prove nothing"
    assert all(close(a, b) for a, b in zip(whole, cut, strict=True))


def test_awp_begins_when_it_is_told_to(tmp_path: Path) -> None:
    _, without = followed(tmp_path / "without", steps=4, recipe="pgd_at(eps=0.1, steps=1)")
    _, late = followed(tmp_path / "late", steps=4, recipe="pgd_at(eps=0.1, steps=1, awp=0.1, awp_after=0.5)")
    assert all(same(a, b) for a, b in zip(without[:3], late[:3], strict=True)), "two steps of four"
    assert not close(without[3], late[3]), "the third begins at half of the run"


def test_the_norm_of_the_gradient_is_clipped(tmp_path: Path) -> None:
    """That of the whole batch, also where it comes in parts."""
    _, free = followed(tmp_path / "free", steps=3)
    assert min(change(a, b) for a, b in pairwise(free)) > 0.5 * 0.02, "larger than where it is cut"
    for parts in (1, 2):
        _, cut = followed(tmp_path / f"cut {parts}", steps=3, clip=0.02, accumulate=parts)
        moved = [change(a, b) for a, b in pairwise(cut)]
        assert moved == pytest.approx([0.5 * 0.02] * 3, rel=1e-3)
    _, wide = followed(tmp_path / "wide", steps=3, clip=1e3)
    assert all(close(a, b) for a, b in zip(free, wide, strict=True))


@pytest.mark.parametrize("schedule", [Cyclic(), Cosine(0.2), Stepwise((0.4, 0.8))], ids=repr)
def test_the_learning_rate_is_the_schedules_in_the_middle_of_each_step(schedule: Schedule, tmp_path: Path) -> None:
    """What is logged is what steps are made with: clipped, their length is the rate."""
    chosen = {"optimiser": SGD(0.3, momentum=0.0, weight_decay=0.0), "schedule": schedule, "clip": 0.01, "log_every": 1}
    run, seen = followed(tmp_path / "run", **chosen)
    wanted = [0.3 * schedule.factor((k - 0.5) / EPOCH) for k in range(1, EPOCH + 1)]
    assert len({round(rate, 6) for rate in wanted}) >= 3, "a rate that stands still is noticed"
    assert [line.learning_rate for line in run.journal.steps()] == pytest.approx(wanted, rel=1e-9)
    assert [change(a, b) / 0.01 for a, b in pairwise(seen)] == pytest.approx(wanted, rel=1e-2)


def test_a_network_that_came_in_eval_mode_learns_in_train_mode(tmp_path: Path) -> None:
    """Its running statistics move once per step, with the learning pass."""
    _, seen = followed(tmp_path / "run", normed().eval(), steps=3)
    assert [int(each["2.num_batches_tracked"]) for each in seen] == [0, 1, 2, 3]
    assert not torch.allclose(seen[0]["2.running_mean"], seen[3]["2.running_mean"], atol=1e-3)


# ---- over the run ---------------------------------------------------------------------------------------------------


def ema(seen: list[Weights], name: str) -> Tensor:
    """Rebuffi et al. 2021: a <- d a + (1 - d) w with d = min(decay, (1 + t) / (10 + t)), from the first weights."""
    average = seen[0][name].double()
    for t, weights in enumerate(seen[1:], start=1):
        decay = min(0.3, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * weights[name].double()
    return average


def swa(seen: list[Weights], name: str) -> Tensor:
    """Izmailov et al. 2018: the mean of all weights since the start, the first of them those at 4/7 of the run."""
    return torch.stack([weights[name].double() for weights in seen[4:]]).mean(dim=0)


@pytest.mark.parametrize(("rule", "formula"), [(EMA(0.3), ema), (SWA(4 / 7), swa)], ids=["EMA", "SWA"])
def test_what_is_exported_is_the_average_of_what_every_step_left(rule: Average, formula: Any, tmp_path: Path) -> None:
    run, seen = followed(tmp_path / "run", normed(), recipe=f"pgd_at(eps=0.1, steps=1, average={rule!r})")
    [line] = run.journal.evaluations("validation")
    assert line.weights == "average" and line.step == EPOCH
    exported = load_file(run.folder / "model.safetensors")
    assert sorted(exported) == sorted(seen[0])
    for name in ("1.weight", "1.bias", "2.weight", "2.running_mean", "2.running_var", "4.weight"):
        assert torch.allclose(exported[name].double(), formula(seen, name), rtol=1e-5, atol=1e-6), name
    assert int(exported["2.num_batches_tracked"]) == EPOCH, "a counter has no average"
    assert (exported["1.weight"] - seen[-1]["1.weight"]).abs().max() > 0.01, "the last weights are something else"
    assert same(state(run.model.net), exported)


def test_free_hands_the_perturbation_on_from_replay_to_replay(tmp_path: Path) -> None:
    """Shafahi et al. 2019, Algorithm 1, by hand on the batches that the run saw: two of three replays each."""
    net, twin, asked = linear(), linear(), []
    net.register_forward_pre_hook(lambda part, args: asked.append(args[0].detach().clone()) if part.training else None)
    call = {"recipe": "free(eps=0.1, replay=3)", "epochs": 2 / EPOCH}
    run, seen = followed(tmp_path / "run", net, **call)
    assert run.journal.info.steps == len(asked) == 6, "one pass per replay"
    x, y = pair()
    for number, points in enumerate(asked):
        if number % 3 == 0:
            clean, moved = points, points.clone()
            labels = y[(clean[:, None] == x[None]).flatten(2).all(dim=2).int().argmax(dim=1)]
        assert torch.allclose(points, moved, atol=1e-6)
        assert float((points - clean).abs().max()) == pytest.approx(EPS * (number % 3 > 0), abs=1e-6)
        moved = moved.requires_grad_(True)
        weights = list(twin.parameters())
        *slopes, away = torch.autograd.grad(F.cross_entropy(twin(moved), labels), [*weights, moved])
        moved = (moved.detach() + EPS * away.sign()).clamp(clean - EPS, clean + EPS).clamp(0, 1)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight -= 0.5 * slope
        assert close(seen[number + 1], state(twin)), f"step {number + 1}"


def counted(net: nn.Module) -> list[int]:
    """How many rows go through a network from now on, and through its copies."""
    rows = [0]

    def count(part: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows[0] += len(args[0])

    net.register_forward_pre_hook(count)
    assert copy.deepcopy(net)._forward_pre_hooks, "a copy counts, too"
    return rows


RECIPES = ("pgd_at(eps=0.1, steps=2, keep='best')", "trades(eps=0.1, steps=2)", "free(eps=0.1, replay=3)", "standard()")


@pytest.mark.parametrize("recipe", [*RECIPES, "pgd_at(eps=0.1, steps=1, awp=0.01)", "grad_align(eps=0.1)"])
def test_every_row_that_goes_through_the_network_is_counted(recipe: str, tmp_path: Path) -> None:
    """But for two times 8 that are tried before the run, and two that each checkpoint has answered."""
    net = linear()
    rows = counted(net)
    run = quick(tmp_path / "run", model=net, recipe=recipe, epochs=2, fold=False)
    cost = run.journal.cost()
    written = 1 + len({line.step for line in run.journal.evaluations("validation")})
    assert cost.evaluation.forwards > 0 and cost.learning.forwards > 0
    forwards = cost.attack.forwards + cost.learning.forwards + cost.evaluation.forwards
    assert rows[0] == forwards + 16 + 2 * written


STEPS, ROWS = 14, 8
COSTS = {  # per row and step: attack's forwards and backwards, learning's; a backward with weight gradients counts two
    "standard()": (0, 0, 1, 2),
    "pgd_at(eps=0.1, steps=2)": (2, 2, 1, 2),
    "pgd_at(eps=0.1, steps=2, keep='best')": (3, 2, 1, 2),
    "pgd_at(eps=0.1, steps=1, awp=0.01)": (1, 1, 2, 4),
    "free(eps=0.1, replay=3)": (0, 0, 1, 2),
    "trades(eps=0.1, steps=2)": (3, 2, 2, 4),
    "grad_align(eps=0.1)": (1, 1, 3, 8),
}


@pytest.mark.parametrize("recipe", COSTS)
def test_what_is_counted_is_the_price_of_the_recipe(recipe: str, tmp_path: Path) -> None:
    replays = 3 if recipe.startswith("free") else 1
    run = quick(tmp_path / "run", recipe=recipe, epochs=2, evaluation_steps=3)
    cost, rows = run.journal.cost(), STEPS * ROWS * replays
    found = (cost.attack.forwards, cost.attack.backwards, cost.learning.forwards, cost.learning.backwards)
    assert found == tuple(rows * each for each in COSTS[recipe])
    judged = sum(line.n for part in ("train", "validation") for line in run.journal.evaluations(part))
    # One step and three of the check, their padding with them, and the training attack's.
    assert cost.evaluation.backwards > 4 * judged


def test_a_network_that_says_nothing_is_right_about_nothing(tmp_path: Path) -> None:
    """Equal scores are no answer, under whatever attack."""

    class Silent(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.0 * x

    run = quick(tmp_path / "run", model=nn.Sequential(linear(), Silent()))
    for line in run.journal.evaluations("validation"):
        assert (line.clean, line.training_attack, line.one_step, line.robust) == (0, 0, 0, 0)
