"""One process of a test under torchrun: trains for a few steps and prints what the first process saw, as JSON.

python -m torch.distributed.run --nproc-per-node 2 worker.py FOLDER ddp|fsdp NOTATION
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import potemkin as pk
from potemkin.training.inner import Adversary
from potemkin.training.recipes import SGD


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip


def watch_the_attack() -> list[int]:
    """Count collective calls while the inner attack runs: there must be none."""
    calls: list[int] = []
    search, reduce = Adversary.search, dist.all_reduce
    inside = False

    def counted(*args: object, **kwargs: object) -> object:
        if inside:
            calls.append(1)
        return reduce(*args, **kwargs)  # type: ignore[arg-type]

    def watched(self: Adversary, *args: object) -> object:
        nonlocal inside
        inside = True
        try:
            return search(self, *args)  # type: ignore[arg-type]
        finally:
            inside = False

    dist.all_reduce, Adversary.search = counted, watched  # type: ignore[assignment, method-assign]
    return calls


def main() -> None:
    torch.set_num_threads(1)
    folder, parallel, recipe = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    calls = watch_the_attack()
    run = pk.train(
        net(), "digits(part='train')", recipe, out=folder, epochs=0.35, batch_size=64, parallel=parallel,
        sync_batchnorm=True, accumulate=2, audit_examples=0, evaluation_examples=32, evaluation_steps=2, log_every=1,
        optimiser=SGD(0.05),
    )  # fmt: skip
    if os.environ.get("RANK", "0") == "0":
        losses = [line.loss for line in run.journal.steps()]
        cost = run.journal.steps()[-1].cost.model_dump()
        print("SAID " + json.dumps({"losses": losses, "calls": len(calls), "cost": cost}))


if __name__ == "__main__":
    main()
