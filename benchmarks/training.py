"""How fast adversarial training is, side by side with others. Writes benchmarks/results/training.json.

    POTEMKIN_PEERS_PYTHON=.venv-peers/bin/python python benchmarks/training.py [--only b] [--quick] [--seconds 300]

Needs POTEMKIN_DATA (cifar10); b and c also the peers' environment, which parity/requirements.txt describes.

(a) overhead: a PGD-7 step of the trainer / the bare passes that it makes, same precision and layout; reading and
    augmenting the batch is not in the ratio that the target is for, and is given beside it
(b) peers: images per second of ART, of a loop in the style of MadryLab, and of ours; same net, data, rows, steps, eps
(c) equal time: the same seconds of training for both, by slices in turn; robust accuracy of the two networks, paired
(d) scaling: two processes of one thread each / one of one thread, same rows per step in total
(e) folding: the passes of the attack with batch normalisation as it stands / folded into the convolutions

Whatever is compared takes turns in one run and never runs at the same time; ratios are of neighbours in time. The rates
are also given per processor second, which other people's work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from engine import where
from training_against import against_peers, equal_time
from training_common import Found, Size, cifar10
from training_passes import folding, overhead
from training_scaling import scaling

RESULTS = Path(__file__).parent / "results" / "training.json"
SECTIONS: dict[str, Callable[[Size], Found]] = {
    "a_overhead": overhead,
    "b_peers": against_peers,
    "c_equal_time": equal_time,
    "d_scaling": scaling,
    "e_folding": folding,
}


def missing(name: str) -> str | None:
    """Why a section cannot be measured here."""
    if not os.environ.get("POTEMKIN_DATA") or not cifar10("train").is_file():
        return "POTEMKIN_DATA is not set to a folder with cifar10/train.npz"
    if name in ("b_peers", "c_equal_time") and not os.environ.get("POTEMKIN_PEERS_PYTHON"):
        return "POTEMKIN_PEERS_PYTHON is not set to the python of an environment as parity/requirements.txt says"
    return None


def main() -> None:
    """Run the sections; each is printed and written as it ends, with when it began and on what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="width 8, few steps; for a look: printed, not written")
    parser.add_argument("--only", default="", help="the sections whose names start so; the others stay as they were")
    parser.add_argument("--seconds", type=float, help="training time of each side in c; 300")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that what was started is ended
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    size = Size(options.seconds or 300.0)
    if options.quick:
        size = Size(options.seconds or 6.0, widths=(8,), rows=32, rounds=2, examples=32, quick=True)
    results: Found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, measure in SECTIONS.items():
        if not name.startswith(options.only):
            continue
        if why := missing(name):
            print(f"{name} is left out: {why}", flush=True)
            continue
        began = datetime.datetime.now(datetime.UTC)
        found = {"date": began.isoformat(timespec="seconds"), **where(), **measure(size)}
        found["minutes"] = round((datetime.datetime.now(datetime.UTC) - began).total_seconds() / 60, 1)
        print(name, json.dumps(found, indent=2), flush=True)
        if not options.quick:
            RESULTS.parent.mkdir(exist_ok=True)
            results[name] = found
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
