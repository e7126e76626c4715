"""What one step learns from: inputs, labels and everything that may differ between rows, on the model's device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from potemkin.core.random import RowStreams


@dataclass
class Examples:
    """B rows of the batch. A row's draws depend on (seed, example, epoch), never on the rank or the other rows."""

    x: Tensor
    """(B, *shape) inputs, augmented, in the box."""
    y: Tensor
    """(B,) int64 labels; of mixed rows the heavier one, which the attack steers by."""
    positions: Tensor
    """(B,) int64 places in the training data, on the CPU."""
    streams: RowStreams
    progress: float
    """How much of the run is over, in [0, 1)."""
    step: int = 0
    """Steps before this one."""
    seed: int = 0
    """The run's."""
    partner: Tensor | None = None
    """(B,) int64: the other label of mixed rows."""
    share: Tensor | None = None
    """(B,) weight of `y` in [1/2, 1]; the partner has the rest."""

    def __len__(self) -> int:
        return len(self.y)

    def rows(self, first: int, last: int) -> Examples:
        """The rows first..last-1."""
        cut = slice(first, last)
        return replace(
            self,
            x=self.x[cut],
            y=self.y[cut],
            positions=self.positions[cut],
            streams=RowStreams(self.streams.keys[cut]),
            partner=None if self.partner is None else self.partner[cut],
            share=None if self.share is None else self.share[cut],
        )

    def cross_entropy(self, logits: Tensor, smoothing: float = 0.0) -> Tensor:
        """(B, K) logits -> (B,) cross-entropy with the row's label, smoothed, or with its mixture of two labels."""
        own = F.cross_entropy(logits, self.y, reduction="none", label_smoothing=smoothing)
        if self.partner is None or self.share is None:
            return own
        other = F.cross_entropy(logits, self.partner, reduction="none", label_smoothing=smoothing)
        return torch.lerp(other, own, self.share)


@dataclass
class Attacked:
    """What the inner maximisation found for some rows; for all sets, one after the other, where all are learnt from."""

    points: Tensor
    """(B, *shape), inside the set that was searched and the box (N-FGSM searches a wider one than its eps)."""
    dead: Tensor
    """(B,) bool: whether no step saw a usable gradient."""
    eps: Tensor
    """(B,) the radius of each row, in its set's norm."""
    moved: Tensor
    """(B,) distance from where the attack began in units of eps, in the set's norm."""


@dataclass
class Learnt:
    """What a loss was made of."""

    loss: Tensor
    """A scalar, attached to the weights."""
    clean: Tensor | None = None
    """(B, K) logits of clean rows, detached."""
    clean_labels: Tensor | None = None
    attacked: Tensor | None = None
    """(B, K) logits of adversarial rows, detached."""
    attacked_labels: Tensor | None = None
