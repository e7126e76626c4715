"""What the continuous batch saves, and what it costs. Writes benchmarks/results/engine.json.

    OMP_NUM_THREADS=1 python benchmarks/engine.py [--quick] [--only c_overhead]          needs POTEMKIN_DATA

(a) undefended network, PGD-40 at eps 0.1: forwards of the engine / of fixed batches, at the same robust accuracy; on
    Fashion-MNIST, where nearly all examples fall, and on MNIST, where more than half hold and pay in full
(b) robust network, PGD-100 and PGD-1000 at step eps/4: the same with cycle retirement, outcomes identical
(c) nothing falls and nothing cycles: wall time of the engine / wall time of a bare loop that makes the same passes

Interleaved in one process, median of 5 rounds for times; forwards are counts and need no repetition.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from nets import frozen, madry_cnn, trained
from torch import Tensor, nn

import potemkin as pk
from potemkin.data.source import Batch
from potemkin.engine.engine import Engine
from potemkin.engine.setup import Settings
from potemkin.evaluate.statistics import mcnemar
from potemkin.models.oracle import Oracle

ROWS = 128
RESULTS = Path(__file__).parent / "results" / "engine.json"


def load(name: str, part: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Pictures (n, 1, 28, 28) in [0, 1] and labels."""
    with np.load(Path(os.environ["POTEMKIN_DATA"]) / name / f"{part}.npz", allow_pickle=False) as archive:
        images, labels = archive["images"][:count], archive["labels"][:count]
    return torch.from_numpy(images).float().div(255).unsqueeze(1), torch.from_numpy(labels)


def engine(
    net: nn.Module, x: Tensor, y: Tensor, eps: float, attack: object, cycles: bool = True
) -> tuple[list[str], Oracle, float]:
    """Run the engine; return outcomes, the oracle with its counts, and seconds."""
    model = pk.Classifier(net)
    oracle = Oracle(model)
    runner = Engine(oracle, pk.ThreatModel(pk.Linf(eps)), [attack], settings=Settings(rows=ROWS, retire_cycles=cycles))
    batch = Batch(list(range(len(x))), torch.arange(len(x)), x, y)
    with model.guest():
        began = time.perf_counter()
        outcomes = [result.outcome for result in runner.run([batch])]
        seconds = time.perf_counter() - began
    return outcomes, oracle, seconds


def fixed(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, size: float) -> tuple[Tensor, int, int]:
    """The field's way: the same PGD on fixed batches, every step for every example that was right; last iterate or any
    iterate that fools counts (the kinder rule). Returns (held, forwards, backwards)."""
    held, forwards, backwards = [], 0, 0
    for start in range(0, len(x), ROWS):
        batch, labels = x[start : start + ROWS], y[start : start + ROWS]
        right = net(batch).argmax(1) == labels
        forwards += len(batch)
        generator = torch.Generator().manual_seed(start)
        point = (batch + eps * (2 * torch.rand(batch.shape, generator=generator) - 1)).clamp(0, 1)
        fooled = ~right
        for _ in range(steps):
            point = point.detach().requires_grad_()
            outputs = net(point)
            fooled |= outputs.argmax(1) != labels
            (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(outputs, labels, reduction="sum"), point)
            forwards, backwards = forwards + len(batch), backwards + len(batch)
            point = (point.detach() + size * gradient.sign()).clamp(batch - eps, batch + eps).clamp(0, 1)
        with torch.no_grad():
            fooled |= net(point).argmax(1) != labels
        forwards += len(batch)
        held.append(~fooled)
    return torch.cat(held), forwards, backwards


def undefended(data: str, count: int) -> dict[str, object]:
    """(a): at most 40 % of the forwards where nearly all examples fall (Fashion-MNIST), McNemar p > 0.05."""
    net = frozen(trained(f"{data}-plain", *load(data, "train"), net=madry_cnn(), epochs=2))
    x, y = load(data, "test", count)
    outcomes, oracle, _ = engine(net, x, y, 0.1, pk.pgd(steps=40))
    held, forwards, _ = fixed(net, x, y, 0.1, 40, 2.5 * 0.1 / 40)
    ours = torch.tensor([outcome == "held" for outcome in outcomes])
    total = sum(cost.forwards for cost in oracle.physical.values())
    return {
        "examples": count,
        "engine_forwards_physical": total,
        "fixed_batch_forwards": forwards,
        "ratio": total / forwards,
        "robust_accuracy_engine": float(ours.float().mean()),
        "robust_accuracy_fixed": float(held.float().mean()),
        "mcnemar_p": mcnemar(int((ours & ~held).sum()), int((held & ~ours).sum())),
    }


