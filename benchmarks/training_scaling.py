"""Section d of training.py: two processes of one thread beside one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from training_common import FAST, Found, Size, settings, spread

from potemkin.training.optimisers import SGD


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
