"""The Nesterov iterative fast gradient sign method: MI-FGSM that looks ahead before it asks for the gradient.

    x^nes_t = x^adv_t + alpha mu g_t                                                    (6)
    g_{t+1} = mu g_t + grad_x J(x^nes_t, y) / ||grad_x J(x^nes_t, y)||_1                (7)
    x^adv_{t+1} = Clip_{x,eps}{ x^adv_t + alpha sign(g_{t+1}) }                         (8)

with g_0 = 0, x^adv_0 = x and alpha = eps / T. The point of (6) is not clipped.

Source: Lin et al. 2020, section 3.1, equations (6) to (8).
Differs: where the gradient is zero, (7) is 0 / 0: g_{t+1} = mu g_t here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import losses
from .mi_fgsm import over_l1
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
    """T = `steps`, mu = `momentum`; `queries` of the trace are the x^nes, `iterates` the x^adv."""
    x = x.double()
    first = x if start is None else start.double()
    radii = per_row(eps, len(x))
    alphas = [radius / steps for radius in radii] if step_size is None else per_row(step_size, len(x))
    climbs = [_climb(*row, steps, momentum, box) for row in zip(x, first, radii, alphas, strict=True)]
    return follow(climbs, logits, losses.LOSSES[objective], labels, targets)


def _climb(x: Tensor, start: Tensor, eps: float, alpha: float, steps: int, mu: float, box: Box) -> Climb:
    g, iterates = torch.zeros_like(x), [start]
    for _ in range(steps):
        _, gradient = yield iterates[-1] + alpha * mu * g  # (6)
        g = mu * g + over_l1(gradient)  # (7)
        iterates.append(linf(iterates[-1] + alpha * g.sign(), x, eps, box))  # (8)
    return Path(iterates)
