"""Means over the steps between two lines of the log, kept on the device: a step never waits for a number."""

from __future__ import annotations

import torch
from torch import Tensor

from potemkin.training.examples import Attacked, Learnt
from potemkin.training.parallel import Processes

NAMES = ("steps", "loss", "clean", "clean_right", "attacked", "attacked_right", "searched", "dead", "moved", "eps")


class Window:
    """Sums since the last line of the log."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums = torch.zeros(len(NAMES), dtype=torch.float64, device=device)

    def add(self, learnt: Learnt, attacked: Attacked | None, share: float) -> None:
        """Take in one part of a batch that is `share` of it."""
        zero = torch.zeros((), dtype=torch.float64, device=self._device)
        values = [zero + share, learnt.loss.detach().double() * share]
        values += _right(learnt.clean, learnt.clean_labels, zero)
        values += _right(learnt.attacked, learnt.attacked_labels, zero)
        if attacked is None:
            values += [zero] * 4
        else:
            values += [zero + len(attacked.dead), attacked.dead.sum(), attacked.moved.sum(), attacked.eps.sum()]
        self._sums += torch.stack([value.double() for value in values])

    def flush(self, processes: Processes) -> dict[str, float | None]:
        """The means over all processes, None where there was nothing to take one of; the sums begin anew."""
        sums = dict(zip(NAMES, processes.total(self._sums.tolist()), strict=True))
        self._sums.zero_()

        def mean(of: str, over: str) -> float | None:
            return sums[of] / sums[over] if sums[over] else None

        return {
            "loss": mean("loss", "steps"),
            "clean_right": mean("clean_right", "clean"),
            "attacked_right": mean("attacked_right", "attacked"),
            "dead": mean("dead", "searched"),
            "moved": mean("moved", "searched"),
            "eps": mean("eps", "searched"),
        }


def _right(logits: Tensor | None, labels: Tensor | None, zero: Tensor) -> list[Tensor]:
    if logits is None or labels is None:
        return [zero, zero]
    return [zero + len(labels), (logits.argmax(dim=1) == labels).sum()]
