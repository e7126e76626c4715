"""The basic iterative method and the iterative least-likely class method.

    X_0 = X
    X_{N+1} = Clip_{X,eps}{ X_N + alpha sign(grad_X J(X_N, y_true)) }        basic
    X_{N+1} = Clip_{X,eps}{ X_N - alpha sign(grad_X J(X_N, y_LL)) }          least likely, y_LL = argmin_y p(y | X)

alpha is one grey level and the number of iterations min(eps + 4, 1.25 eps), with eps in grey levels of 255.
Clip_{X,eps} is elementwise into [X - eps, X + eps] and the range of pixels.

Source: Kurakin, Goodfellow & Bengio 2017, section 2. How a broken number of iterations is rounded is not said there;
down is what common implementations do.
Differs: box is (0, 1) instead of (0, 255), so a grey level is 1/255 of its width.
"""

from __future__ import annotations

import math

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
    steps: int | None = None,
    step_size: Numbers | None = None,
    *,
    start: Tensor | None = None,
    box: Box = (0.0, 1.0),
    targets: Tensor | None = None,
    least_likely: bool = False,
    objective: str = "ce",
) -> Trace:
    """Steps and step size are the paper's where left out; `least_likely` picks the targets from the logits at x."""
    x = x.double()
    first = x if start is None else start.double()
    grey = grey_level(box)
    radii = per_row(eps, len(x))
    if steps is None:
        (steps,) = {iterations(radius / grey) for radius in radii}
    alphas = per_row(grey if step_size is None else step_size, len(x))
    if least_likely:
        targets = least_likely_class(logits, x)
    climbs = [_climb(*row, steps, box) for row in zip(x, first, radii, alphas, strict=True)]
    return follow(climbs, logits, losses.LOSSES[objective], labels, targets)


def _climb(x: Tensor, start: Tensor, eps: float, alpha: float, steps: int, box: Box) -> Climb:
    iterates = [start]  # X_0
    for _ in range(steps):
        _, g = yield iterates[-1]
        iterates.append(linf(iterates[-1] + alpha * g.sign(), x, eps, box))  # X_{N+1}
    return Path(iterates)


def grey_level(box: Box) -> float:
    """One step of an 8-bit image."""
    low, high = (0.0, 1.0) if box is None else box
    return (high - low) / 255


def iterations(eps: float) -> int:
    """min(eps + 4, 1.25 eps), eps in grey levels, rounded down (but 12.000000000000001 is 12)."""
    return math.floor(round(min(eps + 4, 1.25 * eps), 9))


@torch.no_grad()
def least_likely_class(logits: Logits, x: Tensor) -> Tensor:
    """y_LL = argmin_y p(y | X)."""
    return logits(x).argmin(dim=1)
