"""Every training recipe against its transcription: where it attacks, its loss, and the gradient of every weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from potemkin.attacks.parts.starts import Center, Inside
from potemkin.attacks.recipes.fgsm import fgsm, step_ll, step_rnd
from potemkin.core.registry import entries
from potemkin.errors import ConfigError, DataError
from potemkin.models.classifier import Classifier
from potemkin.threat.box import Box
from potemkin.threat.sets.l2 import L2
from potemkin.threat.sets.linf import Linf
from potemkin.training.recipes import (
    EMA,
    Flip,
    HalfNormal,
    PerClass,
    PerExample,
    Recipe,
    ensemble_at,
    fast,
    free,
    goodfellow,
    grad_align,
    kurakin,
    l1_logistic,
    mart,
    n_fgsm,
    pgd_at,
    softplus,
    standard,
    trades,
)
from reference import training as paper
from training_steps import (
    EPS,
    HAIR,
    NORMS,
    WIDE,
    B,
    K,
    assert_points,
    assert_same,
    climbed,
    examples,
    learner,
    mirror,
    network,
    one_step,
    targets,
    x_of,
)

# Recipes ------------------------------------------------------------------------------------------------------------


@NORMS
def test_standard_learns_from_clean_rows(norm: bool) -> None:
    net, given = network(norm), examples()
    expected = paper.madry(mirror(net), x_of(given), targets(given, 0.1))
    found = one_step(standard(eps=EPS, label_smoothing=0.1), net, given)
    assert found.attacked is None and len(found.asked) == 1
    assert_same(found, expected)


@NORMS
@pytest.mark.parametrize("inner", ["eval", "train"])
def test_goodfellow(norm: bool, inner: str) -> None:
    net, given, recipe = network(norm), examples(), goodfellow(eps=EPS, clean_weight=0.3, inner=inner)
    x = x_of(given)
    adversarial = climbed(net, given, x, 1, EPS, training=inner == "train")
    expected = paper.goodfellow(mirror(net), x, adversarial, targets(given), 0.3)
    statistics = mirror(net).statistics(np.concatenate([x, adversarial])) if norm else None
    found = one_step(recipe, net, given)
    assert_points(found, adversarial)
    assert_same(found, expected)
    assert [len(batch) for batch in found.asked] == [B, 2 * B]
    if statistics is not None:  # the one learning pass moves the running statistics, with all rows, once
        assert np.allclose(net[2].running_mean.numpy(), statistics[0], atol=1e-7)
        assert np.allclose(net[2].running_var.numpy(), statistics[1], atol=1e-7)


def test_the_inner_mode_matters_where_there_is_batch_normalisation() -> None:
    net, given = network(norm=True), examples()
    found = [one_step(goodfellow(eps=EPS, inner=mode), network(norm=True), given).points for mode in ("eval", "train")]
    assert np.abs(found[0] - found[1]).max() > EPS
    assert np.abs(found[0] - climbed(net, given, x_of(given), 1, EPS)).max() < HAIR


@NORMS
def test_kurakin(norm: bool) -> None:
    """k of m rows: one step towards the least likely class, weights 0.3 to 1, one batch."""
    net, given, k = network(norm), examples(), 3
    recipe = kurakin(eps=EPS, share=0.25, weight=0.3, delay=0.1, label_smoothing=0.1)
    x, y, q = x_of(given), given.y.numpy(), targets(given, 0.1)
    clean_logits = mirror(net).forward(x[:k])[0]
    slope = paper.toward(paper.least_likely(clean_logits, y[:k]))
    adversarial = climbed(net, given.rows(0, k), x[:k], 1, EPS, slope=slope)
    expected = paper.kurakin(mirror(net), adversarial, x[k:], q[:k], q[k:], 0.3)
    found = one_step(recipe, net, given)
    assert_points(found, adversarial)
    assert_same(found, expected)
    assert [len(batch) for batch in found.asked] == [k, B]
    assert found.learnt.clean_labels.tolist() == y[k:].tolist() and found.learnt.attacked_labels.tolist() == (
        y[:k].tolist()
    )


def test_the_true_class_is_never_the_least_likely() -> None:
    net, given = network(), examples(200)
    logits = mirror(net).forward(x_of(given))[0]
    given.y = torch.from_numpy(logits.argmin(1))  # so that argmin alone would aim at the true class everywhere
    second = np.argsort(logits, axis=1)[:, 1]
    expected = climbed(net, given, x_of(given), 1, EPS, slope=paper.toward(second))
    assert_points(one_step(kurakin(eps=EPS, share=1.0), net, given), expected)


def test_step_rnd_aims_at_each_wrong_class_alike_and_never_at_the_true_one() -> None:
    net, given = network(), examples(600)
    found = one_step(kurakin(eps=EPS, share=1.0, attack_by=step_rnd()), net, given)
    candidates = np.stack(
        [
            climbed(net, given, x_of(given), 1, EPS, slope=paper.toward(np.full(len(given), target)))
            for target in range(K)
        ]
    )
    hit = np.abs(candidates - found.points).max(axis=(2, 3, 4)) < HAIR  # (K, rows)
    y = given.y.numpy()
    only = hit.sum(0) == 1  # two targets may happen to give the same signs
    assert only.mean() > 0.9 and hit.any(0).all()
    chosen = hit.argmax(0)[only]
    assert not np.any(chosen == y[only])
    for k in range(K):
        counts = np.bincount(chosen[y[only] == k], minlength=K)
        others = np.delete(counts, k)
        assert others.min() > 0.2 * others.sum(), counts  # a third each; 150 rows
    again = one_step(kurakin(eps=EPS, share=1.0, attack_by=step_rnd()), network(), given)
    assert np.array_equal(again.points, found.points), "a row's target is a function of its stream"


def test_fgsm_with_the_predicted_label_uses_no_true_one() -> None:
    net, given = network(), examples()
    predicted = mirror(net).forward(x_of(given))[0].argmax(1)
    expected = climbed(net, given, x_of(given), 1, EPS, slope=paper.away_from(predicted))
    recipe = kurakin(eps=EPS, share=1.0, attack_by=fgsm(label="predicted"))
    found = one_step(recipe, net, given)
    assert_points(found, expected)
    given.y = (given.y + 1) % K
    assert np.array_equal(one_step(recipe, network(), given).points, found.points)


def test_all_rows_or_none_may_be_adversarial() -> None:
    net, given = network(), examples()
    everything = one_step(kurakin(eps=EPS, share=1.0), net, given)
    assert_same(everything, paper.madry(mirror(net), everything.points, targets(given)))
    nothing = one_step(kurakin(eps=EPS, share=0.0), net, given)
    assert nothing.attacked is None
    assert_same(nothing, paper.madry(mirror(net), x_of(given), targets(given)))


def test_the_delay_is_a_share_of_the_run_on_clean_rows() -> None:
    net = network()
    for progress, rows in ((0.0, 0), (0.29, 0), (0.3, 6), (0.9, 6)):
        given = examples(progress=progress)
        found = one_step(kurakin(eps=EPS, delay=0.3), net, given)
        assert (0 if found.attacked is None else len(found.attacked.points)) == rows
        if not rows:
            assert_same(found, paper.madry(mirror(net), x_of(given), targets(given)))


def test_each_row_has_an_eps_of_its_own_from_the_truncated_half_normal() -> None:
    radius, rows = HalfNormal(high=0.2, sigma=0.1), 4000
    given = examples(rows)
    eps = radius.draw(given.y, given.positions, given.streams).double().numpy()
    assert eps.dtype == np.float64 and eps.min() >= 0 and eps.max() <= 0.2 * (1 + 1e-6)
    # Kolmogorov-Smirnov: beyond 1.95 / sqrt(n) once in a thousand seeds, and this one is fixed.
    cdf = np.array([paper.half_normal_cdf(t, 0.2, 0.1) for t in np.sort(eps)])
    gap = np.abs(cdf - (np.arange(rows) + 0.5) / rows).max()
    assert gap < 1.95 / math.sqrt(rows)
    net = network()
    found = one_step(kurakin(eps=radius, share=1.0), net, given)
    logits = mirror(net).forward(x_of(given))[0]
    slope = paper.toward(paper.least_likely(logits, given.y.numpy()))
    assert np.abs(found.points - climbed(net, given, x_of(given), 1, eps, eps=eps, slope=slope)).max() < 1e-6
    assert np.allclose(found.attacked.eps.numpy(), eps)
    moved = np.abs(found.points - x_of(given)).max(axis=(1, 2, 3))
    assert np.allclose(found.attacked.moved.numpy(), moved / eps, atol=1e-3)


@NORMS
@pytest.mark.parametrize(("set_norm", "box"), [("Linf", Box(0, 1)), ("L2", WIDE)])
@pytest.mark.parametrize("inner", ["eval", "train"])
def test_pgd_at(norm: bool, set_norm: str, box: Box, inner: str) -> None:
    net, given = network(norm), examples()
    recipe = pgd_at(eps=EPS, norm=set_norm, steps=3, relative_step_size=0.6, inner=inner)
    before = mirror(net)
    found = one_step(recipe, net, given, box)
    start = found.asked[0]
    expected = paper.climb(
        before, x_of(given), start, EPS, 0.6 * EPS, 3, paper.away_from(given.y.numpy()),
        box=(box.low, box.high), norm=set_norm.lower(), training=inner == "train",
    )  # fmt: skip
    assert np.abs(found.points - expected).max() < HAIR
    assert 0 < np.abs(start - x_of(given)).max() <= EPS * (1 + 1e-9)
    assert np.abs(found.points - start).max() > 0.3 * EPS
    assert_same(found, paper.madry(before, expected, targets(given)))
    assert [len(batch) for batch in found.asked] == [B] * 4


def test_pgd_at_with_a_reserve_is_pgd_at_in_the_larger_set_evaluated_in_the_declared_one() -> None:
    net, given = network(), examples()
    recipe = pgd_at(eps=EPS, steps=3, stretch=1.5, start=Center())
    wide = one_step(recipe, net, given)
    assert np.array_equal(
        wide.points, one_step(pgd_at(eps=1.5 * EPS, steps=3, start=Center()), network(), given).points
    )
    assert EPS < np.abs(wide.points - x_of(given)).max() <= 1.5 * EPS + HAIR
    assert recipe.radius == EPS and float(recipe.threats[0].eps) == EPS


def test_the_step_of_pgd_at_is_that_of_the_attack_unless_given() -> None:
    net, given = network(), examples()
    found = one_step(pgd_at(eps=EPS, steps=5, start=Center()), net, given)
    assert_points(found, climbed(net, given, x_of(given), 5, 0.5 * EPS))


def test_fast_is_one_long_step_from_a_random_point() -> None:
    net, given = network(), examples()
    found = one_step(fast(eps=EPS), net, given)
    start = found.asked[0]
    assert_points(found, climbed(net, given, start, 1, 1.25 * EPS))
    assert_same(found, paper.madry(mirror(net), found.points, targets(given)))
    plain = one_step(fast(eps=EPS, start=Center(), relative_step_size=1.0), net, given)
    assert_points(plain, climbed(net, given, x_of(given), 1, EPS))


def uniformity(draws: np.ndarray) -> float:
    """Kolmogorov-Smirnov's sqrt(n) D of numbers that should be uniform on [-1, 1]; 1.95 is one in a thousand."""
    ordered = np.sort(draws.ravel())
    return float(
        math.sqrt(ordered.size) * np.abs((ordered + 1) / 2 - (np.arange(ordered.size) + 0.5) / ordered.size).max()
    )


