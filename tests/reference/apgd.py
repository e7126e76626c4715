"""Auto-PGD for Linf and L2: PGD with a heavy ball, which halves its step when progress stalls and returns to its best.

     1  input f, S, x^(0), eta, N_iter, W = {w_0, ..., w_n}
     2  output x_max, f_max
     3  x^(1) = P_S(x^(0) + eta grad f(x^(0)))
     4  f_max = max{ f(x^(0)), f(x^(1)) }
     5  x_max = x^(0) if f_max = f(x^(0)) else x^(1)
     6  for k = 1 to N_iter - 1:
     7      z^(k+1) = P_S(x^(k) + eta grad f(x^(k)))
     8      x^(k+1) = P_S(x^(k) + alpha (z^(k+1) - x^(k)) + (1 - alpha) (x^(k) - x^(k-1)))
     9      if f(x^(k+1)) > f_max:
    10          x_max = x^(k+1), f_max = f(x^(k+1))
    12      if k in W:
    13          if condition 1 or condition 2:
    14              eta = eta / 2, x^(k+1) = x_max

Condition 1: fewer than rho (w_j - w_{j-1}) of the steps i = w_{j-1}, ..., w_j - 1 have f(x^(i+1)) > f(x^(i)).
Condition 2: since the last checkpoint neither eta nor f_max has changed.
grad f stands for its sign (Linf) or grad f / ||grad f||_2 (L2); eta^(0) = 2 eps, alpha = rho = 0.75.
Checkpoints: p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max{p_j - p_{j-1} - 0.03, 0.06}, w_j = ceil(p_j N_iter).

Source: Croce & Hein 2020, Algorithm 1, sections 3.1 and 3.2; the objectives are equations (6) and (7). Written from
knowledge of the paper, without its text at hand: check a line number before quoting it.

The released implementation, with which published numbers were made, is not quite the box; `as_released=True` is it:

    a  the distances between checkpoints are whole numbers: max(int(.22 N), 1), each shorter than the one before by
       max(int(.03 N), 1), down to max(int(.06 N), 1)
    b  a checkpoint lies right after x^(w_j), not after x^(w_j + 1), and x^(w_j) itself is replaced
    c  the very first step is an increase if f(x^(1)) > 0, instead of > f(x^(0)); with cross-entropy it always is
    d  the step after a return to x_max is compared with the point that was thrown away, instead of with x_max
    e  condition 1 holds with equality too
    f  condition 2 cannot hold at the first checkpoint: it starts as if eta had just been halved

Both keep the gradient of x_max, so a return costs no pass; both take the heavy ball's difference after a return between
x_max and the point from which the step that was thrown away had been taken; both divide lengths by length + 1e-12, so
that a zero gradient is no step.
"""

from __future__ import annotations

import math
from fractions import Fraction

from torch import Tensor

from . import losses, projections
from .trace import Box, Climb, Logits, Numbers, Path, Trace, follow, per_row

ALPHA = 0.75
RHO = 0.75


def run(
    logits: Logits,
    x: Tensor,
    labels: Tensor,
    eps: Numbers,
    steps: int,
    step_size: Numbers | None = None,
    *,
    start: Tensor | None = None,
    box: Box = (0.0, 1.0),
    targets: Tensor | None = None,
    norm: str = "linf",
    exact: bool = False,
    objective: str = "ce",
    as_released: bool = True,
) -> Trace:
    """N_iter = `steps`, eta^(0) = `step_size` (2 eps where left out); `objective` "ce" or "dlr", targeted with targets.

    `iterates` are the points that were evaluated, N_iter + 1 of them, before any return to x_max.
    `exact` is for L2 only: project onto ball and box together, instead of onto the ball and then into the box.
    """
    x = x.double()
    first = projections.clip(x if start is None else start.double(), box)
    radii = per_row(eps, len(x))
    etas = [2 * radius for radius in radii] if step_size is None else per_row(step_size, len(x))
    climb = _released if as_released else _algorithm_1
    moves = [Move(row, radius, box, norm, exact) for row, radius in zip(x, radii, strict=True)]
    climbs = [climb(*row, steps) for row in zip(moves, first, etas, strict=True)]
    return follow(climbs, logits, losses.LOSSES[objective], labels, targets)


