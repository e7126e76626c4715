"""Auto-PGD for the L1 ball and the box: steps on the few largest coordinates, as many as the best point has changed.

    for i = 0, 1, ..., N_iter - 1:
        u    = sign of the gradient on its k largest coordinates by magnitude, 0 elsewhere
        x    = P_S(x + eta u / ||u||_1)                          S: the L1 ball and the box, exactly
        keep x_max, f_max
        every max(int(.04 N_iter), 1) steps:
            s = ||x_max - x_clean||_0,   k = s / 1.5
            if s < .95 (s at the last check):  eta = eps, and go on from x_max
            else:                              eta = max(eta / 1.5, eps / 10)

At the start eta = eps. From a start of its own k = d / 5 and the last check's s is d, the number of coordinates; from a
given point they follow from that point's ||x - x_clean||_0. There is no heavy ball. A broken k is rounded up, so that
two changed coordinates are never followed by a step along one: on a linear loss the mean of the two largest entries of
the gradient is reached, not the largest.

`schedule` is the strategy for a given budget: 30 % of the steps with 3 eps, 30 % with 2 eps, the rest with eps, each
stage from the projection of the best point of the one before.

Source: Croce & Hein 2021, sections 2 and 3 (l1-APGD and the multi-eps strategy), with the constants of the released
implementation; written without the paper's text at hand, so no line numbers.
`as_released=True` follows the released arithmetic, z + (P(z) - z), which does not always come back to the clean value
where it should: s counts exact zeros, and so coordinates that are off by a last bit. `as_released=False` has true ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import losses, projections
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
    warm: bool = False,
    objective: str = "ce",
    as_released: bool = True,
) -> Trace:
    """One stage with one eps. `warm`: the start is a given point, so the sparsity at the start is that point's."""
    x = x.double()
    first = projections.clip(x if start is None else start.double(), box)
    radii = per_row(eps, len(x))
    etas = per_row(radii if step_size is None else step_size, len(x))
    rows = zip(x, first, radii, etas, strict=True)
    climbs = [_climb(*row, steps, box, warm, as_released) for row in rows]
    return follow(climbs, logits, losses.LOSSES[objective], labels, targets)


def schedule(
    logits: Logits,
    x: Tensor,
    labels: Tensor,
    eps: float,
    steps: int,
    *,
    start: Tensor | None = None,
    box: Box = (0.0, 1.0),
    targets: Tensor | None = None,
    objective: str = "ce",
    as_released: bool = True,
) -> list[Trace]:
    """The three stages, each a trace; the last one has the result. The start may lie anywhere in 3 eps."""
    x = x.double()
    point = x if start is None else start.double()
    third = math.ceil(0.3 * steps)
    stages = []
    for radius, count in ((3 * eps, third), (2 * eps, third), (eps, steps - 2 * third)):
        pairs = zip(point, x, strict=True)
        point = torch.stack([_project(p, p - clean, clean, radius, box, as_released) for p, clean in pairs])
        stages.append(
            run(
                logits,
                x,
                labels,
                radius,
                count,
                start=point,
                box=box,
                targets=targets,
                warm=True,
                objective=objective,
                as_released=as_released,
            )
        )
        point = stages[-1].best
    return stages


def _climb(
    clean: Tensor, start: Tensor, eps: float, eta: float, steps: int, box: Box, warm: bool, as_released: bool
) -> Climb:
    d, eta_0, period = clean.numel(), eta, max(int(0.04 * steps), 1)
    s_before = changed(start, clean) if warm else d
    share = changed(start, clean) / d / 1.5 if warm else 0.2  # k / d
    x, asked, etas = start, [start], []
    f_max, g = yield start
    x_max, g_max = start, g
    for i in range(1, steps + 1):
        u = largest(g, share)
        v = x + eta * u / (u.abs().sum() + 1e-10) - clean
        x = _project(clean + v, v, clean, eps, box, as_released)
        asked.append(x)
        etas.append(eta)
        value, g = yield x
        if value > f_max:
            x_max, f_max, g_max = x, value, g
        if i % period == 0:
            s = changed(x_max, clean)
            if s < 0.95 * s_before:
                eta, x, g = eta_0, x_max, g_max
            else:
                eta = max(eta / 1.5, eta_0 / 10)
            share, s_before = s / d / 1.5, s
    return Path(asked, etas)


def _project(z: Tensor, v: Tensor, clean: Tensor, eps: float, box: Box, as_released: bool) -> Tensor:
    """P_S(z), z being clean + v but for rounding; the released arithmetic takes from z what is too much."""
    if as_released:
        return z - v.sign() * projections.l1_shortening(v, clean, eps, box)
    return projections.l1_and_box(clean + v, clean, eps, box)


def changed(x: Tensor, clean: Tensor) -> int:
    """||x - clean||_0."""
    return int((x != clean).sum())


def largest(g: Tensor, share: float) -> Tensor:
    """sign(g) where |g| is at least the entry at place (1 - share) d of the sorted |g|, zero elsewhere."""
    d = g.numel()
    place = int(min(max((1.0 - share) * d, 0), d - 1))
    threshold = g.abs().flatten().sort().values[place]
    return g.sign() * (g.abs() >= threshold)