@pytest.mark.parametrize(("recipe", "reach"), [(fast(eps=EPS), 1.0), (pgd_at(eps=EPS), 1.0), (n_fgsm(eps=EPS), 2.0)])
def test_the_noise_is_uniform_over_the_ball_that_the_paper_says(recipe: Recipe, reach: float) -> None:
    given = examples(300)
    noise = (one_step(recipe, network(), given, WIDE).asked[0] - x_of(given)) / (reach * EPS)
    assert uniformity(noise) < 1.95 and uniformity(0.9 * noise) > 1.95
    assert np.abs(np.corrcoef(noise.reshape(300, -1).T) - np.eye(12)).max() < 0.25


def test_n_fgsm_projects_nothing_and_clips_to_the_box_alone() -> None:
    net, given = network(), examples(60)
    x, y = x_of(given), given.y.numpy()
    found = one_step(n_fgsm(eps=EPS, noise=2.0), net, given, WIDE)
    g = paper.input_gradient(mirror(net), found.asked[0], paper.away_from(y))
    assert_points(found, found.asked[0] + EPS * np.sign(g))
    offsets = np.abs(found.points - x) / EPS
    assert offsets.max() > 2.9 and (offsets > 1).mean() > 0.5
    assert_same(found, paper.madry(mirror(net), found.points, targets(given)))
    boxed = one_step(n_fgsm(eps=EPS, noise=2.0), net, given)
    g = paper.input_gradient(mirror(net), boxed.asked[0], paper.away_from(y))
    # The noisy point is cut to the box, too, so that the network is asked about no input that cannot be.
    assert np.array_equal(boxed.asked[0], np.clip(found.asked[0], 0, 1))
    assert_points(boxed, np.clip(boxed.asked[0] + EPS * np.sign(g), 0, 1))
    assert (boxed.points == 1).any() and (boxed.points == 0).any()


