"""The objectives of the papers, per row and always maximised: f in "maximise f over S"."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (B, K) logits, (B,) labels, (B,) targets or None -> (B,)


def cross_entropy(z: Tensor, y: Tensor, t: Tensor | None) -> Tensor:
    """J(x, y) = -log p(y | x); with a target t it is -J(x, t): descending J towards t is ascending this."""
    log_p = torch.log_softmax(z, dim=1)
    rows = torch.arange(len(z))
    return -log_p[rows, y] if t is None else log_p[rows, t]


def dlr(z: Tensor, y: Tensor, t: Tensor | None) -> Tensor:
    """Difference of logits ratio, untargeted, or targeted where a target t is given.

    -(z_y - max_{i != y} z_i) / (z_pi1 - z_pi3)      -(z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2)
    with pi the order of decreasing logits. 1e-12 is the released implementation's, not the paper's.

    Source: Croce & Hein 2020, section 4, equations (6) and (7).
    """
    rows = torch.arange(len(z))
    sorted_z = z.sort(dim=1, descending=True).values
    if t is not None:
        return -(z[rows, y] - z[rows, t]) / (sorted_z[:, 0] - (sorted_z[:, 2] + sorted_z[:, 3]) / 2 + 1e-12)
    others = z.clone()
    others[rows, y] = -torch.inf
    return -(z[rows, y] - others.max(dim=1).values) / (sorted_z[:, 0] - sorted_z[:, 2] + 1e-12)


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "dlr": dlr}
