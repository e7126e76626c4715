"""Training runs as processes of their own: started, watched, killed, resumed, compared."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

NET = '''
import torch
from torch import nn

def net():
    """Batch normalisation and dropout: what a resume forgets first."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10),
    )
'''
RECIPE = "pgd_at(eps=0.1, steps=2, augment=(Shift(1),), average=EMA(0.9))"
ALWAYS = ["audit_examples=0", "evaluation_examples=32", "evaluation_steps=2", "log_every=1", "checkpoint_every=4"]


def command(folder: Path, *, world: int = 1, resume: bool = False, more: tuple[str, ...] = ()) -> list[str]:
    """A run of 18 steps on the embedded digits in `folder`, alone or under torchrun."""
    start = [sys.executable, "-m"]
    if world > 1:
        start += ["torch.distributed.run", "--nproc-per-node", str(world), "--master-port", str(_free_port()), "-m"]
    start += ["potemkin", "train"]
    if resume:
        return [*start, "--resume", str(folder)]
    (folder.parent / "nets.py").write_text(NET)
    settings = [word for setting in ALWAYS for word in ("--set", setting)]
    return [
        *start, f"{folder.parent / 'nets.py'}:net", "digits", "--recipe", RECIPE, "--epochs", "1", "--batch-size", "64",
        "--optimiser", "AdamW(learning_rate=0.002)", "--device", "cpu", "--out", str(folder), *settings, *more,
    ]  # fmt: skip


def run(words: list[str], seconds: float = 150) -> str:
    """Run to the end; the output, where it failed in the assertion."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, env=_environment(), check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout + done.stderr


def run_and_kill(words: list[str], folder: Path, step: int, draw: random.Random, seconds: float = 150) -> None:
    """Start, wait until the log has come to `step` and a little longer, and kill every process with SIGKILL."""
    process = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(), start_new_session=True
    )
    end = time.monotonic() + seconds
    while newest_step(folder) < step and process.poll() is None:
        assert time.monotonic() < end, "the run did not come to that step"
        time.sleep(0.005)
    time.sleep(draw.random() * 0.05)
    for number in [process.pid, *_descendants(process.pid)]:  # torchrun puts its workers into sessions of their own
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


def _descendants(parent: int) -> list[int]:
    try:
        children = [int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    except OSError:
        return []
    return [number for child in children for number in (child, *_descendants(child))]


def newest_step(folder: Path) -> int:
    """The last step in the log; -1 before there is one."""
    try:
        lines = (folder / "log.jsonl").read_text().splitlines()
        return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=-1)
    except (FileNotFoundError, ValueError):
        return -1


def final_tensors(folder: Path) -> dict[str, Tensor]:
    """Weights, running statistics, average and optimiser of the newest checkpoint, and the exported weights."""
    newest = max((folder / "checkpoints").glob("step-*"))
    # Which process writes a tensor that all of them have may differ from run to run.
    found = {name: tensor for path in sorted(newest.glob("*.safetensors")) for name, tensor in load_file(path).items()}
    assert found, "the checkpoint is empty"
    return found | {f"exported {name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}


def told(folder: Path) -> list[dict[str, object]]:
    """The log without clocks and without what says that the run was resumed."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line.get("what") != "resumed"]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in kept]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