def test_n_fgsm_reports_the_eps_of_the_threat_model() -> None:
    found = one_step(n_fgsm(eps=EPS, noise=2.0), network(), examples(60), WIDE).attacked
    assert torch.all(found.eps == EPS)
    assert torch.allclose(found.moved, torch.ones(60), atol=1e-5), "the step, without the noise"


@NORMS
def test_grad_align_penalises_gradients_that_turn(norm: bool) -> None:
    net, given, eps = network(norm), examples(8), float(torch.tensor(0.4))
    before, x, y = mirror(net), x_of(given), given.y.numpy()
    adversarial = climbed(net, given, x, 1, eps, eps=eps)
    found = one_step(grad_align(eps=eps, weight=5.0), net, given)
    attack, learning, first, beside = found.asked
    assert np.array_equal(attack, x) and np.array_equal(first, x)
    assert np.abs(learning - adversarial).max() < HAIR
    assert 0.5 * eps < np.abs(beside - x).max() <= eps * (1 + 1e-6) and beside.min() >= 0 and beside.max() <= 1
    assert_same(found, paper.grad_align(before, x, beside, adversarial, y, 5.0))
    penalty = paper.misalignment(before, x, beside, y)
    assert penalty > 0.01, "else the penalty is not tested"
    if norm:  # only the learning pass counts
        mean, var = before.statistics(adversarial)
        assert np.allclose(net[2].running_mean.numpy(), mean, atol=1e-7)
        assert np.allclose(net[2].running_var.numpy(), var, atol=1e-7)
        assert int(net[2].num_batches_tracked) == 1


