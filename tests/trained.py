"""What the tests of whole training runs share: a quick run, and what it left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import potemkin as pk
from cli_run import tiny
from potemkin.training.telling import Tick
from potemkin.training.train import Run

QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 8, "audit_examples": 0}
QUICK |= {"evaluation_examples": 16, "evaluation_steps": 2}
"""Settings of a run of a second."""

RECIPE = "pgd_at(eps=0.1, steps=2)"


def pair(count: int = 64) -> tuple[Tensor, Tensor]:
    """Inputs (N, 1, 4, 4) and labels of four classes."""
    x, y = tiny(count)
    return torch.from_numpy(x), torch.from_numpy(y)


def linear(classes: int = 4) -> nn.Sequential:
    """A network for them, always with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


def quick(out: Path, **other: Any) -> Run:
    """`pk.train` on them, in a second; what is given replaces what is usual."""
    chosen: dict[str, Any] = {"model": linear(), "data": pair(), "recipe": RECIPE, "out": out} | QUICK | other
    return pk.train(chosen.pop("model"), chosen.pop("data"), chosen.pop("recipe"), **chosen)


class Interrupted(Exception):
    """Raised by the tests in place of a kill."""


def stop_at(step: int) -> Callable[[Tick], None]:
    """For `progress`: interrupts the run after this step."""

    def look(tick: Tick) -> None:
        if tick.step == step and tick.rows:
            raise Interrupted

    return look


def log(folder: Path) -> list[dict[str, Any]]:
    """The lines of log.jsonl but for the clock, and for what only says that the run was stopped and resumed."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [line for line in lines if line.get("what") not in ("stopped", "interrupted", "resumed")]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in kept]


def checkpoints(folder: Path) -> list[str]:
    """The names of the checkpoints, oldest first."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def tensors(folder: Path) -> dict[str, Tensor]:
    """Everything that the newest checkpoint holds: weights, optimiser, average."""
    found: dict[str, Tensor] = {}
    for path in sorted((folder / "checkpoints" / checkpoints(folder)[-1]).glob("*.safetensors")):
        found |= load_file(path)
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether they hold the same bits under the same names."""
    return sorted(a) == sorted(b) and all(torch.equal(a[name], b[name]) for name in a)
