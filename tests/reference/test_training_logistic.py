"""Logistic regression, where the worst case is known: the closed form, training on attacks, L1 decay."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from potemkin.attacks.parts.starts import Center
from potemkin.errors import ConfigError, ModelError
from potemkin.models.classifier import Classifier
from potemkin.models.preprocessing import Preprocessing
from potemkin.threat.sets.l2 import L2
from potemkin.threat.sets.linf import Linf
from potemkin.training.examples import Examples
from potemkin.training.learner import Learner
from potemkin.training.recipes import (
    HalfNormal,
    Mixup,
    fast,
    l1_logistic,
    softplus,
)
from reference import training as paper
from training_steps import (
    CLOSE,
    EPS,
    SHAPE,
    WIDE,
    Wide,
    examples,
    network,
    x_of,
)


def logistic(outputs: int, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(Wide(), nn.Linear(math.prod(SHAPE), outputs)).double()


def two_class(seed: int = 0) -> Examples:
    given = examples(seed=seed)
    given.y = given.y % 2
    return given


@pytest.mark.parametrize("outputs", [1, 2])
def test_softplus_is_its_closed_form(outputs: int) -> None:
    net, given = logistic(outputs), two_class()
    weight, bias = (p.detach().numpy() for p in net.parameters())
    w, b = (weight[0], bias[0]) if outputs == 1 else (weight[1] - weight[0], bias[1] - bias[0])
    teacher = Learner(net, net, WIDE)
    for recipe, reference, strength in (
        (softplus(eps=EPS), paper.worst_logistic, EPS),
        (l1_logistic(strength=0.05), paper.decayed_logistic, 0.05),
    ):
        net.zero_grad()
        assert recipe.attack(teacher, given) is None
        loss = recipe.loss(teacher, given, None).loss
        loss.backward()
        value, dw, db = reference(w, b, x_of(given), given.y.numpy(), strength)
        assert loss.item() == pytest.approx(value, rel=CLOSE)
        sides = [(-1, 0), (1, 1)] if outputs == 2 else [(1, 0)]  # class 1 minus class 0
        for sign, row in sides:
            assert np.allclose(net[1].weight.grad[row].numpy(), sign * dw, rtol=CLOSE, atol=1e-7)
            assert float(net[1].bias.grad[row]) == pytest.approx(sign * db, rel=CLOSE)


@pytest.mark.parametrize("outputs", [1, 2])
def test_softplus_is_fgsm_training_exactly_where_there_is_no_box(outputs: int) -> None:
    """One step along the sign finds the worst case of a linear model: the same losses and weights for 12 steps."""
    given, eps = two_class(), 0.01
    recipes = softplus(eps=eps), fast(eps=eps, start=Center(), relative_step_size=1.0)
    nets = [logistic(outputs) for _ in recipes]
    descents = [torch.optim.SGD(net.parameters(), 0.3) for net in nets]
    curves: list[list[float]] = [[], []]
    for _ in range(12):
        for recipe, net, descent, curve in zip(recipes, nets, descents, curves, strict=True):
            teacher = Learner(net, net, WIDE)
            attacked = recipe.attack(teacher, given)
            loss = recipe.loss(teacher, given, attacked).loss
            descent.zero_grad()
            loss.backward()
            descent.step()
            curve.append(loss.item())
    assert curves[0] == pytest.approx(curves[1], rel=CLOSE) and curves[0][-1] < 0.97 * curves[0][0]
    assert torch.allclose(nets[0][1].weight, nets[1][1].weight, atol=1e-5)


def margins(teacher: Learner, given: Examples) -> torch.Tensor:
    """How far each row of a linear two-class network may be moved in Linf before it falls."""
    x = given.x.clone().requires_grad_()
    logits = teacher.learn(x)
    gap = (logits[:, 1] - logits[:, 0]).abs()
    return gap.detach() / torch.autograd.grad(gap.sum(), x)[0].abs().flatten(1).sum(dim=1)


@pytest.mark.parametrize("outputs", [1, 2])
def test_one_step_of_fgsm_is_the_worst_case_of_logistic_regression(outputs: int) -> None:
    """By one step along the sign, which nothing outdoes here, at radii from where none falls to where nearly all do."""
    net, given = logistic(outputs), examples(300)
    teacher = Learner(net, net, WIDE)
    given.y = teacher.learn(given.x).argmax(dim=1)  # all are right before they are moved
    middle = float(margins(teacher, given).median())
    counts = []
    for eps in (middle / 100, middle / 2, middle, 2 * middle, 100 * middle):
        recipe = fast(eps=eps, start=Center(), relative_step_size=1.0)
        stands = teacher.learn(recipe.attack(teacher, given).points).argmax(dim=1) == given.y
        stays = margins(teacher, given) > eps
        assert int((stays != stands).sum()) <= 1, "but for a row that lies on the boundary to float32's last digit"
        counts.append(int(stays.sum()))
    assert counts == sorted(counts, reverse=True) and counts[0] > 280 and 120 < counts[2] < 180 and counts[-1] == 0


def test_the_pull_of_softplus_vanishes_with_the_margin_and_that_of_l1_decay_does_not() -> None:
    net, given = logistic(1), two_class()
    given.x = given.x + 100 * (2 * given.y - 1).reshape(-1, 1, 1, 1) * net[1].weight.detach().reshape(1, *SHAPE)
    pulls = {}
    for name, recipe in (("softplus", softplus(eps=EPS)), ("decay", l1_logistic(strength=EPS))):
        net.zero_grad()
        recipe.loss(Learner(net, net, WIDE), given, None).loss.backward()
        pulls[name] = net[1].weight.grad.clone()
    assert float(pulls["softplus"].abs().max()) < 1e-4
    assert torch.allclose(pulls["decay"], EPS * net[1].weight.sign(), atol=1e-4)


def test_the_closed_form_is_refused_where_it_does_not_hold() -> None:
    given = two_class()
    for net in (network(), nn.Sequential(Wide(), nn.Linear(12, 3)), nn.Sequential(Wide())):
        with pytest.raises(ModelError):
            softplus(eps=EPS).loss(Learner(net.double(), net, WIDE), given, None)
    prepared = Classifier(logistic(1), preprocessing=Preprocessing(mean=0.5))
    with pytest.raises(ModelError, match="preprocessing"):
        softplus(eps=EPS).check_model(prepared, SHAPE)
    l1_logistic(strength=EPS).check_model(prepared, SHAPE)
    for wrong in ({"norm": "L2"}, {"label_smoothing": 0.1}, {"augment": (Mixup(),)}, {"eps": HalfNormal(0.2, 0.1)},
                  {"sets": (Linf(0.1), L2(0.5))}):  # fmt: skip
        with pytest.raises(ConfigError, match="closed form"):
            softplus(**wrong)
    with pytest.raises(ConfigError, match="does not look at eps_ramp"):
        softplus(eps_ramp=0.5)
