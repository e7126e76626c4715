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
import contextlib
import copy
import datetime
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from engine import where
from safetensors.torch import load_file, save_file
from training_sides import Bare, Ours, Peers, Spent, Way, peers, settled

import potemkin as pk
from potemkin.models import architectures
from potemkin.models.architectures import ResNet
from potemkin.training.optimisers import SGD

RESULTS = Path(__file__).parent / "results" / "training.json"
EPS, STEPS, SEED = 8 / 255, 7, 0
FAST = Way(bf16=True, channels_last=True)
Found = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    seconds: float
    widths: tuple[int, ...] = (64, 16)
    rows: int = 128
    rounds: int = 7
    examples: int = 1000
    quick: bool = False

    def count(self, width: int) -> int:
        """Steps per turn: long enough for the clock, short enough for neighbours."""
        return 2 if self.quick else max(1, 64 // width)


def recipe(way: Way = FAST) -> Any:
    """7 steps of eps / 4 from a random start, as in MadryLab's CIFAR-10 code."""
    return pk.recipes.pgd_at(eps=EPS, steps=STEPS, relative_step_size=0.25, inner=way.inner)


def settings(size: Size, lr: float) -> Found:
    """What all sides share."""
    return {
        "net": "ResNet", "data": "cifar10", "rows": size.rows, "norm": "Linf", "eps": "8/255", "steps": STEPS,
        "seed": SEED, "optimiser": vars(SGD(learning_rate=lr)),
    }  # fmt: skip


def cifar10(part: str) -> Path:
    return Path(os.environ["POTEMKIN_DATA"]) / "cifar10" / f"{part}.npz"


def network(width: int) -> ResNet:
    """Always the same first weights."""
    torch.manual_seed(SEED)
    return ResNet(width)


def spread(values: list[float]) -> Found:
    """Median, quartiles and extremes of some repeats."""
    quarters = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {
        "median": round(statistics.median(values), 4),
        "quartiles": [round(quarters[0], 4), round(quarters[2], 4)],
        "range": [round(min(values), 4), round(max(values), 4)],
        "repeats": len(values),
    }


# (a) ------------------------------------------------------------------------------------------------------------------


def overhead(size: Size) -> Found:
    """(a): at most 1.05. A step of ours against the mean of the bare passes right before and right after it."""
    found: Found = {"target": 1.05, **settings(size, 1e-4), "step_size": "eps / 4"}
    for width in size.widths:
        for way in (FAST, Way(channels_last=True)):
            found[f"width {width}, {way.said}"] = print_part(f"width {width}, {way.said}", _overhead(size, width, way))
    return found


def _overhead(size: Size, width: int, way: Way) -> Found:
    data = pk.load_data(cifar10("train"))
    batch = next(iter(data.batches(size.rows)))
    net = settled(network(width), batch.inputs)
    # A rate that leaves the weights where they are: saturated logits would give denormal gradients.
    ours = Ours(copy.deepcopy(net), data, recipe(way), way, size.rows, lr=1e-4)
    bare = Bare(net, batch.inputs, batch.labels, way, STEPS, lr=1e-4)
    count = size.count(width)
    ours.steps(1), bare.steps(1)
    between, own = [bare.steps(count)], []
    for _ in range(size.rounds):
        own.append(ours.steps(count))
        between.append(bare.steps(count))

    def ratios(own_time: Callable[[Spent], float], bare_time: Callable[[Spent], float]) -> Found:
        pairs = zip(own, between, between[1:], strict=False)
        return spread([own_time(each) / ((bare_time(a) + bare_time(b)) / 2) for each, a, b in pairs])

    step = ratios(lambda each: each.seconds - each.read, lambda each: each.seconds)
    return {
        "steps_per_turn": count,
        "ratio_of_step": step,
        "ratio_with_reading": ratios(lambda each: each.seconds, lambda each: each.seconds),
        "ratio_of_processor_time_with_reading": ratios(lambda each: each.processor, lambda each: each.processor),
        "seconds_per_step": round(statistics.median(each.seconds / count for each in own), 4),
        "met": step["median"] <= 1.05,
    }


# (b) ------------------------------------------------------------------------------------------------------------------

OURS = {
    f"potemkin {way.said}": way
    for way in (FAST, Way(bf16=True, channels_last=True, inner="train"), Way(channels_last=True), Way())
}
PEERS = {
    f"{kind} {way.said}": (kind, way) for way in (Way(), FAST, Way(channels_last=True)) for kind in ("madry", "art")
}
TARGETS = {  # (ours, width or None for any) -> images per second / those of a peer in float32 NCHW, as it comes
    (f"potemkin {FAST.said}", 64): 3.0,
    (f"potemkin {FAST.said}", 16): 1.8,
    (f"potemkin {Way(channels_last=True).said}", None): 1.3,
}


def against_peers(size: Size) -> Found:
    """(b): at least 3 x at width 64 and 1.8 x at width 16 for the fast path, 1.3 x in float32 eager."""
    found: Found = {**settings(size, 0.01), "step_size": "eps / 4"}
    found["notes"] = (
        "ART: the whole batch at once in the attack (its default is 32), no progress bars, data as float32 arrays "
        "beforehand, one-hot labels; bf16 and channels-last by a wrapper around the network, for ART has no such "
        "setting on a CPU. madry: gradients at the input only. ART and ours attack in eval mode, madry in train mode; "
        "the row 'attacked in train mode' is ours with inner='train'."
    )
    with tempfile.TemporaryDirectory() as temporary, peers(Path(temporary)) as others:
        found["versions_of_peers"] = others.ask("versions")
        for width in size.widths:
            found[f"width {width}"] = _against_peers(size, width, others, Path(temporary))
    return found


def _against_peers(size: Size, width: int, others: Peers, folder: Path) -> Found:
    weights, count = folder / f"{width}.safetensors", size.count(width)
    save_file(network(width).state_dict(), weights)
    data = pk.load_data(cifar10("train"))
    sides: dict[str, Callable[[int], Spent]] = {}
    forwards: dict[str, float] = {}
    for name, way in OURS.items():
        ours = Ours(network(width), data, recipe(way), way, size.rows, lr=0.01)
        ours.steps(1)  # warms up, and is counted
        meter = ours.trainer.learner.meter
        forwards[name] = (meter.attack[0] + meter.learning[0]) / size.rows
        sides[name] = ours.steps
    for name, (kind, way) in PEERS.items():
        others.ask("make", name=name, kind=kind, **_common(size, width, weights, way), lr=0.01, step_size=EPS / 4)
        forwards[name] = others.ask("passes", name=name)["forwards"]
        sides[name] = lambda count, name=name: others.steps(name, count)
    # Ours next to a peer, so that a ratio is one of neighbours.
    order = [name for pair in zip(OURS, PEERS, strict=False) for name in pair]
    order += [name for name in sides if name not in order]
    rounds: dict[str, list[Spent]] = {name: [] for name in order}
    for turn in range(size.rounds):
        for name in order[:: 1 if turn % 2 == 0 else -1]:
            rounds[name].append(sides[name](count))
    for name in PEERS:
        others.ask("drop", name=name)
    found = _rates(rounds, forwards, count, width)
    return print_part(f"width {width}", found)


def _common(size: Size, width: int, weights: Path, way: Way) -> Found:
    """What a peer is told."""
    return {
        "source": architectures.__file__, "width": width, "weights": str(weights), "data": str(cifar10("train")),
        "rows": size.rows, "eps": EPS, "steps": STEPS, "seed": SEED, "bf16": way.bf16,
        "channels_last": way.channels_last,
    }  # fmt: skip


def _rates(rounds: dict[str, list[Spent]], forwards: dict[str, float], count: int, width: int) -> Found:
    """Images per second of every side, and of every one of ours over every peer, round by round."""
    found: Found = {"steps_per_turn": count, "images_per_second": {}, "ratios": {}, "targets": {}}
    for name, spent in rounds.items():
        found["images_per_second"][name] = {
            **spread([each.rows / each.seconds for each in spent]),
            "per_processor_second": round(statistics.median(each.rows / each.processor for each in spent), 4),
            "forwards_per_image": forwards[name],
        }
    for ours in OURS:
        for peer in PEERS:
            pairs = list(zip(rounds[ours], rounds[peer], strict=True))
            found["ratios"][f"{ours} / {peer}"] = {
                **spread([b.seconds / a.seconds for a, b in pairs]),
                "of_processor_time": spread([b.processor / a.processor for a, b in pairs]),
            }
    for (ours, at), target in TARGETS.items():
        for peer, (_, way) in PEERS.items():
            if at in (None, width) and way == Way():
                ratio = found["ratios"][f"{ours} / {peer}"]["median"]
                found["targets"][f"{ours} / {peer}"] = {"target": target, "ratio": ratio, "met": ratio >= target}
    return found


# (c) ------------------------------------------------------------------------------------------------------------------

AUDIT = ("apgd()", "apgd(objective=DLR(), targets=9)")
QUICK_AUDIT = ("apgd(steps=5)", "apgd(steps=5, objective=DLR(), targets=2)")


def equal_time(size: Size, width: int = 16, lr: float = 0.1) -> Found:
    """(c): robust accuracy not lower after the same seconds. The rate is `Cyclic` over the share of the seconds used.

    Both: SGD with momentum 0.9 and weight decay 5e-4, 7 steps of 2.5 eps / 7, no augmentation, the last weights. Ours
    with what its fast path has; the peer is the madry loop in float32 NCHW.
    """
    audit = QUICK_AUDIT if size.quick else AUDIT
    with tempfile.TemporaryDirectory() as temporary, peers(Path(temporary)) as others:
        folder = Path(temporary)
        weights = folder / "first.safetensors"
        save_file(network(width).state_dict(), weights)
        own = Ours(
            network(width), pk.load_data(cifar10("train")), pk.recipes.pgd_at(eps=EPS, steps=STEPS), FAST, size.rows,
            lr, size.seconds,
        )  # fmt: skip
        others.ask("make", name="madry", kind="madry", **_common(size, width, weights, Way()), lr=lr,
                   step_size=2.5 * EPS / STEPS)  # fmt: skip
        told: Found = {"left": True}
        left, part = True, size.seconds / 20
        while left or told["left"]:
            left = left and own.train(part)
            if told["left"]:
                told = others.ask("train", name="madry", seconds=part, budget=size.seconds)
        others.ask("save", name="madry", path=str(folder / "madry.safetensors"))
        versions = others.ask("versions")
        theirs = network(width)
        theirs.load_state_dict(load_file(folder / "madry.safetensors"))
        compared = _audited(own.net, theirs, folder, audit, size.examples)
    return {
        "width": width, "seconds": size.seconds, **settings(size, lr), "step_size": "2.5 eps / 7",
        "schedule": "Cyclic() over the share of the seconds",
        "precision_potemkin": FAST.said, "precision_madry": Way().said, "audit": list(audit),
        "steps_potemkin": own.trainer.state.step, "seconds_potemkin": round(own.clock.spent, 2),
        "steps_madry": told["steps"], "seconds_madry": round(told["elapsed"], 2), "versions_of_peers": versions,
        **compared,
    }  # fmt: skip


def _audited(own: ResNet, theirs: ResNet, folder: Path, attacks: tuple[str, ...], examples: int) -> Found:
    for name, net in (("potemkin", own), ("madry", theirs)):
        plain = network(net.stem.out_channels)
        plain.load_state_dict({key: value.contiguous() for key, value in net.state_dict().items()})
        model = pk.Classifier(plain.eval(), name=name)
        pk.audit(model, cifar10("test"), pk.Linf(EPS), attacks, examples=examples, out=folder / f"audit-{name}")
    paired = pk.compare(folder / "audit-potemkin", folder / "audit-madry")
    return {
        "robust_potemkin": str(paired.robust_a), "robust_madry": str(paired.robust_b),
        "clean_potemkin": str(paired.clean_a), "clean_madry": str(paired.clean_b),
        "only_potemkin_held": paired.only_a, "only_madry_held": paired.only_b, "mcnemar_p": paired.p,
        "as_many_held": paired.only_a >= paired.only_b, "met": paired.only_a >= paired.only_b or paired.p > 0.05,
    }  # fmt: skip


# (d) ------------------------------------------------------------------------------------------------------------------


def scaling(size: Size, width: int = 16, repeats: int = 5) -> Found:
    """(d): rate of two processes / (2 x rate of one), at least 0.85; same rows per step in total.

    "without messages": two runs that know nothing of each other, half the rows each, at the same time: what the machine
    and half as many rows leave of the factor 2.
    """
    repeats, width, steps = (2, 8, 4) if size.quick else (repeats, width, 12)
    rates: dict[str, list[float]] = {"one": [], "two": [], "two without messages": []}
    work: dict[str, list[float]] = {name: [] for name in rates}
    for turn in range(repeats):
        for name in list(rates)[:: 1 if turn % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory() as folder:
                rate, processor = _rate(name, Path(folder), width, size.rows, steps)
            rates[name].append(rate)
            work[name].append(processor)
    shares = [two / (2 * one) for one, two in zip(rates["one"], rates["two"], strict=True)]
    alone = [two / (2 * one) for one, two in zip(rates["one"], rates["two without messages"], strict=True)]
    return {
        "width": width, **settings(size, SGD().learning_rate), "step_size": "eps / 4",
        "steps_timed": steps, "skipped": SKIP, "threads_per_process": 1,
        "precision": FAST.said, "target": 0.85,
        "images_per_second": {name: spread(values) for name, values in rates.items()},
        "processor_seconds_per_step": {name: spread(values) for name, values in work.items()},
        "efficiency": spread(shares), "efficiency_without_messages": spread(alone),
        "efficiency_of_medians": round(
            statistics.median(rates["two"]) / (2 * statistics.median(rates["one"])), 4
        ),
        "met": statistics.median(shares) >= 0.85,
    }  # fmt: skip


SKIP = 3
LIMIT = 900
"""Seconds that one run may take."""


def _rate(name: str, folder: Path, width: int, rows: int, steps: int) -> tuple[float, float]:
    """Images per second of all processes together, and their processor seconds per `rows` images; median steps."""
    script, one = str(Path(__file__).parent / "training_worker.py"), [sys.executable]
    end = ["--width", str(width), "--skip", str(SKIP), "--steps", str(steps), "--rows"]
    if name == "one":
        commands = [[*one, script, str(folder), *end, str(rows)]]
    elif name == "two":
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        commands = [[*one, *launch, script, str(folder), *end, str(rows)]]
    else:
        commands = [[*one, script, str(folder / side), *end, str(rows // 2)] for side in ("a", "b")]
        for side in ("a", "b"):
            (folder / side).mkdir()
    with _running(commands, folder) as processes:
        for process in processes:
            process.wait(LIMIT)
            if process.returncode:
                raise RuntimeError(
                    f"{name}: ended with {process.returncode}\n{(folder / 'said.txt').read_text()[-2000:]}"
                )
    written = {path: json.loads(path.read_text()) for path in folder.rglob("rank-*.json")}
    # Under DDP every process's step is the common one; apart, each has half the rows.
    steps_taken = [each for path, each in written.items() if path.name == "rank-0.json"]
    rate = sum(rows / len(steps_taken) / statistics.median(each["seconds"]) for each in steps_taken)
    return rate, sum(statistics.median(each["processor"]) for each in written.values())


@contextlib.contextmanager
def _running(commands: list[list[str]], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes of one thread, each with a group of its own, which is ended with it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes: list[subprocess.Popen[bytes]] = []
    with open(folder / "said.txt", "wb") as said:
        try:
            for command in commands:
                processes.append(
                    subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
                )
            yield processes
        finally:
            _end([process for process in processes if process.poll() is None])


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Politely first: torchrun ends the processes that it started, which are in sessions of their own."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


# (e) ------------------------------------------------------------------------------------------------------------------


def folding(size: Size) -> Found:
    """(e): what `fold` is worth, passes of the attack alone."""
    batch = next(iter(pk.load_data(cifar10("train")).batches(size.rows)))
    found: Found = {"net": "ResNet", "rows": size.rows, "passes": STEPS}
    for width in size.widths:
        for way in (FAST, Way(channels_last=True)):
            net = settled(network(width), batch.inputs)
            sides = [Bare(net, batch.inputs, batch.labels, way, STEPS, 1e-4, folded) for folded in (False, True)]
            for side in sides:
                side.attack()
            ratios = [sides[0].attack().seconds / sides[1].attack().seconds for _ in range(size.rounds)]
            found[f"width {width}, {way.said}"] = spread(ratios)
    return found


# ----------------------------------------------------------------------------------------------------------------------


def print_part(name: str, found: Found) -> Found:
    """Show a part as soon as it is known."""
    print(name, json.dumps(found, indent=2), flush=True)
    return found


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
