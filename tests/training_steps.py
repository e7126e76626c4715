"""One step of training on small float64 networks, and their mirror in the transcription, for the tests of training.

Inputs are float32, as they are in training. The learner hands out float32 logits, so loss and gradient agree with the
transcription to float32's last digits only: `CLOSE`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from potemkin.core.random import RowStreams, row_keys
from potemkin.threat.box import Box
from potemkin.training.examples import Attacked, Examples, Learnt
from potemkin.training.learner import Learner
from potemkin.training.recipes import (
    Recipe,
)
from reference import training as paper

B, K, SHAPE, HIDDEN = 12, 4, (2, 2, 3), 8
EPS = float(torch.tensor(0.1))  # the number that float32 holds: a row's eps is one
UNIT, WIDE = Box(0, 1), Box(-math.inf, math.inf)
CLOSE = 1e-5
HAIR = 3e-7  # what rounding to float32 moves a coordinate by over some steps
NORMS = pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch norm"])


class Wide(nn.Module):
    """Flattens, and goes on in float64."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).double()


def network(norm: bool = False, seed: int = 0, classes: int = K) -> nn.Sequential:
    """Two layers and a tanh in float64, with weights large enough that nothing about them is nearly linear."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = [Wide(), nn.Linear(math.prod(SHAPE), HIDDEN)]
        layers += [nn.BatchNorm1d(HIDDEN)] if norm else []
        net = nn.Sequential(*layers, nn.Tanh(), nn.Linear(HIDDEN, classes)).double()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.mul_(4.0)
            if norm:
                net[2].weight.uniform_(0.5, 2.0)
                net[2].bias.uniform_(-0.5, 0.5)
                net[2].running_mean.uniform_(-1.0, 1.0)
                net[2].running_var.uniform_(0.2, 2.0)
    return net


NAMES = {"1.weight": "w1", "1.bias": "b1", "2.weight": "w2", "2.bias": "b2", "3.weight": "w2", "3.bias": "b2"}
NORMED = {"2.weight": "scale", "2.bias": "shift", "2.running_mean": "mean", "2.running_var": "var"}
NORMED |= {"1.weight": "w1", "1.bias": "b1", "4.weight": "w2", "4.bias": "b2"}


def mirror(net: nn.Sequential | paper.Net) -> paper.Net:
    """The transcription's network with these weights; learning moves running statistics, so take it before."""
    if isinstance(net, paper.Net):
        return net
    names = NORMED if len(net) == 5 else NAMES
    return paper.Net({names[k]: v.numpy().copy() for k, v in net.state_dict().items() if k in names})


def gradients(net: nn.Sequential) -> paper.Weights:
    names = NORMED if len(net) == 5 else NAMES
    return {names[name]: p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None}


def examples(rows: int = B, seed: int = 0, **others: Any) -> Examples:
    g = torch.Generator().manual_seed(seed)
    keys = row_keys(seed, torch.arange(rows), 5, torch.tensor(0), torch.tensor(0))
    x = torch.rand(rows, *SHAPE, generator=g)
    y = torch.randint(K, (rows,), generator=g)
    told: dict[str, Any] = {"progress": 0.5, "step": 3, **others}
    return Examples(x, y, torch.arange(rows), RowStreams(keys), **told)


def learner(net: nn.Module, box: Box = UNIT, **others: Any) -> Learner:
    return Learner(net, net, box, classes=K, **others)


@dataclass
class Outcome:
    """One step of a recipe: what it attacked, what it learnt, and every batch that the network saw, in order."""

    attacked: Attacked | None
    learnt: Learnt
    asked: list[np.ndarray]
    loss: float
    grads: paper.Weights

    @property
    def points(self) -> np.ndarray:
        assert self.attacked is not None
        return self.attacked.points.detach().double().numpy()


def one_step(recipe: Recipe, net: nn.Sequential, given: Examples, box: Box = UNIT) -> Outcome:
    asked: list[np.ndarray] = []
    hook = net.register_forward_pre_hook(lambda _, args: asked.append(args[0].detach().double().numpy()))
    net.train()
    net.zero_grad(set_to_none=True)
    teacher = learner(net, box)
    attacked = recipe.attack(teacher, given)
    assert all(parameter.grad is None for parameter in net.parameters()), "the search leaves no gradient of a weight"
    learnt = recipe.loss(teacher, given, attacked)
    learnt.loss.backward()
    hook.remove()
    return Outcome(attacked, learnt, asked, learnt.loss.item(), gradients(net))


def assert_same(found: Outcome, expected: tuple[float, paper.Weights]) -> None:
    value, grads = expected
    assert found.loss == pytest.approx(value, rel=CLOSE)
    assert found.grads.keys() == grads.keys()
    # Of the largest weight's gradient: behind batch normalisation a bias has none but for rounding.
    scale = max(np.linalg.norm(grad) for grad in grads.values())
    for name, grad in grads.items():
        assert found.grads[name].shape == grad.shape
        assert np.linalg.norm(found.grads[name] - grad) <= CLOSE * scale, name
        if name != "b1":
            assert np.linalg.norm(grad) > 1e-3 * scale, "a gradient of zero would prove nothing"


def targets(given: Examples, smoothing: float = 0.0) -> np.ndarray:
    partner = None if given.partner is None else given.partner.numpy()
    share = None if given.share is None else given.share.double().numpy()
    return paper.wanted(given.y.numpy(), K, smoothing, partner, share)


def x_of(given: Examples) -> np.ndarray:
    return given.x.double().numpy()


def climbed(
    net: nn.Sequential | paper.Net, given: Examples, start: np.ndarray, steps: int, step: Any, **others: Any
) -> np.ndarray:
    """Where the cross-entropy's climb ends at radius EPS, unless told otherwise."""
    eps = others.pop("eps", EPS)
    slope = others.pop("slope", paper.away_from(given.y.numpy()))
    return paper.climb(mirror(net), x_of(given), start, eps, step, steps, slope, **others)


def assert_points(found: Outcome, expected: np.ndarray, tolerance: float = HAIR) -> None:
    assert np.abs(found.points - expected).max() <= tolerance
    assert np.abs(found.points - found.asked[0][: len(found.points)]).max() > 0.5 * EPS, "the search moved"
