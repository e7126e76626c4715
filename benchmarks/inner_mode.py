"""Eval or train mode while the inner attack runs: the measurement behind decision 0016.

    python benchmarks/inner_mode.py [--epochs 6] [--width 8]

Trains the same network with the same seed and recipe in both modes, on CIFAR-10, and audits each on 1,000 test images.
Writes benchmarks/results/inner_mode.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import torch

import potemkin as pk
from potemkin.models.architectures import ResNet
from potemkin.training.recipes import SGD, Flip, Shift

ATTACKS = ("apgd()", "apgd(objective=DLR(), targets=3)")


def recipe(name: str, mode: str) -> pk.recipes.Recipe:
    """One step with noise, or three steps of PGD."""
    given = {"eps": 8 / 255, "augment": (Shift(4), Flip()), "inner": mode}
    return pk.recipes.n_fgsm(**given) if name == "n_fgsm" else pk.recipes.pgd_at(steps=3, **given)


def measured(name: str, mode: str, epochs: float, width: int) -> dict[str, object]:
    """Train and audit once."""
    data = Path(os.environ["POTEMKIN_DATA"]) / "cifar10"
    torch.manual_seed(0)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = pk.train(
            ResNet(width), str(data / "train.npz"), recipe(name, mode), out=f"{folder}/run", epochs=epochs,
            optimiser=SGD(learning_rate=0.2), precision="bf16", audit_examples=0, evaluation_examples=256,
            evaluate_every=10**6,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        record = pk.audit(run.model, str(data / "test.npz"), "Linf(8/255)", ATTACKS, examples=1000)
    found = {"recipe": name, "mode": mode, "seconds": round(seconds, 1)}
    for rate in ("clean_accuracy", "robust_accuracy"):
        found[rate] = str(record.rates[rate])
    print(found, flush=True)
    return found


def main() -> None:
    """Both modes of both recipes, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=6)
    parser.add_argument("--width", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measured(name, mode, given.epochs, given.width) for name in ("n_fgsm", "pgd_at") for mode in ("eval", "train")
    ]
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, 1 thread",
        "torch": torch.__version__,
        "epochs": given.epochs,
        "width": given.width,
        "seed": 0,
        "rows": rows,
    }
    path = Path(__file__).parent / "results" / "inner_mode.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
