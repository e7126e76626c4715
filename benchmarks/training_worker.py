"""One training run whose steps are timed, for training.py: alone, or one of several under torchrun.

    torchrun --nproc-per-node 2 training_worker.py FOLDER --width 16 --rows 128 --skip 3 --steps 10

`pk.train` as a user calls it, bf16 and channels-last. Each process writes FOLDER/rank-R.json: the seconds, wall and
processor, of every step after the first `skip`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import pairwise
from pathlib import Path

import torch

import potemkin as pk
from potemkin.models.architectures import ResNet


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("width", "rows", "skip", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = pk.load_data(Path(os.environ["POTEMKIN_DATA"]) / "cifar10" / "train.npz")
    few = next(iter(data.batches(2)))
    ends: list[tuple[float, float]] = []
    # One more at the end, in which the last checkpoint and evaluation are made.
    steps = given.skip + given.steps + 1
    pk.train(
        ResNet(given.width), data, pk.recipes.pgd_at(eps=8 / 255, steps=7, relative_step_size=0.25),
        out=given.folder / "run", validation=(few.inputs, few.labels), epochs=steps / (len(data) // given.rows),
        batch_size=given.rows, precision="bf16", evaluation_examples=2, evaluation_steps=1, evaluate_every=10**9,
        checkpoint_every=10**9, log_every=10**9, audit_examples=0,
        progress=lambda tick: ends.append((time.perf_counter(), time.process_time())),
    )  # fmt: skip
    ends = ends[given.skip - 1 : given.skip + given.steps]
    wall, processor = ([b - a for a, b in pairwise(each)] for each in zip(*ends, strict=True))
    rank = os.environ.get("RANK", "0")
    (given.folder / f"rank-{rank}.json").write_text(json.dumps({"seconds": wall, "processor": processor}))


if __name__ == "__main__":
    main()
