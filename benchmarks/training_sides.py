"""The two sides of training.py: our trainer in this process, the peers in one of their own that waits for commands."""

from __future__ import annotations

import copy
import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import potemkin as pk
from potemkin.data.source import DataSource
from potemkin.evaluate.prepare import as_classifier
from potemkin.models.folding import Folding
from potemkin.training.assemble import judged_copy, trainer_of
from potemkin.training.optimisers import SGD, Cyclic, Flat, Schedule
from potemkin.training.parallel import Processes
from potemkin.training.recipes.base import Recipe
from potemkin.training.settings import Settings
from potemkin.training.task import Task

PATIENCE = 1200
"""Seconds that a command to the peers may take."""


@dataclass(frozen=True)
class Way:
    """How a network is computed."""

    bf16: bool = False
    channels_last: bool = False
    inner: str = "eval"

    @property
    def said(self) -> str:
        layout = "channels-last" if self.channels_last else "NCHW"
        mode = ", attacked in train mode" if self.inner == "train" else ""
        return f"{'bf16' if self.bf16 else 'float32'} {layout}{mode}"


@dataclass
class Spent:
    """What some steps took; `rows` is how many images were learnt from."""

    seconds: float
    processor: float
    rows: int
    read: float = 0.0
    """Seconds of it for reading the batch and everything else before `Trainer.step`."""


@dataclass
class Clock:
    """How much of a time budget a side has used, over all its slices."""

    budget: float
    spent: float = 0.0
    began: float = 0.0

    @property
    def share(self) -> float:
        return min(1.0, (self.spent + time.perf_counter() - self.began) / self.budget)


class ByClock(Schedule):
    """`Cyclic` over the share of the time budget, whatever the step says."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def factor(self, progress: float) -> float:
        return Cyclic().factor(self.clock.share)


class Ours:
    """The trainer that `pk.train` makes, driven step by step: reading, attack, loss, optimiser, the log's sums.

    Not part of a step here: evaluations, checkpoints and the display, which the peers have none of.
    """

    def __init__(
        self, net: nn.Module, data: DataSource, recipe: Recipe, way: Way, rows: int, lr: float, seconds: float = 0.0
    ) -> None:
        self.net, self.rows, self.clock = net, rows, Clock(seconds)
        settings = Settings(
            batch_size=rows, optimiser=SGD(learning_rate=lr), epochs=1000,
            schedule=ByClock(self.clock) if seconds else Flat(),
            precision="bf16" if way.bf16 else "float32", channels_last=way.channels_last, evaluation_examples=1,
        )  # fmt: skip
        task = Task(as_classifier(net), data, recipe, settings, validation=_few(data))
        processes = Processes(0, 1, torch.device("cpu"))
        self.trainer = trainer_of(task, Path("not-written"), processes, judged_copy(task, processes))
        self._batches = self.trainer.stream.from_step(0)

    def steps(self, count: int) -> Spent:
        read, began = 0.0, (time.perf_counter(), time.process_time())
        for _ in range(count):
            read -= time.perf_counter()
            parts = self.trainer.parts(next(self._batches))
            read += time.perf_counter()
            self.trainer.step(parts)
        return Spent(time.perf_counter() - began[0], time.process_time() - began[1], count * self.rows, read)

    def train(self, seconds: float) -> bool:
        """Train for a slice of the budget; whether any is left."""
        clock = self.clock
        clock.began = time.perf_counter()
        while clock.share < 1 and time.perf_counter() - clock.began < seconds:
            self.steps(1)
        clock.spent += time.perf_counter() - clock.began
        clock.began = time.perf_counter()
        return clock.spent < clock.budget


@torch.no_grad()
def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """The network with running statistics of its data: without, activations of the first steps in eval mode explode."""
    net.train()
    for _ in range(40):
        net(x)
    return net


def _few(data: DataSource) -> DataSource:
    """The validation data that a task must have, so that all of the training data are learnt from."""
    batch = next(iter(data.batches(2)))
    return pk.load_data((batch.inputs, batch.labels))


class Bare:
    """The passes of a PGD step and nothing else: no start, no move, no projection, no reading, always the same rows.

    They are the passes that the trainer makes: `folded`, with batch normalisation folded once and for all beforehand.
    """

    def __init__(
        self, net: nn.Module, x: Tensor, y: Tensor, way: Way, steps: int, lr: float, folded: bool = True
    ) -> None:
        self.net = copy.deepcopy(net)
        if way.channels_last:
            self.net.to(memory_format=torch.channels_last)
            x = x.contiguous(memory_format=torch.channels_last)
        self.x, self.y, self._bf16, self._steps = x, y, way.bf16, steps
        self.optimiser = SGD(learning_rate=lr).make(self.net.parameters())
        self.asked = copy.deepcopy(self.net).eval()
        if folded:
            folding = Folding.of(self.asked, x[:2], torch.bfloat16 if way.bf16 else None)
            self._folded = folding.applied()  # held, and never left: were it collected, it would unfold
            self._folded.__enter__()

    def _loss(self, net: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            logits = net(x)
        return nn.functional.cross_entropy(logits.float(), self.y)

    def attack(self) -> Spent:
        """The passes of one step's attack."""
        began = time.perf_counter(), time.process_time()
        for _ in range(self._steps):
            point = self.x.detach().requires_grad_()
            torch.autograd.grad(self._loss(self.asked, point), point)
        return Spent(time.perf_counter() - began[0], time.process_time() - began[1], len(self.x))

    def steps(self, count: int) -> Spent:
        began = time.perf_counter(), time.process_time()
        for _ in range(count):
            self.attack()
            self.net.train()
            self._loss(self.net, self.x).backward()
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        return Spent(time.perf_counter() - began[0], time.process_time() - began[1], count * len(self.x))


class Peers:
    """The peers' process: one JSON line there, one back; between commands it sleeps."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self._process, self._errors = process, errors

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **given}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._fail(f"ended before {do!r}")
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._fail(f"took more than {PATIENCE} s for {do!r}")
        line = self._process.stdout.readline()
        if not line:
            self._fail(f"ended at {do!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def steps(self, name: str, count: int) -> Spent:
        return Spent(**self.ask("steps", name=name, count=count))

    def _fail(self, why: str) -> None:
        raise RuntimeError(f"the peers' process {why}:\n{self._errors.read_text('utf-8', 'replace')[-2000:]}")


@contextmanager
def peers(folder: Path) -> Iterator[Peers]:
    """Start the peers' process in the interpreter that POTEMKIN_PEERS_PYTHON names; it is gone afterwards."""
    script, errors = Path(__file__).parent / "training_peers.py", folder / "peers.stderr.txt"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["TQDM_DISABLE"] = "1"  # ART shows progress bars, for which it should not pay
    with open(errors, "w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [os.environ["POTEMKIN_PEERS_PYTHON"], str(script), str(torch.get_num_threads())],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
        )  # fmt: skip
    try:
        yield Peers(process, errors)
    finally:
        process.terminate()  # between commands it holds nothing; in the middle of one nobody waits any more
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
