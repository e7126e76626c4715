"""How often an outcome differs between row counts. Writes benchmarks/results/invariance.json.

    python benchmarks/invariance.py [--quick]          needs POTEMKIN_DATA (mnist, fashion_mnist)

At one row count results are byte-identical (tests/e2e/test_invariance.py). Across row counts the libraries below choose
other kernels, a last bit differs, and a search can go another way: this measures how often that changes an outcome, in
float32 and in float64, on an undefended and on a robust network, for PGD with restarts and APGD.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import os
import platform
from pathlib import Path

import torch
from engine import load
from nets import mlp, trained
from torch import Tensor, nn

import potemkin as pk
from potemkin.data.source import Batch
from potemkin.engine.engine import Engine
from potemkin.engine.setup import Settings
from potemkin.models.oracle import Oracle

ROWS = (8, 64, 504)
ATTACKS = [pk.pgd(steps=20, restarts=2), pk.apgd(steps=20)]
RESULTS = Path(__file__).parent / "results" / "invariance.json"


def outcomes(net: nn.Module, x: Tensor, y: Tensor, rows: int, dtype: torch.dtype) -> list[tuple[str, int, bytes]]:
    """Per example: outcome, counted forwards, and the bytes of what was found."""
    model = pk.Classifier(copy.deepcopy(net).to(dtype))
    settings = Settings(rows=rows, verify_rows=min(rows, 32), dtype=dtype)
    runner = Engine(Oracle(model), pk.ThreatModel(pk.Linf(0.1)), ATTACKS, settings=settings)
    batch = Batch(list(range(len(x))), torch.arange(len(x)), x, y)
    with model.guest():
        return [
            (r.outcome, r.spent.forwards, b"" if r.point is None else r.point.inputs.numpy().tobytes())
            for r in runner.run([batch])
        ]


def compare(net: nn.Module, x: Tensor, y: Tensor, dtype: torch.dtype) -> dict[str, object]:
    """Share of examples whose outcome, cost or found point differs from that at the first row count."""
    runs = {rows: outcomes(net, x, y, rows, dtype) for rows in ROWS}
    first = runs[ROWS[0]]
    found: dict[str, object] = {"held": sum(o == "held" for o, _, _ in first)}
    for rows in ROWS[1:]:
        pairs = list(zip(first, runs[rows], strict=True))
        found[f"{ROWS[0]} against {rows}"] = {
            "outcome_differs": sum(a[0] != b[0] for a, b in pairs),
            "cost_differs": sum(a[1] != b[1] for a, b in pairs),
            "point_differs": sum(a[2] != b[2] for a, b in pairs),
            "n": len(pairs),
        }
    return found


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer examples; for a look, not for the record")
    quick = parser.parse_args().quick
    count = 200 if quick else 1008
    nets = {
        "mnist, undefended": (trained("mnist-small", *load("mnist", "train"), epochs=1), load("mnist", "test", count)),
        "mnist, undefended MLP": (
            trained("mnist-mlp", *load("mnist", "train"), net=mlp(), epochs=1),
            load("mnist", "test", count),
        ),
        "fashion-mnist, PGD-trained": (
            trained("fashion-robust", *load("fashion_mnist", "train"), eps=0.1, epochs=3),
            load("fashion_mnist", "test", count),
        ),
    }
    results: dict[str, object] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "potemkin": pk.__version__},
        "attacks": [repr(attack) for attack in ATTACKS],
        "quick": quick,
    }
    for name, (net, (x, y)) in nets.items():
        results[name] = {str(dtype): compare(net, x, y, dtype) for dtype in (torch.float32, torch.float64)}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