def test_grad_align_without_weight_is_fgsm_training() -> None:
    net, given = network(), examples()
    found = one_step(grad_align(eps=EPS, weight=0.0), net, given)
    assert len(found.asked) == 2
    assert_same(found, paper.madry(mirror(net), climbed(net, given, x_of(given), 1, EPS), targets(given)))


def test_the_draw_beside_differs_from_the_random_start() -> None:
    given = examples()
    found = one_step(grad_align(eps=EPS, start=Inside()), network(), given, WIDE)
    start, beside = found.asked[0] - x_of(given), found.asked[3] - x_of(given)
    assert abs(np.corrcoef(start.ravel(), beside.ravel())[0, 1]) < 0.4


@NORMS
@pytest.mark.parametrize("inner", ["eval", "train"])
def test_trades(norm: bool, inner: str) -> None:
    net, given = network(norm), examples()
    before, x = mirror(net), x_of(given)
    recipe = trades(eps=EPS, beta=6.0, steps=3, relative_step_size=0.5, inner=inner, label_smoothing=0.05)
    found = one_step(recipe, net, given)
    assert np.array_equal(found.asked[0], x) and [len(batch) for batch in found.asked] == [B, B, B, B, 2 * B]
    clean = before.forward(x, training=inner == "train")[0]
    adversarial = climbed(
        before, given, found.asked[1], 3, 0.5 * EPS, slope=paper.apart_from(clean), training=inner == "train"
    )
    assert np.abs(found.points - adversarial).max() < HAIR
    assert_same(found, paper.trades(before, x, adversarial, targets(given, 0.05), 6.0))


