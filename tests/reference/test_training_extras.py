"""What can be put on top of any training recipe, against the transcription: mixed labels, sets, radii, AWP."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from potemkin.attacks.parts.starts import Center
from potemkin.attacks.recipes.fgsm import fgsm
from potemkin.errors import ConfigError
from potemkin.threat.sets.l2 import L2
from potemkin.threat.sets.linf import Linf
from potemkin.training.examples import Examples
from potemkin.training.recipes import (
    Cutmix,
    Mixup,
    PerClass,
    PerExample,
    goodfellow,
    grad_align,
    kurakin,
    mart,
    pgd_at,
    standard,
    trades,
)
from potemkin.training.weights import moved_uphill
from reference import training as paper
from training_steps import (
    CLOSE,
    EPS,
    HAIR,
    NORMS,
    WIDE,
    B,
    Outcome,
    assert_points,
    assert_same,
    climbed,
    examples,
    gradients,
    learner,
    mirror,
    network,
    one_step,
    targets,
    x_of,
)

MIXING = pytest.mark.parametrize("part", [Mixup(), Cutmix()], ids=repr)


@MIXING
def test_mixed_labels_in_every_recipe(part: Any) -> None:
    """Two labels per row, weighed by their share; the attack steers by the heavier one."""
    given = part.apply(examples())
    assert given.partner is not None and float(given.share.min()) >= 0.5 and float(given.share.min()) < 1
    x, q = x_of(given), targets(given)
    net = network()
    adversarial = climbed(net, given, x, 1, EPS)
    found = one_step(pgd_at(eps=EPS, steps=1, relative_step_size=1.0, start=Center()), net, given)
    assert_points(found, adversarial)
    assert_same(found, paper.madry(mirror(net), adversarial, q))
    assert_same(one_step(goodfellow(eps=EPS), net, given), paper.goodfellow(mirror(net), x, adversarial, q, 0.5))
    mixed = one_step(kurakin(eps=EPS), net, given)
    assert_same(mixed, paper.kurakin(mirror(net), mixed.points, x[6:], q[:6], q[6:], 0.3))
    divided = one_step(trades(eps=EPS, steps=1), net, given)
    assert_same(divided, paper.trades(mirror(net), x, divided.points, q, 6.0))
    plain = one_step(standard(label_smoothing=0.2), net, given)
    assert_same(plain, paper.madry(mirror(net), x, targets(given, 0.2)))


def test_rows_are_mixed_once() -> None:
    with pytest.raises(ConfigError, match="Mixup"):
        pgd_at(augment=(Mixup(), Cutmix()))


def two_sets(net: nn.Sequential, given: Examples) -> list[np.ndarray]:
    return [
        climbed(net, given, x_of(given), 1, radius, eps=radius, norm=norm, box=paper.NO_BOX)
        for norm, radius in (("linf", 0.05), ("l2", 0.16))
    ]


def test_the_worst_of_several_sets() -> None:
    net, given = network(norm=True), examples()
    sets = (Linf(0.05), L2(0.16))
    found = one_step(pgd_at(sets=sets, steps=1, relative_step_size=1.0, start=Center()), net, given, WIDE)
    before, candidates, q = mirror(network(norm=True)), two_sets(network(norm=True), given), targets(given)
    values = np.stack([paper.cross_entropy(before.forward(each)[0], q)[0] for each in candidates])
    winner = values.argmax(0)
    assert set(winner.tolist()) == {0, 1}, "both sets win somewhere"
    worst = np.stack(candidates)[winner, np.arange(B)]
    assert np.abs(found.points - worst).max() < HAIR
    assert np.allclose(found.attacked.eps.numpy(), np.array([0.05, 0.16])[winner])
    assert_same(found, paper.madry(before, worst, q))
    assert len(found.asked) == 2 + 2 + 1, "one step and one look for each set, one pass to learn"


def test_all_of_several_sets() -> None:
    given, q, sets = examples(), targets(examples()), (Linf(0.05), L2(0.16))
    how: dict[str, Any] = {"sets": sets, "over": "average"}
    candidates = two_sets(network(), given)
    both, twice = np.concatenate(candidates), np.concatenate([q, q])
    pgd = one_step(pgd_at(**how, steps=1, relative_step_size=1.0, start=Center()), network(), given, WIDE)
    assert np.abs(pgd.points - both).max() < HAIR
    assert_same(pgd, paper.madry(mirror(network()), both, twice))
    good = one_step(goodfellow(**how), network(), given, WIDE)
    assert_same(good, paper.goodfellow(mirror(network()), x_of(given), both, q, 0.5, twice))
    divided = one_step(trades(**how, steps=1), network(), given, WIDE)
    parts = [paper.trades(mirror(network()), x_of(given), half, q, 6.0) for half in np.split(divided.points, 2)]
    mean = sum(p[0] for p in parts) / 2, {n: (parts[0][1][n] + parts[1][1][n]) / 2 for n in parts[0][1]}
    assert_same(divided, mean)


def test_several_sets_in_kurakin_leave_the_balance_of_clean_and_adversarial_rows() -> None:
    given, q, k = examples(), targets(examples()), 6
    recipe = kurakin(sets=(Linf(0.05), L2(0.16)), over="average", attack_by=fgsm(), weight=0.3)
    found = one_step(recipe, network(), given, WIDE)
    halves = np.split(found.points, 2)
    parts = [paper.kurakin(mirror(network()), half, x_of(given)[k:], q[:k], q[k:], 0.3) for half in halves]
    mean = sum(p[0] for p in parts) / 2, {n: (parts[0][1][n] + parts[1][1][n]) / 2 for n in parts[0][1]}
    assert_same(found, mean)


def test_a_radius_for_every_class_and_for_every_example(tmp_path: Path) -> None:
    net, given = network(), examples()
    per_class = np.array([0.02, 0.05, 0.1, 0.2])
    per_example = np.linspace(0.01, 0.2, 40)
    np.save(tmp_path / "eps.npy", per_example)
    given.positions = torch.arange(B) + 17
    for radius, eps in (
        (PerClass(tuple(per_class)), per_class[given.y.numpy()]),
        (PerExample(str(tmp_path / "eps.npy")), per_example[17 : 17 + B]),
    ):
        found = one_step(pgd_at(eps=radius, steps=2, relative_step_size=0.7, start=Center()), net, given)
        eps = eps.astype(np.float32).astype(np.float64)
        assert np.abs(found.points - climbed(net, given, x_of(given), 2, 0.7 * eps, eps=eps)).max() < HAIR
        assert np.allclose(found.attacked.eps.numpy(), eps)
        assert_same(found, paper.madry(mirror(net), found.points, targets(given)))


def test_eps_rises_over_the_ramp_and_stays() -> None:
    net = network()
    recipe = pgd_at(eps=EPS, steps=1, relative_step_size=1.0, start=Center(), eps_ramp=0.4)
    for progress, share in ((0.0, 0.0), (0.1, 0.25), (0.3, 0.75), (0.4, 1.0), (0.9, 1.0)):
        given = examples(progress=progress)
        found = one_step(recipe, net, given)
        assert np.abs(found.points - climbed(net, given, x_of(given), 1, share * EPS, eps=share * EPS)).max() < HAIR
        assert torch.allclose(found.attacked.eps, torch.full((B,), share * EPS))
        assert torch.isfinite(found.attacked.moved).all()


def test_without_a_radius_nothing_is_attacked() -> None:
    net, given = network(), examples()
    expected = paper.madry(mirror(net), x_of(given), targets(given))
    for recipe in (pgd_at(eps=0.0), trades(eps=0.0), mart(eps=0.0), goodfellow(eps=0.0), grad_align(eps=0.0)):
        found = one_step(recipe, net, given)
        assert found.attacked is None and len(found.asked) == 1
        assert_same(found, expected)


# Weights moved uphill -----------------------------------------------------------------------------------------------


@NORMS
def test_awp_learns_from_weights_that_were_moved_uphill(norm: bool) -> None:
    net, given, gamma = network(norm).train(), examples(), 0.05
    recipe, teacher, before = trades(eps=EPS, steps=1), learner(net), mirror(net)
    attacked = recipe.attack(teacher, given)
    x, points, q = x_of(given), attacked.points.double().numpy(), targets(given)
    first = paper.trades(before, x, points, q, 6.0)[1]
    higher = before.moved(paper.uphill(before.weights, first, gamma))
    kept = {name: t.clone() for name, t in net.state_dict().items()}
    with moved_uphill(net, gamma, lambda: recipe.loss(teacher, given, attacked).loss):
        assert all(p.grad is None for p in net.parameters()), "the ascent's own gradient is not the optimiser's"
        moved = mirror(net).weights
        assert all(np.allclose(moved[n], higher.weights[n], atol=1e-6) for n in ("w1", "b1", "w2", "b2"))
        assert np.linalg.norm(moved["w1"] - before.weights["w1"]) == pytest.approx(
            gamma * np.linalg.norm(before.weights["w1"]), rel=CLOSE
        )
        if norm:  # the ascent's own pass left the statistics alone
            assert torch.equal(net[2].running_mean, kept["2.running_mean"])
            assert torch.equal(net[2].running_var, kept["2.running_var"])
            assert int(net[2].num_batches_tracked) == 0
        learnt = recipe.loss(teacher, given, attacked)
        learnt.loss.backward()
    expected = paper.trades(higher, x, points, q, 6.0)
    assert expected[0] > paper.trades(before, x, points, q, 6.0)[0], "uphill"
    assert_same(Outcome(attacked, learnt, [], learnt.loss.item(), gradients(net)), expected)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, kept[name]), f"{name} comes back bit for bit"
    if norm:
        assert int(net[2].num_batches_tracked) == 1
        mean, var = higher.statistics(np.concatenate([x, points]))
        assert np.allclose(net[2].running_mean.numpy(), mean, atol=1e-6)
        assert np.allclose(net[2].running_var.numpy(), var, atol=1e-6)
        assert net[2].track_running_stats and net[2].training


def test_awp_gives_gradients_back_that_other_parts_of_the_batch_left() -> None:
    """As with accumulate=2: the second part's gradient is added to the first's."""
    net, recipe = network(), pgd_at(eps=EPS, steps=1, start=Center())
    sums: paper.Weights = {}
    net.train()
    for seed in (1, 2):
        given, teacher, before = examples(seed=seed), learner(net), mirror(net)
        attacked = recipe.attack(teacher, given)
        points, q = attacked.points.double().numpy(), targets(given)
        with moved_uphill(net, 0.05, lambda: recipe.loss(teacher, given, attacked).loss):  # noqa: B023
            recipe.loss(teacher, given, attacked).loss.backward()
        higher = before.moved(paper.uphill(before.weights, paper.madry(before, points, q)[1], 0.05))
        part = paper.madry(higher, points, q)[1]
        sums = {name: part[name] + sums.get(name, 0.0) for name in part}
    for name, grad in gradients(net).items():
        assert np.linalg.norm(grad - sums[name]) <= CLOSE * np.linalg.norm(sums[name])


def test_weights_come_back_after_an_exception_and_where_a_gradient_is_zero_or_not_a_number() -> None:
    net, given = network(), examples()
    kept = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(RuntimeError, match="on purpose"), moved_uphill(net, 0.1, lambda: net(given.x).sum()):
        raise RuntimeError("on purpose")
    with moved_uphill(net, 0.1, lambda: 0.0 * net(given.x).sum()):
        assert all(torch.isfinite(p).all() for p in net.parameters())
        assert all(torch.equal(p, k) for p, k in zip(net.parameters(), kept, strict=True)), "no way is up"
    with moved_uphill(net, 0.1, lambda: math.nan * net(given.x).sum()):
        pass
    assert all(torch.equal(p, k) for p, k in zip(net.parameters(), kept, strict=True))
