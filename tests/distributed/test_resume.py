"""A killed run, resumed, ends with the bits of an undisturbed one: weights, statistics, average, optimiser, log.

POTEMKIN_KILLS says how many random steps are tried (2 in CI, 10 for the issue's figure).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch

from .runs import command, final_tensors, run, run_and_kill, told

KILLS = int(os.environ.get("POTEMKIN_KILLS", "2"))


def same(one: Path, other: Path) -> None:
    first, second = final_tensors(one), final_tensors(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert told(one) == told(other)


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_killed_at_random_steps(tmp_path: Path, world: int) -> None:
    undisturbed = tmp_path / "undisturbed"
    run(command(undisturbed, world=world))
    draw = random.Random(7)
    steps = sorted(draw.randint(0, 17) for _ in range(KILLS))
    killed = tmp_path / "killed"
    run_and_kill(command(killed, world=world), killed, steps[0], draw)
    for step in steps[1:]:
        run_and_kill(command(killed, world=world, resume=True), killed, step, draw)
    run(command(killed, world=world, resume=True))
    same(undisturbed, killed)


@pytest.mark.slow
def test_another_number_of_processes_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_and_kill(command(folder, world=2, more=("--parallel", "fsdp")), folder, 9, random.Random(0))
    run(command(folder, world=1, resume=True))
    losses = [line["loss"] for line in told(folder) if line["kind"] == "step"]
    assert len(losses) == 18 and all(isinstance(loss, float) for loss in losses)
    assert losses[-1] < losses[0]