@pytest.mark.parametrize("recipe", [trades(eps=EPS), mart(eps=EPS)])
def test_the_start_of_trades_and_mart_is_a_narrow_normal(recipe: Recipe) -> None:
    given = examples(300)
    first = 1 if isinstance(recipe, trades) else 0
    noise = (one_step(recipe, network(), given, WIDE).asked[first] - x_of(given)) / EPS
    assert noise.std() == pytest.approx(0.03, rel=0.03) and abs(noise.mean()) < 0.002
    assert np.abs(noise).max() < 0.2 and 2.7 < (noise**4).mean() / noise.var() ** 2 < 3.3


@NORMS
def test_mart(norm: bool) -> None:
    net, given = network(norm), examples()
    before, x = mirror(net), x_of(given)
    found = one_step(mart(eps=EPS, beta=5.0, steps=3, relative_step_size=0.5), net, given)
    adversarial = climbed(before, given, found.asked[0], 3, 0.5 * EPS)
    assert [len(batch) for batch in found.asked] == [B, B, B, 2 * B]
    assert_same(found, paper.mart_step(before, x, adversarial, given.y.numpy(), 5.0))


@NORMS
def test_free_moves_weights_and_perturbation_from_one_backward(norm: bool) -> None:
    """Algorithm 1 over m replays of one batch, from delta = 0 (as the recipe's Differs has it)."""
    net, given, replays, rate = network(norm), examples(), 5, 0.5
    nets, points = paper.free(mirror(net), x_of(given), given.y.numpy(), EPS, replays, rate)
    recipe, teacher = free(eps=EPS, replay=replays), learner(net.train())
    assert recipe.replays == replays
    descent, asked = torch.optim.SGD(net.parameters(), rate), []
    net.register_forward_pre_hook(lambda _, args: asked.append(args[0].detach().double().numpy()))
    attacked = recipe.attack(teacher, given)
    for number in range(replays):
        recipe.loss(teacher, given, attacked).loss.backward()
        attacked = recipe.carry(teacher, given, attacked)
        descent.step()
        descent.zero_grad()
        held = mirror(net).weights
        assert all(np.allclose(held[n], w, atol=1e-6) for n, w in nets[number].weights.items() if n[0] in "wbs")
        assert np.abs(attacked.points.detach().double().numpy() - points[number]).max() < HAIR
    assert np.array_equal(asked[0], x_of(given)) and len(asked) == replays, "one forward per replay, nothing else"
    assert teacher.meter.attack == [0, 0] and teacher.meter.learning == [replays * B, 2 * replays * B]
    assert np.abs(points[-1] - points[0]).max() > EPS and not attacked.dead.any()
    assert torch.allclose(attacked.moved, torch.ones(B))


def test_free_begins_each_batch_anew_and_refuses_what_does_not_apply() -> None:
    recipe, given = free(eps=EPS), examples()
    first = recipe.attack(learner(network()), given)
    assert torch.equal(first.points, given.x) and first.points.requires_grad
    for wrong in ({"awp": 0.01}, {"keep": "best"}, {"sets": (Linf(0.1),)}):
        with pytest.raises(ConfigError, match="free"):
            free(**wrong)


# Other networks' adversarial examples -------------------------------------------------------------------------------


@pytest.fixture
def static(monkeypatch: pytest.MonkeyPatch) -> dict[str, Classifier]:
    """Two networks that do not learn, under the names "a" and "b"."""
    held = {name: Classifier(network(norm=True, seed=seed), classes=K) for name, seed in (("a", 11), ("b", 12))}
    for classifier in held.values():
        classifier.net.eval().requires_grad_(False)
    monkeypatch.setattr(ensemble_at, "_opened", lambda recipe, source, device: held[source])
    return held


