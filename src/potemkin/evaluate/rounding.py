"""How far apart rounding alone may put two answers of one model about one input."""

from __future__ import annotations

import torch
from torch import Tensor

RELATIVE, ABSOLUTE = 1e-4, 1e-5
"""Other kernels add in another order: in float32 that moved the logits of residual networks with 100 layers by less
than 1e-6 of their scale, and batch statistics moved them by 0.05 and more (tests/unit/evaluate/test_company.py asks for
a factor of ten on either side). At one row count on one CPU there was nothing to forgive at all."""
HALF = 8
"""Networks in half precision round coarser: so many units in the last place of their own dtype."""


def slack(outputs: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, K) -> (B,): 1e-4 max_k |z_bk| + 1e-5, over finite outputs; more where `dtype`, the network's, is a half one.

    Two outputs that lie closer than this are equal as far as anybody can tell on another machine or in another batch.

    >>> slack(torch.tensor([[3.0, -5.0]]), torch.float32)
    tensor([0.0005])
    """
    relative = max(RELATIVE, HALF * torch.finfo(dtype).eps)
    return relative * outputs.nan_to_num(0.0, 0.0, 0.0).abs().amax(dim=1) + ABSOLUTE


def same_answers(a: Tensor, b: Tensor) -> bool:
    """Whether all scores are equal to the last bit, NaN where the others are NaN.

    >>> nan, zero = torch.tensor([float("nan")]), torch.zeros(1)
    >>> same_answers(nan, nan), same_answers(zero, nan)
    (True, False)
    """
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
