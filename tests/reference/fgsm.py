"""The fast gradient (sign) method: the whole step at once, in the direction that is best if the loss were linear.

    Linf   x' = x + eps sign(g)            g = grad_x J(x, y)
    L2     x' = x + eps g / ||g||_2
    L1     x' = x + eps sign(g_i) e_i      i = argmax_i |g_i|; in a box, what i can not take goes to the next largest

With targets, J towards the target is descended instead: x' = x - eps sign(grad_x J(x, target)).

Source: Goodfellow, Shlens & Szegedy 2015, section 4 (Linf). The L2 and L1 steps are the same linear argument with the
dual norm; "fast gradient L2" is in Kurakin, Goodfellow & Bengio 2017, appendix A.
Differs: the clip into the box is the usual addition; box=None leaves it out, as the equation does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import losses
from .projections import clip
from .trace import Box, Climb, Logits, Numbers, Path, Trace, follow, per_row


def run(
    logits: Logits,
    x: Tensor,
    labels: Tensor,
    eps: Numbers,
    steps: int = 1,
    step_size: Numbers | None = None,
    *,
    start: Tensor | None = None,
    box: Box = (0.0, 1.0),
    targets: Tensor | None = None,
    norm: str = "linf",
    objective: str = "ce",
) -> Trace:
    """One step of length eps (or `step_size`) from x (or `start`); there is no projection onto the ball."""
    if steps != 1:
        raise ValueError("the fast gradient method takes one step")
    x = x.double()
    first = x if start is None else start.double()
    lengths = per_row(eps if step_size is None else step_size, len(x))
    climbs = [_climb(point, length, box, norm) for point, length in zip(first, lengths, strict=True)]
    return follow(climbs, logits, losses.LOSSES[objective], labels, targets)


def _climb(x: Tensor, eps: float, box: Box, norm: str) -> Climb:
    _, g = yield x
    if norm == "l1" and box is not None:
        return Path([x, filled(x, g, eps, box)])
    return Path([x, clip(x + eps * fastest(g, norm), box)])


def filled(x: Tensor, g: Tensor, eps: float, box: tuple[float, float]) -> Tensor:
    """argmax <g, x'> over ||x' - x||_1 <= eps inside the box: coordinate by coordinate, the largest |g_i| first."""
    low, high = box
    point, left = x.flatten().tolist(), eps
    slopes = g.flatten().tolist()
    for i in sorted(range(len(point)), key=lambda i: -abs(slopes[i])):
        if slopes[i] == 0 or left <= 0:
            break
        end = high if slopes[i] > 0 else low
        move = min(left, abs(end - point[i]))
        point[i] += move if slopes[i] > 0 else -move
        left -= move
    return torch.tensor(point, dtype=x.dtype).reshape(x.shape)


def fastest(g: Tensor, norm: str) -> Tensor:
    """The direction of unit length, in the norm, with the largest inner product with g; zero where g is zero."""
    if norm == "linf":
        return g.sign()
    if norm == "l2":
        length = g.norm()
        return g / length if length > 0 else torch.zeros_like(g)
    if norm == "l1":
        i = g.abs().flatten().argmax()
        e = torch.zeros_like(g)
        e.view(-1)[i] = g.flatten()[i].sign()
        return e
    raise ValueError(f"unknown norm {norm!r}: linf, l2, l1")