def test_each_batch_is_attacked_through_one_network_drawn_anew(static: dict[str, Classifier]) -> None:
    recipe, net = ensemble_at(eps=EPS, sources=("a", "b")), network()
    nets = {"a": static["a"].net, "b": static["b"].net, "itself": net}
    before = {name: {k: t.clone() for k, t in each.state_dict().items()} for name, each in nets.items()}
    counts = dict.fromkeys(nets, 0)
    for step in range(24):
        given = examples(4, step=step)
        teacher = learner(net.train())
        points = recipe.attack(teacher, given).points.double().numpy()
        at = {name: np.abs(points - climbed(each, given, x_of(given), 1, EPS)).max() for name, each in nets.items()}
        assert sum(distance < HAIR for distance in at.values()) == 1
        counts[min(at, key=at.get)] += 1
        assert teacher.meter.attack == [4, 4], "another network's passes count"
    assert all(count >= 3 for count in counts.values()), counts  # 8 each
    for name, each in nets.items():
        assert all(torch.equal(t, before[name][k]) for k, t in each.state_dict().items())
        assert all(p.grad is None for p in each.parameters())
    assert net.training and not static["a"].net.training


def test_the_loss_of_the_ensemble_is_goodfellows(static: dict[str, Classifier]) -> None:
    net, given = network(), examples()
    found = one_step(ensemble_at(eps=EPS, sources=("a", "b"), clean_weight=0.3), net, given)
    assert_same(found, paper.goodfellow(mirror(net), x_of(given), found.points, targets(given), 0.3))
    again = ensemble_at(eps=EPS, sources=("a", "b")).attack(learner(net), given.rows(0, 5))
    assert np.array_equal(again.points.double().numpy(), found.points[:5]), "all parts of a batch have the same source"


def test_targets_at_random_go_to_all_classes_of_a_static_network_that_nobody_asked_yet(
    static: dict[str, Classifier],
) -> None:
    for classifier in static.values():
        classifier.classes = None
    recipe, net = ensemble_at(eps=EPS, sources=("a",) * 20, attack_by=step_rnd()), network()
    given = examples(60)
    found = one_step(recipe, net, given)
    far = paper.toward(np.full(60, K - 1))
    aimed = np.abs(found.points - climbed(static["a"].net, given, x_of(given), 1, EPS, slope=far)).max(axis=(1, 2, 3))
    wrong = given.y.numpy() != K - 1
    assert 0.15 < (aimed[wrong] < HAIR).mean() < 0.6, "about a third of the rows aim at the last class"


def test_static_networks_are_opened_once_frozen_and_in_eval_mode() -> None:
    recipe, cpu = ensemble_at(sources=("digits-cnn",)), torch.device("cpu")
    opened = recipe._opened("digits-cnn", cpu)
    assert recipe._opened("digits-cnn", cpu) is opened
    assert not opened.net.training and not any(p.requires_grad for p in opened.net.parameters())
    for wrong in ((), (3,)):
        with pytest.raises(ConfigError, match="static"):
            ensemble_at(sources=wrong)


# What a recipe refuses ----------------------------------------------------------------------------------------------


def test_recipes_refuse_what_cannot_be(tmp_path: Path) -> None:
    np.save(tmp_path / "eps.npy", np.full(5, 0.1))
    for wrong in (
        lambda: pgd_at(eps=-1),
        lambda: pgd_at(norm="L3"),
        lambda: pgd_at(sets=(Linf(0.1),), eps=0.2),
        lambda: pgd_at(sets=(0.1,)),
        lambda: kurakin(share=1.5),
        lambda: kurakin(weight=0.0),
        lambda: kurakin(attack_by="fgsm"),
        lambda: goodfellow(clean_weight=2),
        lambda: n_fgsm(noise=0),
        lambda: trades(beta=-1),
        lambda: pgd_at(steps=0),
        lambda: pgd_at(stretch=0.9),
        lambda: mart(label_smoothing=0.1),
        lambda: free(inner="train"),
        lambda: grad_align(sets=(Linf(0.1), L2(0.5))),
        lambda: pgd_at(average=0.9),
        lambda: pgd_at(augment=("flip",)),
        lambda: free(replay=0),
        lambda: pgd_at(eps=PerExample(str(tmp_path / "eps.npy")), extra=0.3),
    ):
        with pytest.raises(ConfigError):
            wrong()