class Move:
    """What depends on the set: the direction of a gradient, and P_S."""

    def __init__(self, x: Tensor, eps: float, box: Box, norm: str, exact: bool) -> None:
        if norm not in ("linf", "l2"):
            raise ValueError(f"unknown norm {norm!r}: linf, l2 (for L1 see apgd_l1)")
        self.x, self.eps, self.box, self.norm, self.exact = x, eps, box, norm, exact

    def direction(self, g: Tensor) -> Tensor:
        return g.sign() if self.norm == "linf" else g / ((g**2).sum().sqrt() + 1e-12)

    def project(self, z: Tensor) -> Tensor:
        if self.norm == "linf":
            return projections.linf(z, self.x, self.eps, self.box)
        nearest = projections.l2_and_box if self.exact else projections.l2_then_box
        return nearest(z, self.x, self.eps, self.box)

    def heavy_ball(self, x: Tensor, x_before: Tensor, g: Tensor, eta: float, alpha: float) -> Tensor:
        """Lines 7 and 8; with alpha = 1 it is line 3, projected once more."""
        z = self.project(x + eta * self.direction(g))
        return self.project(x + (z - x) * alpha + (x - x_before) * (1 - alpha))


def checkpoints(steps: int) -> list[int]:
    """W without w_0 = 0: w_j = ceil(p_j N_iter), in exact arithmetic, up to N_iter."""
    p_before, p = Fraction(0), Fraction(22, 100)
    w = []
    while p <= 1:
        w.append(math.ceil(p * steps))
        p_before, p = p, p + max(p - p_before - Fraction(3, 100), Fraction(6, 100))
    return w


def released_checkpoints(steps: int) -> list[int]:
    """Difference a."""
    w: list[int] = []
    gap = max(int(0.22 * steps), 1)
    shrink, smallest = max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
    while sum(w[-1:]) + gap <= steps:
        w.append(sum(w[-1:]) + gap)
        gap = max(gap - shrink, smallest)
    return w


def _algorithm_1(move: Move, start: Tensor, eta: float, n_iter: int) -> Climb:
    w = checkpoints(n_iter)
    x, f, asked, etas = [start], [], [start], [eta]
    value, g = yield start
    f.append(value)
    x_max, f_max, g_max = start, value, g
    eta_check, f_check, w_before = eta, value, 0
    for k in range(n_iter):
        if k == 0:
            x_next = move.project(x[0] + eta * move.direction(g))  # line 3
        else:
            x_next = move.heavy_ball(x[k], x[k - 1], g, eta, ALPHA)  # lines 7, 8
        asked.append(x_next)
        f_next, g = yield x_next
        if f_next > f_max:  # lines 4, 5, 9, 10
            x_max, f_max, g_max = x_next, f_next, g
        if k in w:  # line 12
            rises = sum(f[i + 1] > f[i] for i in range(w_before, k))
            condition_1 = rises < RHO * (k - w_before)
            condition_2 = eta == eta_check and f_max == f_check
            eta_check, f_check, w_before = eta, f_max, k
            if condition_1 or condition_2:  # line 13
                eta, x_next, f_next, g = eta / 2, x_max, f_max, g_max  # line 14
        x.append(x_next)
        f.append(f_next)
        etas.append(eta)
    return Path(asked, etas[:n_iter])


def _released(move: Move, start: Tensor, eta: float, n_iter: int) -> Climb:
    w = released_checkpoints(n_iter)  # difference a
    x_before, x, asked, etas = start, start, [start], []
    f_max, g = yield start
    x_max, g_max = start, g
    f = [0.0]  # difference c: where f(x^(0)) belongs
    halved_last_time, f_check, w_before = True, f_max, 0  # difference f
    for k in range(1, n_iter + 1):
        x_before, x = x, move.heavy_ball(x, x_before, g, eta, ALPHA if k > 1 else 1.0)
        asked.append(x)
        etas.append(eta)
        value, g = yield x
        f.append(value)  # difference d: stays, even if x does not
        if value > f_max:
            x_max, f_max, g_max = x, value, g
        if k in w:  # difference b
            rises = sum(f[i + 1] > f[i] for i in range(w_before, k))
            stalled = rises <= RHO * (k - w_before)  # difference e
            unchanged = not halved_last_time and f_check >= f_max
            halved_last_time, f_check, w_before = stalled or unchanged, f_max, k
            if halved_last_time:
                eta, x, g = eta / 2, x_max, g_max
    return Path(asked, etas)
