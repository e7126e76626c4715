"""The momentum iterative fast gradient sign method.

    1   alpha = eps / T
    2   g_0 = 0;  x*_0 = x
    3   for t = 0 to T - 1:
    4       input x*_t to f and obtain the gradient grad_x J(x*_t, y)
    5       g_{t+1} = mu g_t + grad_x J(x*_t, y) / ||grad_x J(x*_t, y)||_1
    6       x*_{t+1} = x*_t + alpha sign(g_{t+1})
    7   return x*_T

Source: Dong et al. 2018, Algorithm 1 (its equations 6 and 7).
Differs: iterates are clipped into the ball (section 2.1 offers the clip as the other way to meet the bound; it matters
when step_size > eps / T) and into the box. Where the gradient is zero, line 5 is 0 / 0: g_{t+1} = mu g_t here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import losses
from .projections import linf
from .trace import Box, Climb, Logits, Numbers, Path, Trace, follow, per_row


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
    momentum: float = 1.0,
    objective: str = "ce",
) -> Trace:
    """T = `steps`, mu = `momentum`; alpha is eps / T where `step_size` is left out."""
    x = x.double()
    first = x if start is None else start.double()
    radii = per_row(eps, len(x))
    alphas = [radius / steps for radius in radii] if step_size is None else per_row(step_size, len(x))  # line 1
    climbs = [_climb(*row, steps, momentum, box) for row in zip(x, first, radii, alphas, strict=True)]
    return follow(climbs, logits, losses.LOSSES[objective], labels, targets)


def _climb(x: Tensor, start: Tensor, eps: float, alpha: float, steps: int, mu: float, box: Box) -> Climb:
    g, iterates = torch.zeros_like(x), [start]  # line 2
    for _ in range(steps):  # line 3
        _, gradient = yield iterates[-1]  # line 4
        g = mu * g + over_l1(gradient)  # line 5
        iterates.append(linf(iterates[-1] + alpha * g.sign(), x, eps, box))  # line 6
    return Path(iterates)  # line 7


def over_l1(gradient: Tensor) -> Tensor:
    """gradient / ||gradient||_1, zero for a zero gradient."""
    length = gradient.abs().sum()
    return gradient / length if length > 0 else torch.zeros_like(gradient)
