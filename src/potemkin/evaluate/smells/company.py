"""The same examples in another company: what shows whether an answer is the example's own."""

from __future__ import annotations

import torch
from torch import Tensor

from potemkin.core.rows import flat
from potemkin.threat.box import Box


def recompose(inputs: Tensor, rows: int, box: Box) -> tuple[Tensor, Tensor]:
    """Return (a batch of `rows` rows, where each of the first examples stands in it).

    Turning a full batch round would not do: its mean, its variance and what attention sees are the same in any order.
    So only the first half of the examples stay, at the end and in reverse; in all other rows stand strangers.

    >>> batch, places = recompose(torch.tensor([[0.25], [0.5], [1.0]]), 8, Box())
    >>> batch.flatten().tolist(), places.tolist()
    ([0.75, 1.0, 0.0, 0.75, 1.0, 0.0, 0.5, 0.25], [7, 6])
    """
    kept = inputs[: (len(inputs) + 1) // 2]
    strangers = _strangers(inputs, box)
    chosen = torch.arange(rows - len(kept)) % len(strangers)
    return torch.cat((strangers[chosen], kept.flip(0))), torch.arange(rows - 1, rows - 1 - len(kept), -1)


def _strangers(inputs: Tensor, box: Box) -> Tensor:
    """(3, ...): the first example mirrored in the box, the one that is least like it, and that one mirrored.

    The first is the padding of every batch. The mirrored ones matter where all examples are alike, and to a model that
    looks at the batch's largest value, which real examples share. Half a box has no middle: there 0 is the mirror.
    """
    apart = flat(inputs - inputs[:1]).abs().amax(dim=1)
    pair = inputs[[0, int(apart.argmax())]]
    mirrored = box.clip((box.low + box.high if box.bounded else 0.0) - pair)
    return torch.stack((mirrored[0], pair[1], mirrored[1]))
