"""The transcription of the training losses against finite differences, and the losses against the transcription."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from potemkin.training import losses
from reference import training as paper
from training_steps import (
    NORMS,
    SHAPE,
    B,
    K,
    examples,
    mirror,
    network,
    targets,
    x_of,
)

# The transcription itself -------------------------------------------------------------------------------------------


def numeric(f: Callable[[np.ndarray], float], at: np.ndarray, h: float = 1e-6) -> np.ndarray:
    slope = np.zeros_like(at)
    for place in np.ndindex(*at.shape):
        nudge = np.zeros_like(at)
        nudge[place] = h
        slope[place] = (f(at + nudge) - f(at - nudge)) / (2 * h)
    return slope


def test_the_hand_written_gradients_of_the_losses_are_those_of_finite_differences() -> None:
    g = np.random.default_rng(0)
    z, other = 2 * g.standard_normal((2, 5, K))
    y = g.integers(0, K, 5)
    q = paper.wanted(y, K, 0.1)
    assert np.allclose(paper.cross_entropy(z, q)[1], numeric(lambda t: paper.cross_entropy(t, q)[0].sum(), z))
    _, d_clean, d_other = paper.divergence(z, other)
    assert np.allclose(d_clean, numeric(lambda t: paper.divergence(t, other)[0].sum(), z), atol=1e-8)
    assert np.allclose(d_other, numeric(lambda t: paper.divergence(z, t)[0].sum(), other), atol=1e-8)
    _, d_clean, d_other = paper.mart(z, other, y, 5.0)
    assert np.allclose(d_clean, numeric(lambda t: paper.mart(t, other, y, 5.0)[0].sum(), z), atol=1e-7)
    assert np.allclose(d_other, numeric(lambda t: paper.mart(z, t, y, 5.0)[0].sum(), other), atol=1e-7)


@NORMS
@pytest.mark.parametrize("training", [False, True])
def test_the_hand_written_backward_pass_is_that_of_finite_differences(norm: bool, training: bool) -> None:
    net, given = mirror(network(norm)), examples(5)
    q = targets(given)

    def value(net: paper.Net, x: np.ndarray) -> float:
        return float(paper.cross_entropy(net.forward(x, training)[0], q)[0].sum())

    z, tape = net.forward(x_of(given), training)
    grads, dx = net.backward(tape, paper.cross_entropy(z, q)[1])
    assert np.allclose(dx.reshape(given.x.shape), numeric(lambda t: value(net, t), x_of(given)), atol=1e-6)
    for name, grad in grads.items():
        zero = np.zeros_like(grad)
        assert np.allclose(grad, numeric(lambda t, n=name: value(net.moved({n: t}), x_of(given)), zero), atol=1e-6)


@NORMS
def test_the_mirror_shows_the_network(norm: bool) -> None:
    net, given = network(norm), examples()
    for mode in (False, True):
        with torch.no_grad():
            logits = net.train(mode)(given.x).numpy()
        assert np.allclose(mirror(network(norm)).forward(x_of(given), mode)[0], logits, atol=1e-12)
    if norm:
        mean, var = mirror(network(norm)).statistics(x_of(given))
        assert np.allclose(net[2].running_mean.numpy(), mean) and np.allclose(net[2].running_var.numpy(), var)


# Losses as functions of logits, to 1e-12 ----------------------------------------------------------------------------


def wild(rows: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    g = np.random.default_rng(seed)
    return 3 * g.standard_normal((rows, K)), 3 * g.standard_normal((rows, K)), g.integers(0, K, rows)


def leaf(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy()).requires_grad_()


def test_trades_divergence_and_its_gradient_through_both_sides() -> None:
    z, other, _ = wild()
    a, b = leaf(z), leaf(other)
    rows = losses.trades_divergence(a, b)
    rows.sum().backward()
    kl, d_clean, d_other = paper.divergence(z, other)
    assert np.allclose(rows.detach().numpy(), kl, rtol=1e-12, atol=1e-12)
    assert np.allclose(a.grad.numpy(), d_clean, atol=1e-12) and np.allclose(b.grad.numpy(), d_other, atol=1e-12)
    assert np.allclose(losses.trades_divergence(a, a).detach().numpy(), 0.0, atol=1e-15)


def test_mart_rows_and_their_gradient() -> None:
    z, other, y = wild()
    other[0, y[0]] = 30.0  # a row that is sure and right
    other[1, (y[1] + 1) % K] = 30.0  # and one that is sure and wrong: there the guards count
    a, b = leaf(z), leaf(other)
    rows = losses.mart_rows(a, b, torch.from_numpy(y), 5.0)
    rows.sum().backward()
    value, d_clean, d_other = paper.mart(z, other, y, 5.0)
    assert np.allclose(rows.detach().numpy(), value, rtol=1e-10)
    assert np.allclose(a.grad.numpy(), d_clean, atol=1e-10) and np.allclose(b.grad.numpy(), d_other, atol=1e-9)
    assert value[1] > 9.0, "-log(1.0001 - 1)"


def test_the_mixed_loss_weighs_adversarial_rows_by_lambda() -> None:
    g = np.random.default_rng(0)
    clean, adversarial = leaf(g.random(5)), leaf(g.random(3))
    loss = losses.mixed_loss(clean, adversarial, 0.3)
    loss.backward()
    assert loss.item() == pytest.approx((clean.sum() + 0.3 * adversarial.sum()).item() / 5.9, rel=1e-12)
    assert clean.grad.tolist() == pytest.approx([1 / 5.9] * 5) and adversarial.grad.tolist() == pytest.approx(
        [0.3 / 5.9] * 3
    )
    none = torch.zeros(0, dtype=torch.float64)
    assert losses.mixed_loss(none, adversarial, 0.3).item() == pytest.approx(adversarial.mean().item())
    assert losses.mixed_loss(clean, none, 0.3).item() == pytest.approx(clean.mean().item())


def test_alpha_mixes_the_means() -> None:
    a, b = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 20.0, 30.0])
    assert float(losses.alpha_mix(a, b, 0.25)) == pytest.approx(0.25 * 2 + 0.75 * 20)
    assert float(losses.alpha_mix(a, b, 1.0)) == 2.0 and float(losses.alpha_mix(a, b, 0.0)) == 20.0


def test_alignment_is_a_cosine_per_row_and_zero_where_a_gradient_vanishes() -> None:
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, *SHAPE, generator=g, dtype=torch.float64) for _ in range(2))
    a[1], b[2] = 0.0, -3.0 * a[2]
    a[3], b[3] = 1e-9 * a[3], 1e-9 * b[3]  # as small as gradients are where a network is sure
    found = losses.alignment(a, b)
    flat_a, flat_b = a.flatten(1).numpy(), b.flatten(1).numpy()
    lengths = np.linalg.norm(flat_a, axis=1) * np.linalg.norm(flat_b, axis=1)
    expected = (flat_a * flat_b).sum(1) / np.where(lengths > 0, lengths, 1)
    assert np.allclose(found.numpy(), expected, rtol=1e-12)
    assert float(found[1]) == 0.0 and float(found[2]) == pytest.approx(-1.0)


@pytest.mark.parametrize("eps", [0.0, 0.25])
def test_the_closed_form_of_logistic_regression_and_l1_decay(eps: float) -> None:
    g = np.random.default_rng(1)
    w, x, y, b = g.standard_normal(6), g.random((9, 6)), g.integers(0, 2, 9), 0.3
    for ours, theirs in (
        (losses.adversarial_softplus, paper.worst_logistic),
        (losses.l1_decay, paper.decayed_logistic),
    ):
        weight, bias = leaf(w), leaf(np.array(b))
        loss = ours(torch.from_numpy(x) @ weight + bias, weight, torch.from_numpy(y), eps).mean()
        loss.backward()
        value, dw, db = theirs(w, b, x, y, eps)
        assert loss.item() == pytest.approx(value, rel=1e-12)
        assert np.allclose(weight.grad.numpy(), dw, atol=1e-12) and float(bias.grad) == pytest.approx(db, rel=1e-10)


def test_cross_entropy_of_smoothed_and_mixed_labels() -> None:
    z, _, y = wild(B)
    given = examples()
    given.y = torch.from_numpy(y)
    given.partner, given.share = (given.y + 1) % K, torch.linspace(0.5, 1, B, dtype=torch.float64)
    for smoothing in (0.0, 0.1):
        logits = leaf(z)
        rows = given.cross_entropy(logits, smoothing)
        rows.sum().backward()
        value, slope = paper.cross_entropy(z, targets(given, smoothing))
        assert np.allclose(rows.detach().numpy(), value, rtol=1e-12)
        assert np.allclose(logits.grad.numpy(), slope, atol=1e-12)
