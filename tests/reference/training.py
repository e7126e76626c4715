"""Adversarial training as the papers write it: slow, literal, numpy float64, every gradient written by hand.

A network here is small enough to differentiate on paper: flatten, linear, (batch normalisation,) tanh, linear. Losses
give back their value and what its gradient is with respect to the logits; a recipe gives back its loss and the
gradient with respect to every weight. Nothing here draws a random number: random starts and noise are the caller's.

Source: of each recipe, at its function. Shared beyond one paper: clean and adversarial rows go through batch
normalisation together, in that order unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Weights = dict[str, Array]
Slope = Callable[[Array], Array]  # (B, K) logits -> (B, K): the gradient of what is climbed, row by row
Box = tuple[float, float]

NO_BOX = (-math.inf, math.inf)
NORM_EPS, MOMENTUM = 1e-5, 0.1  # of batch normalisation


@dataclass
class Tape:
    """What a backward pass needs of its forward pass."""

    x: Array
    unit: Array | None
    """Normalised hidden values, None without batch normalisation."""
    deviation: Array | None
    training: bool
    hidden: Array


class Net:
    """z = w2 tanh(norm(w1 x + b1)) + b2; `scale`, `shift`, `mean`, `var` are there where it has batch normalisation."""

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: np.array(value, dtype=np.float64) for name, value in weights.items()}

    def moved(self, by: Weights, factor: float = 1.0) -> Net:
        """Another network whose weights are these plus factor times `by`."""
        return Net({name: value + factor * by.get(name, 0.0) for name, value in self.weights.items()})

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Tape]:
        w, x = self.weights, x.reshape(len(x), -1)
        before = x @ w["w1"].T + w["b1"]
        unit = deviation = None
        if "scale" in w:
            mean, var = (before.mean(0), before.var(0)) if training else (w["mean"], w["var"])
            deviation = np.sqrt(var + NORM_EPS)
            unit = (before - mean) / deviation
            before = w["scale"] * unit + w["shift"]
        hidden = np.tanh(before)
        return hidden @ w["w2"].T + w["b2"], Tape(x, unit, deviation, training, hidden)

    def backward(self, tape: Tape, dz: Array) -> tuple[Weights, Array]:
        """The gradient with respect to the weights and to the inputs (B, d), from that with respect to the logits."""
        w, grads = self.weights, {"w2": dz.T @ tape.hidden, "b2": dz.sum(0)}
        dh = (dz @ w["w2"]) * (1 - tape.hidden**2)
        if tape.unit is not None and tape.deviation is not None:
            grads |= {"scale": (dh * tape.unit).sum(0), "shift": dh.sum(0)}
            du = dh * w["scale"]
            if tape.training:  # the batch's mean and variance depend on every row
                du = du - du.mean(0) - tape.unit * (du * tape.unit).mean(0)
            dh = du / tape.deviation
        return grads | {"w1": dh.T @ tape.x, "b1": dh.sum(0)}, dh @ w["w1"]

    def statistics(self, x: Array) -> tuple[Array, Array]:
        """Running mean and variance after this batch was learnt from once (the variance is the unbiased one)."""
        before = x.reshape(len(x), -1) @ self.weights["w1"].T + self.weights["b1"]
        mean, var = before.mean(0), before.var(0, ddof=1)
        old = self.weights
        return (1 - MOMENTUM) * old["mean"] + MOMENTUM * mean, (1 - MOMENTUM) * old["var"] + MOMENTUM * var


# Losses of logits ---------------------------------------------------------------------------------------------------


def log_softmax(z: Array) -> Array:
    shifted = z - z.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def one_hot(y: Labels, classes: int) -> Array:
    return np.eye(classes)[y]


def wanted(
    y: Labels, classes: int, smoothing: float = 0.0, partner: Labels | None = None, share: Array | None = None
) -> Array:
    """(B, K) what the answer should be: (1 - s) e_y + s / K, or a mixture of two of these for mixed rows.

    Source: Szegedy et al. 2016, section 7 (label smoothing); Zhang et al. 2018, equation (1) (mixup).
    """
    own = (1 - smoothing) * one_hot(y, classes) + smoothing / classes
    if partner is None or share is None:
        return own
    other = (1 - smoothing) * one_hot(partner, classes) + smoothing / classes
    return share[:, None] * own + (1 - share[:, None]) * other


def cross_entropy(z: Array, q: Array) -> tuple[Array, Array]:
    """-sum_j q_j log p_j per row, and p - q."""
    log_p = log_softmax(z)
    return -(q * log_p).sum(1), np.exp(log_p) - q


def divergence(z: Array, other: Array) -> tuple[Array, Array, Array]:
    """KL(p || p') per row of logits z and z', with the gradients with respect to z and to z'.

    d KL / dz_i = p_i (log p_i - log p'_i - KL),   d KL / dz'_i = p'_i - p_i
    """
    log_p, log_q = log_softmax(z), log_softmax(other)
    p, q = np.exp(log_p), np.exp(log_q)
    kl = (p * (log_p - log_q)).sum(1)
    return kl, p * (log_p - log_q - kl[:, None]), q - p


def mart(z: Array, other: Array, y: Labels, weight: float) -> tuple[Array, Array, Array]:
    """BCE(p', y) + weight KL(p || p') (1 - p_y) per row, and its gradients with respect to z (clean) and z'.

    BCE = -log p'_y - log(1 - p'_o), o the likeliest wrong class at x'. The guards 1.0001 + 1e-12 and 1.0000001 are the
    authors' code's.
    Source: Wang et al. 2020, equations (8) to (11).
    """
    rows, classes = np.arange(len(z)), z.shape[1]
    p, q = np.exp(log_softmax(z)), np.exp(log_softmax(other))
    wrong = q.copy()
    wrong[rows, y] = -1.0
    o = wrong.argmax(1)
    room = 1.0001 - q[rows, o] + 1e-12
    boosted = -np.log(q[rows, y]) - np.log(room)
    d_boosted = q - one_hot(y, classes) + (q[rows, o] / room)[:, None] * (one_hot(o, classes) - q)
    kl, d_clean, d_other = divergence(z, other)
    doubt = 1.0000001 - p[rows, y]
    d_doubt = -p[rows, y][:, None] * (one_hot(y, classes) - p)
    return (
        boosted + weight * kl * doubt,
        weight * (doubt[:, None] * d_clean + kl[:, None] * d_doubt),
        d_boosted + weight * doubt[:, None] * d_other,
    )


def softplus(t: Array) -> Array:
    return np.logaddexp(0.0, t)


def sigmoid(t: Array) -> Array:
    return np.exp(-softplus(-t))


def worst_logistic(w: Array, b: float, x: Array, y: Labels, eps: float) -> tuple[float, Array, float]:
    """Mean of zeta(eps ||w||_1 - s (w x + b)), s = 2y - 1, with its gradients with respect to w and b.

    Source: Goodfellow et al. 2015, section 5, with s in the place where it is right for both classes.
    """
    x, s = x.reshape(len(x), -1), 2.0 * y - 1
    t = eps * np.abs(w).sum() - s * (x @ w + b)
    slope = sigmoid(t) / len(x)
    return softplus(t).mean(), slope.sum() * eps * np.sign(w) - (slope * s) @ x, float(-(slope * s).sum())


def decayed_logistic(w: Array, b: float, x: Array, y: Labels, strength: float) -> tuple[float, Array, float]:
    """Mean of zeta(-s (w x + b)) + strength ||w||_1: the decay stands outside of the softplus."""
    value, dw, db = worst_logistic(w, b, x, y, 0.0)
    return value + strength * np.abs(w).sum(), dw + strength * np.sign(w), db


# Recipes: value and gradient ----------------------------------------------------------------------------------------


def on_rows(net: Net, x: Array, q: Array, weights: Array) -> tuple[float, Weights]:
    """sum_i weights_i CE_i over one batch in train mode, and its gradient."""
    z, tape = net.forward(x, training=True)
    rows, dz = cross_entropy(z, q)
    return float(weights @ rows), net.backward(tape, weights[:, None] * dz)[0]


def madry(net: Net, adversarial: Array, q: Array) -> tuple[float, Weights]:
    """Mean cross-entropy at the adversarial rows alone.  Source: Madry et al. 2018, equation (2.1)."""
    n = len(adversarial)
    return on_rows(net, adversarial, q, np.full(n, 1 / n))


def goodfellow(
    net: Net, clean: Array, adversarial: Array, q: Array, alpha: float, q_adversarial: Array | None = None
) -> tuple[float, Weights]:
    """alpha mean J(x) + (1 - alpha) mean J(x').  Source: Goodfellow et al. 2015, section 6."""
    n, m = len(clean), len(adversarial)
    both = np.concatenate([q, q if q_adversarial is None else q_adversarial])
    weights = np.concatenate([np.full(n, alpha / n), np.full(m, (1 - alpha) / m)])
    return on_rows(net, np.concatenate([clean, adversarial]), both, weights)


def kurakin(
    net: Net, adversarial: Array, clean: Array, q_adversarial: Array, q_clean: Array, weight: float
) -> tuple[float, Weights]:
    """(sum_clean L_i + weight sum_adv L_i) / ((m - k) + weight k); adversarial rows first.

    Source: Kurakin et al. 2017, Algorithm 1.
    """
    k, rest = len(adversarial), len(clean)
    weights = np.concatenate([np.full(k, weight), np.ones(rest)]) / (rest + weight * k)
    return on_rows(net, np.concatenate([adversarial, clean]), np.concatenate([q_adversarial, q_clean]), weights)


def trades(net: Net, clean: Array, adversarial: Array, q: Array, beta: float) -> tuple[float, Weights]:
    """mean CE(f(x), y) + beta mean KL(p(x) || p(x')).  Source: Zhang et al. 2019, Algorithm 1."""
    n = len(clean)
    z, tape = net.forward(np.concatenate([clean, adversarial]), training=True)
    rows, dz = cross_entropy(z[:n], q)
    kl, d_clean, d_other = divergence(z[:n], z[n:])
    slopes = np.concatenate([dz + beta * d_clean, beta * d_other]) / n
    return float(rows.mean() + beta * kl.mean()), net.backward(tape, slopes)[0]


def mart_step(net: Net, clean: Array, adversarial: Array, y: Labels, weight: float) -> tuple[float, Weights]:
    """The mean of `mart`.  Source: Wang et al. 2020, Algorithm 1."""
    n = len(clean)
    z, tape = net.forward(np.concatenate([clean, adversarial]), training=True)
    rows, d_clean, d_other = mart(z[:n], z[n:], y, weight)
    return float(rows.mean()), net.backward(tape, np.concatenate([d_clean, d_other]) / n)[0]


def misalignment(net: Net, x: Array, beside: Array, y: Labels) -> float:
    """Mean of 1 - cos(g(x), g(x + u)), g the gradient of the cross-entropy with respect to the input, in train mode."""
    gradients = []
    for point in (x, beside):
        z, tape = net.forward(point, training=True)
        gradients.append(net.backward(tape, cross_entropy(z, one_hot(y, z.shape[1]))[1])[1])
    a, b = gradients
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float((1 - cosines).mean())


def grad_align(
    net: Net, x: Array, beside: Array, adversarial: Array, y: Labels, weight: float, h: float = 1e-5
) -> tuple[float, Weights]:
    """CE at x' plus weight times `misalignment`, whose gradient is taken by central differences, weight by weight.

    Source: Andriushchenko and Flammarion 2020, equation (6).
    """
    value, grads = madry(net, adversarial, one_hot(y, len(net.weights["b2"])))
    for name in grads:
        flat = grads[name].reshape(-1)
        for place in range(flat.size):
            nudge = np.zeros_like(grads[name])
            nudge.reshape(-1)[place] = h
            up, down = (misalignment(net.moved({name: nudge}, sign), x, beside, y) for sign in (1, -1))
            flat[place] += weight * (up - down) / (2 * h)
    return value + weight * misalignment(net, x, beside, y), grads


def uphill(weights: Weights, grads: Weights, gamma: float) -> Weights:
    """v_l = gamma ||w_l|| g_l / ||g_l|| for every matrix; vectors (biases, scales) stay.

    Source: Wu, Xia and Wang 2020, equations (7) and (8), one step.
    """
    return {
        name: gamma * np.linalg.norm(weights[name]) * grad / np.linalg.norm(grad)
        for name, grad in grads.items()
        if grad.ndim >= 2
    }


# Inner maximisation -------------------------------------------------------------------------------------------------


def away_from(y: Labels) -> Slope:
    """Ascend the cross-entropy of the label."""
    return lambda z: cross_entropy(z, one_hot(y, z.shape[1]))[1]


def toward(target: Labels) -> Slope:
    """Descend the cross-entropy of the target."""
    return lambda z: -cross_entropy(z, one_hot(target, z.shape[1]))[1]


def apart_from(clean: Array) -> Slope:
    """Ascend KL(p(x) || p(x')), the clean logits held fast."""
    return lambda z: divergence(clean, z)[2]


def least_likely(z: Array, y: Labels) -> Labels:
    """argmin_j p_j, the true class left out."""
    masked = z.copy()
    masked[np.arange(len(z)), y] = np.inf
    return masked.argmin(1)


def input_gradient(net: Net, point: Array, slope: Slope, training: bool = False) -> Array:
    z, tape = net.forward(point, training)
    return net.backward(tape, slope(z))[1].reshape(point.shape)


def climb(
    net: Net,
    x: Array,
    start: Array,
    eps: float | Array,
    step: float | Array,
    steps: int,
    slope: Slope,
    *,
    box: Box = (0.0, 1.0),
    norm: str = "linf",
    training: bool = False,
) -> Array:
    """x_{t+1} = P(x_t + step u(g)): signs and clipping in Linf; g / ||g|| and scaling in L2, for which no box may bind.

    `eps` and `step` are numbers or (B,); `training` asks the network with the batch's own statistics.
    """
    radius, length = (_column(value, x) for value in (eps, step))
    point = start
    for _ in range(steps):
        g = input_gradient(net, point, slope, training)
        if norm == "linf":
            point = np.clip(np.clip(point + length * np.sign(g), x - radius, x + radius), *box)
            continue
        offset = point + length * g / _length(g) - x
        point = x + offset * np.minimum(1.0, radius / np.maximum(_length(offset), 1e-300))
        assert point.min() >= box[0] and point.max() <= box[1], "the nearest point of ball and box is not written here"
    return point


def free(
    net: Net, x: Array, y: Labels, eps: float, replays: int, rate: float, box: Box = (0.0, 1.0)
) -> tuple[list[Net], list[Array]]:
    """Algorithm 1 on one batch from delta = 0: the weights and the perturbation after each replay.

    g_theta, g_adv at x + delta from one backward;   theta <- theta - rate g_theta;
    delta <- clip(delta + eps sign(g_adv), -eps, eps), and x + delta stays in the box.

    Source: Shafahi et al. 2019, Algorithm 1.
    """
    point, nets, points = x, [], []
    q = one_hot(y, len(net.weights["b2"]))
    for _ in range(replays):
        z, tape = net.forward(point, training=True)
        grads, dx = net.backward(tape, cross_entropy(z, q)[1] / len(x))
        net = net.moved(grads, -rate)
        point = np.clip(np.clip(point + eps * np.sign(dx.reshape(x.shape)), x - eps, x + eps), *box)
        nets.append(net)
        points.append(point)
    return nets, points


# Radii --------------------------------------------------------------------------------------------------------------


def half_normal_cdf(t: float, high: float, sigma: float) -> float:
    """P(|n| <= t) for n ~ N(0, sigma^2) given |n| <= high.  Source: Kurakin et al. 2017, section 3 (recalled)."""
    root = sigma * math.sqrt(2)
    return math.erf(min(t, high) / root) / math.erf(high / root)


def _column(value: float | Array, x: Array) -> Array:
    return np.asarray(value, dtype=np.float64).reshape(-1, *(1,) * (x.ndim - 1))


def _length(v: Array) -> Array:
    return np.sqrt((v**2).sum(axis=tuple(range(1, v.ndim)), keepdims=True))
