"""Phases: how many moves each gets, at which eps, and what may be claimed meanwhile."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import potemkin as pk
from potemkin.attacks.drive import drive
from potemkin.attacks.phases import Phases, PhaseState
from potemkin.attacks.program import Rows
from potemkin.core.random import RowStreams, row_keys
from potemkin.threat.box import Box
from potemkin.threat.goals import Aim

EPS, FEATURES = 0.5, 12
LENGTHS = {1: (1, 0, 0), 2: (1, 1, 0), 3: (1, 1, 1), 4: (2, 2, 0), 7: (3, 3, 1), 10: (3, 3, 4), 25: (8, 8, 9)}
"""ceil(0.3 N), ceil(0.3 N) and the rest, as far as there are moves."""


def logits(x: Tensor) -> Tensor:
    score = x.flatten(1) @ torch.linspace(-1, 1, FEATURES, dtype=x.dtype)
    return torch.stack((torch.zeros_like(score), score), dim=1)


def rows(steps: list[int]) -> Rows:
    count = len(steps)
    x = torch.rand(count, FEATURES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Rows(
        x=x,
        aim=Aim(torch.zeros(count, dtype=torch.int64), torch.full((count,), -1), logits(x)),
        set=pk.L1(EPS),
        region=pk.L1(EPS).around(x, Box()),
        steps=torch.tensor(steps),
        streams=RowStreams(row_keys(0, torch.arange(count), 1, torch.tensor(-1), torch.tensor(0))),
    )


def walk(batch: Rows) -> list[PhaseState]:
    """The states at every query, and the one after the last."""
    program = pk.apgd().program(2, "L1", False)
    assert isinstance(program, Phases)
    queries, _ = program.cost(int(batch.steps.max()))
    return [state for state, _ in drive(program, batch, logits, queries)]


def test_moves_are_shared_out_as_the_paper_says_row_by_row() -> None:
    """Rows of all lengths in one batch. A phase of n moves asks n + 1 times: at its start, and after each move."""
    batch = rows(list(LENGTHS))
    states = walk(batch)
    for row, lengths in enumerate(LENGTHS.values()):
        asked = sum(lengths) + len(lengths)
        phases = [int(state.phase[row]) for state in states[:asked]]
        assert phases == [phase for phase, length in enumerate(lengths) for _ in range(length + 1)]
        # Done after its last answer and not before; the other rows may go on.
        assert [bool(state.finished[row]) for state in states[: asked + 1]] == [False] * asked + [True]


@pytest.mark.parametrize("steps", LENGTHS)
def test_points_lie_in_the_ball_of_their_phase_and_only_those_of_the_real_one_are_claimable(steps: int) -> None:
    batch = rows([steps] * 8)
    outside = 0
    for state in walk(batch)[:-1]:
        lengths = (state.query - batch.x).abs().sum(dim=1)
        scale = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)[state.phase]
        assert (lengths <= scale * EPS * (1 + 1e-9)).all()
        assert torch.equal(state.claimable, batch.region.contains(state.query))
        outside += int((~state.claimable).sum())
    assert outside > 0  # the wide phases are wide
    assert math.isclose(float(lengths.max()), EPS, rel_tol=1e-3)  # and the last ends at the real radius
