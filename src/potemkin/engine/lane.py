"""A lane: the rows of the batch that run one attack, and the watch for rows that run in circles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.program import Program, Reply, Rows, map_tensors
from potemkin.core.rows import flat, select, spread

WINDOW = 8
"""Moves between two saved states of a row, at least; a quarter of the row's moves once that is more."""


@dataclass
class Anchors:
    """One saved state per row, and the move at which it was saved."""

    leaves: list[Tensor]
    saved_at: Tensor


class Lane:
    """State of one attack over all rows of the batch; only the rows in `mask` are its own, the others are ignored."""

    def __init__(self, program: Program, rows: Rows, retire_cycles: bool) -> None:
        self.program = program
        self.state: Any = program.start(rows)
        self.mask = torch.zeros_like(rows.steps, dtype=torch.bool)
        self.index: Tensor = torch.empty(0, dtype=torch.int64, device=rows.steps.device)
        self.anchors = self._first_anchors() if retire_cycles else None

    def place(self, slots: Tensor, fresh: Any) -> None:
        """Write the states of new (or returning) rows into their slots."""
        self.state = map_tensors(lambda full, new: full.index_copy(0, slots, _like(new, full)), self.state, fresh)
        if self.anchors is not None:
            # A move that no row has made: the first comparison can not succeed.
            self.anchors.saved_at = self.anchors.saved_at.index_fill(0, slots, -1)

    def own(self, slots: list[int]) -> None:
        """Say which slots are this lane's."""
        self.index = torch.tensor(slots, dtype=torch.int64, device=self.mask.device)
        self.mask = torch.zeros_like(self.mask).index_fill_(0, self.index, True)

    def advance(self, rows: Rows, reply: Reply, going: Tensor, all_going: bool) -> Tensor:
        """Step the rows that go on, freeze the others; return (B,) bool: rows found to run in a circle."""
        stepped = self.program.step(rows, self.state, reply)
        if all_going:
            self.state = stepped
        else:
            self.state = map_tensors(lambda new, old: select(going, new, old), stepped, self.state)
        if self.anchors is None:
            return torch.zeros_like(going)
        return self._circling(self.anchors) & going

    def _first_anchors(self) -> Anchors | None:
        leaves = self.program.recurrence(self.state)
        if leaves is None:
            return None
        return Anchors([torch.zeros_like(leaf) for leaf in leaves], torch.full_like(self.state.step, -1))

    def _circling(self, anchors: Anchors) -> Tensor:
        """Compare with the saved state; then save anew in the rows whose window is over.

        The window depends on the row's own moves alone, so when a row retires does not depend on the schedule.
        """
        leaves = self.program.recurrence(self.state) or []
        step = self.state.step
        same = anchors.saved_at >= 0
        for leaf, saved in zip(leaves, anchors.leaves, strict=True):
            # Zero exactly where the states are equal; a NaN is equal to nothing. Faster than comparing each coordinate.
            same = same & (flat(leaf - saved).abs().amax(dim=1) == 0)
        window = torch.div(step, 4, rounding_mode="floor").clamp_min(WINDOW)
        due = (anchors.saved_at < 0) | (step - anchors.saved_at >= window)
        anchors.leaves = [
            torch.where(spread(due, leaf), leaf, saved) for leaf, saved in zip(leaves, anchors.leaves, strict=True)
        ]
        anchors.saved_at = torch.where(due, step, anchors.saved_at)
        circling: Tensor = same & ~self.state.finished
        return circling


def _like(new: Tensor, full: Tensor) -> Tensor:
    """Rows of `new` in the width of `full` (outputs start as one NaN column where no clean logits are known)."""
    return new.to(full.dtype).expand(new.shape[0], *full.shape[1:])
