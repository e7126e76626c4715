"""Projected gradient descent on the negative loss, from a given start.

    x^{t+1} = P_{x+S}( x^t + alpha d(grad_x L(theta, x^t, y)) )

with d(g) = sign(g) for Linf (the paper's equation) and d(g) = g / ||g||_2 for L2.

Source: Madry, Makelov, Schmidt, Tsipras & Vladu 2018, section 2.1. The L2 step is not written out there: it is the
steepest ascent of that norm, as in the authors' released code.
Differs: the random start is the caller's. For L2, `exact=False` scales onto the ball and then clips, as released code
does, which is not the nearest point of ball and box; `exact=True` projects onto their intersection.
"""

from __future__ import annotations

from torch import Tensor

from . import losses, projections
from .fgsm import fastest
from .trace import Box, Climb, Logits, Numbers, Path, Trace, follow, per_row


def run(
    logits: Logits,
    x: Tensor,
    labels: Tensor,
    eps: Numbers,
    steps: int,
    step_size: Numbers,
    *,
    start: Tensor | None = None,
    box: Box = (0.0, 1.0),
    targets: Tensor | None = None,
    norm: str = "linf",
    exact: bool = False,
    objective: str = "ce",
) -> Trace:
    """`steps` steps of length `step_size` in the given norm ("linf" or "l2"), from `start`."""
    if norm not in ("linf", "l2"):
        raise ValueError(f"unknown norm {norm!r}: linf, l2")
    x = x.double()
    first = x if start is None else start.double()
    numbers = zip(x, first, per_row(eps, len(x)), per_row(step_size, len(x)), strict=True)
    climbs = [_climb(*row, steps, box, norm, exact) for row in numbers]
    return follow(climbs, logits, losses.LOSSES[objective], labels, targets)


def _climb(x: Tensor, start: Tensor, eps: float, alpha: float, steps: int, box: Box, norm: str, exact: bool) -> Climb:
    project = projections.l2_and_box if exact else projections.l2_then_box
    if norm == "linf":
        project = projections.linf
    iterates = [start]
    for _ in range(steps):
        _, g = yield iterates[-1]
        iterates.append(project(iterates[-1] + alpha * fastest(g, norm), x, eps, box))
    return Path(iterates)
