"""One process of test_gradients.py: a single step of training; the first process writes the gradient it was made with.

python -m torch.distributed.run --nproc-per-node 2 one_step.py FOLDER ddp|fsdp
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import potemkin as pk


def net() -> nn.Module:
    """Batch normalisation in the middle and at the end, so that each one's backward goes through another's."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(),
        nn.Linear(256, 12, bias=False), nn.BatchNorm1d(12), nn.Tanh(), nn.Linear(12, 10),
    )  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    folder, parallel = Path(sys.argv[1]), sys.argv[2]
    model, found = net(), {}

    def look(*_: object) -> None:
        for name, parameter in model.named_parameters():
            slope = parameter.grad
            whole = slope.full_tensor() if hasattr(slope, "full_tensor") else slope
            found[name] = whole.detach().contiguous().clone()

    register_optimizer_step_pre_hook(look)
    pk.train(
        model, "digits(part='train')", "standard()", out=folder / "run", epochs=1e-6, batch_size=64, parallel=parallel,
        sync_batchnorm=True, audit_examples=0, evaluation_examples=4, evaluation_steps=1,
    )  # fmt: skip
    if os.environ.get("RANK", "0") == "0":
        save_file(found, folder / "gradients.safetensors")


if __name__ == "__main__":
    main()