def robust(count: int, steps: int) -> dict[str, object]:
    """(b): at most 50 % (100 steps) and 8 % (1000 steps) of the fixed-batch forwards, identical outcomes."""
    net = frozen(trained("fashion-robust", *load("fashion_mnist", "train"), eps=0.1, epochs=3))
    x, y = load("fashion_mnist", "test", count)
    attack = pk.pgd(steps=steps, relative_step_size=0.25)
    outcomes, oracle, _ = engine(net, x, y, 0.1, attack)
    straight, without, _ = engine(net, x, y, 0.1, attack, cycles=False)
    total = sum(cost.forwards for cost in oracle.physical.values())
    fixed_batches = count * (steps + 2)  # computed: as many for every example, whatever it does
    return {
        "examples": count,
        "steps": steps,
        "engine_forwards_physical": total,
        "engine_without_cycles_forwards": sum(cost.forwards for cost in without.physical.values()),
        "fixed_batch_forwards": fixed_batches,
        "ratio": total / fixed_batches,
        "robust_accuracy": outcomes.count("held") / count,
        "outcomes_identical": outcomes == straight,
    }


def overhead(count: int, rounds: int, steps: int = 40) -> dict[str, object]:
    """(c): wall time within 5 % of a bare loop with the same passes: nothing falls, nothing cycles.

    Labels are the network's own predictions and the budget is tiny, so that every row holds. Everything stays switched
    on, the watch for cycles too: at this eps and these steps no row comes back (the counts of passes show it).
    """
    net = frozen(trained("mnist-plain", *load("mnist", "train"), net=madry_cnn(), epochs=2))
    x, _ = load("mnist", "test", count)
    with torch.no_grad():
        y = net(x).argmax(1)
        margin = net(x).topk(2, dim=1).values
    order = (margin[:, 0] - margin[:, 1]).argsort(descending=True)[: count // 2 // ROWS * ROWS]
    x, y = x[order], y[order]
    eps, size = 0.004, 2.5 * 0.004 / steps
    counts: dict[str, list[int]] = {}

    def bare() -> None:
        held, *counts["bare"] = fixed(net, x, y, eps, steps, size)
        assert bool(held.all())

    def ours() -> None:
        outcomes, oracle, _ = engine(net, x, y, eps, pk.pgd(steps=steps))
        passes = oracle.physical.values()
        counts["engine"] = [sum(c.forwards for c in passes), sum(c.backwards for c in passes)]
        assert set(outcomes) == {"held"}

    wall: dict[str, list[float]] = {"bare": [], "engine": []}
    processor: dict[str, list[float]] = {"bare": [], "engine": []}
    for turn in range(rounds):
        # Whoever comes second has the warmer machine: they take turns.
        for name, run in (("bare", bare), ("engine", ours))[:: 1 if turn % 2 == 0 else -1]:
            began = time.perf_counter(), time.process_time()
            run()
            wall[name].append(time.perf_counter() - began[0])
            processor[name].append(time.process_time() - began[1])
    return {
        "examples": len(x),
        "passes": counts,
        "seconds": wall,
        "processor_seconds": processor,
        "ratio": statistics.median(wall["engine"]) / statistics.median(wall["bare"]),
        "ratio_of_processor_time": statistics.median(processor["engine"]) / statistics.median(processor["bare"]),
    }


def sections(quick: bool) -> dict[str, Callable[[], dict[str, object]]]:
    """What is measured, by name."""
    return {
        "a_undefended_fashion_mnist": lambda: undefended("fashion_mnist", 256 if quick else 1000),
        "a_undefended_mnist": lambda: undefended("mnist", 256 if quick else 1000),
        "b_robust_100": lambda: robust(256 if quick else 1000, 100),
        "b_robust_1000": lambda: robust(128 if quick else 512, 1000),
        "c_overhead": lambda: overhead(256 if quick else 512, 3 if quick else 5),
    }


def main() -> None:
    """Run the sections; each is printed and written as it ends, with when it began and on what."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer examples; for a look: printed, not written")
    parser.add_argument("--only", default="", help="the sections whose names start so; the others stay as they were")
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    results: dict[str, object] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, measure in sections(options.quick).items():
        if not name.startswith(options.only):
            continue
        found = {"date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), **where(), **measure()}
        print(name, json.dumps(found, indent=2), flush=True)
        if not options.quick:
            RESULTS.parent.mkdir(exist_ok=True)
            results[name] = found
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def where() -> dict[str, object]:
    """Machine, versions and commit."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "potemkin": pk.__version__},
        "commit": commit.stdout.strip() or None,
    }


if __name__ == "__main__":
    main()