def test_sets_may_be_given_to_every_recipe() -> None:
    """Its own eps is then left as it stands, whatever it is."""
    for recipe in (kurakin(sets=(Linf(0.1), L2(0.5))), trades(sets=(Linf(0.1),)), mart(sets=(L2(0.5),))):
        assert recipe.threats == recipe.sets
    with pytest.raises(ConfigError, match="not both"):
        kurakin(sets=(Linf(0.1),), eps=0.1)


def test_a_radius_must_fit_model_and_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 radii"):
        pgd_at(eps=PerClass((0.1, 0.2, 0.3))).check(Box(0, 1), K, 100)
    np.save(tmp_path / "eps.npy", np.full(5, 0.1))
    with pytest.raises(DataError, match="5 radii"):
        pgd_at(eps=PerExample(str(tmp_path / "eps.npy"))).check(Box(0, 1), K, 100)


COSTS = [
    (pgd_at(steps=3), 3, 3),
    (pgd_at(steps=3, keep="best"), 4, 3),
    (trades(steps=3), 4, 3),
    (mart(steps=3), 3, 3),
    (fast(), 1, 1),
    (kurakin(), 1, 1),
    (n_fgsm(), 1, 1),
    (grad_align(), 1, 1),
    (goodfellow(), 1, 1),
    (free(), 0, 0),
    (standard(), 0, 0),
    (softplus(), 0, 0),
    (l1_logistic(), 0, 0),
]


IDLE = [
    (standard, {"keep": "best"}),
    (standard, {"inner": "train"}),
    (standard, {"eps_ramp": 0.3}),
    (standard, {"sets": (Linf(0.1), L2(0.5)), "over": "average"}),
    (softplus, {"keep": "best"}),
    (softplus, {"eps_ramp": 0.3}),
    (l1_logistic, {"inner": "train"}),
    (free, {"keep": "best"}),
    (free, {"inner": "train"}),
    (free, {"awp": 0.01}),
    (free, {"sets": (Linf(0.1),)}),
    (pgd_at, {"over": "average"}),
    (pgd_at, {"over": "average", "sets": (Linf(0.1),)}),
    (pgd_at, {"awp_after": 0.5}),
]


@pytest.mark.parametrize(("make", "given"), IDLE, ids=lambda each: getattr(each, "__name__", str(each)))
def test_what_a_recipe_would_not_look_at_is_refused(make: Callable[..., Recipe], given: dict[str, Any]) -> None:
    *_, name = [name for name in given if name != "sets"] or ["sets"]
    with pytest.raises(ConfigError, match=rf"{name}.*(leave .* out|, too)\."):
        make(**given)


def test_what_it_would_look_at_is_not() -> None:
    free(eps_ramp=0.3), pgd_at(sets=(Linf(0.1), L2(0.5)), over="average"), pgd_at(awp=0.01, awp_after=0.5)


@pytest.mark.parametrize(("given", "said"), [({"augment": (Flip,)}, "Flip is no"), ({"average": EMA}, "EMA is no")])
def test_a_class_is_no_part(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pgd_at(**given)


def test_every_recipe_has_its_cost_tested() -> None:
    apart = {"ensemble_at"}  # with its static networks, further up
    assert {type(recipe).__name__ for recipe, *_ in COSTS} | apart == {entry.name for entry in entries("recipe")}


@pytest.mark.parametrize(("recipe", "forwards", "backwards"), COSTS, ids=repr)
def test_the_attack_costs_what_the_docstring_says(recipe: Recipe, forwards: int, backwards: int) -> None:
    given, teacher = examples(progress=0.5), learner(network())
    attacked = recipe.attack(teacher, given)
    rows = 0 if attacked is None else len(attacked.points)
    assert teacher.meter.attack == [rows * forwards, rows * backwards]


def test_replace_derives_another_recipe() -> None:
    assert replace(trades(), beta=3.0) == trades(beta=3.0)
    assert repr(kurakin(attack_by=fgsm(), share=0.25)) == "kurakin(share=0.25, attack_by=fgsm())"
    assert kurakin().attack_by == step_ll()
