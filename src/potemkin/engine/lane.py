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
    """One saved state per row, and the move at which it was saved (-1: not yet)."""

    leaves: tuple[Tensor, ...]
    saved_at: Tensor


@dataclass
class LaneState:
    """The program's state, and what the watch for circles remembers of each row."""

    program: Any
    anchors: Anchors | None


class Lane:
    """State of one attack over all rows of the batch; only the rows in `mask` are its own, the others are ignored."""

    def __init__(self, program: Program, rows: Rows, retire_cycles: bool) -> None:
        self.program = program
        self.retire_cycles = retire_cycles
        self.whole = self.fresh(program.start(rows))
        self.mask = torch.zeros_like(rows.steps, dtype=torch.bool)
        self.index: Tensor = torch.empty(0, dtype=torch.int64, device=rows.steps.device)

    @property
    def state(self) -> Any:
        """The program's state over all rows."""
        return self.whole.program

    def fresh(self, started: Any) -> LaneState:
        """The lane's state of rows that have just been started: nothing saved yet."""
        leaves = self.program.recurrence(started) if self.retire_cycles else None
        if leaves is None:
            return LaneState(started, None)
        return LaneState(started, Anchors(tuple(leaves), torch.full_like(started.step, -1)))

    def place(self, slots: Tensor, rows: LaneState) -> None:
        """Write new (or returning) rows into their slots."""
        self.whole = map_tensors(lambda full, new: full.index_copy(0, slots, _like(new, full)), self.whole, rows)

    def own(self, slots: list[int]) -> None:
        """Say which slots are this lane's."""
        self.index = torch.tensor(slots, dtype=torch.int64, device=self.mask.device)
        self.mask = torch.zeros_like(self.mask).index_fill_(0, self.index, True)

    def advance(self, rows: Rows, reply: Reply, going: Tensor, all_going: bool) -> Tensor:
        """Step the rows that go on, freeze the others; return (B,) bool: rows found to run in a circle."""
        stepped = self.program.step(rows, self.state, reply)
        if not all_going:
            stepped = map_tensors(lambda new, old: select(going, new, old), stepped, self.state)
        self.whole = LaneState(stepped, self.whole.anchors)
        if self.whole.anchors is None:
            return torch.zeros_like(going)
        return self._circling(self.whole.anchors, going) & going

    def _circling(self, anchors: Anchors, going: Tensor) -> Tensor:
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
        due = going & ((anchors.saved_at < 0) | (step - anchors.saved_at >= window))
        kept = tuple(
            torch.where(spread(due, leaf), leaf, saved) for leaf, saved in zip(leaves, anchors.leaves, strict=True)
        )
        self.whole = LaneState(self.state, Anchors(kept, torch.where(due, step, anchors.saved_at)))
        circling: Tensor = same & ~self.state.finished
        return circling


def _like(new: Tensor, full: Tensor) -> Tensor:
    """Rows of `new` in the width of `full` (outputs start as one NaN column where no clean logits are known)."""
    return new.to(full.dtype).expand(new.shape[0], *full.shape[1:])
