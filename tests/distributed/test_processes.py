"""Two processes learn what one does: the same batches, draws and losses; sharded weights, too."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from .runs import _environment, _free_port

WORKER = Path(__file__).with_name("worker.py")
RECIPES = (
    "pgd_at(eps=0.1, steps=2, augment=(Shift(1),))",
    "kurakin(eps=HalfNormal(high=0.1, sigma=0.05), delay=0.0)",
    "trades(eps=0.1, steps=2, awp=0.005)",
)


@functools.cache
def said(world: int, parallel: str, recipe: str) -> dict[str, Any]:
    start = [sys.executable]
    if world > 1:
        start += ["-m", "torch.distributed.run", "--nproc-per-node", str(world), "--master-port", str(_free_port())]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*start, str(WORKER), f"{folder}/run", parallel, recipe],
            capture_output=True, text=True, timeout=240, env=_environment(), check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    found: dict[str, Any] = json.loads(line.removeprefix("SAID "))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_lose_what_one_with_the_whole_batch_does(parallel: str, recipe: str) -> None:
    one, two = said(1, "ddp", recipe), said(2, parallel, recipe)
    # Sums in another order: equal to float tolerance at first; where a sign of the attack flips, runs drift apart.
    assert torch.allclose(torch.tensor(one["losses"][:2]), torch.tensor(two["losses"][:2]), rtol=1e-4)
    assert torch.allclose(torch.tensor(one["losses"]), torch.tensor(two["losses"]), rtol=2e-2)
    assert one["cost"]["attack"] == two["cost"]["attack"]
    assert one["cost"]["learning"] == two["cost"]["learning"]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_the_inner_attack_reduces_nothing(parallel: str) -> None:
    assert said(2, parallel, RECIPES[0])["calls"] == 0
