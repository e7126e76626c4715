"""What the tests of the command line share: one call in this process, and the little things that users bring."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potemkin.cli.main import main

MODELS = '''
import os
import signal
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    """Linear scores on (B, 1, 4, 4): class k looks at its own four pixels."""

    def __init__(self, classes=4):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(16).reshape(4, 4, 16).sum(1)[:classes].clone())

    def scores(self, x):
        return F.linear(x.flatten(1), self.weight) * 4

    def forward(self, x):
        return self.scores(x)


def good():
    return Net().eval()


class AsDict(Net):
    def forward(self, x):
        return {"logits": self.scores(x), "features": x}


class AsTuple(Net):
    def forward(self, x):
        return self.scores(x), x


class AsMap(Net):
    def forward(self, x):
        return self.scores(x)[:, :, None, None].expand(-1, -1, 2, 2)


class Decided(Net):
    def forward(self, x):
        return self.scores(x).argmax(1)


class Mixed(Net):
    def forward(self, x):
        return self.scores(x).flatten(0)[None]


class Writes(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.scores(x)


class WritesLater(Net):
    """Behaves while it is looked at, and changes itself under a full batch."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if len(x) > 8:
            self.calls += 1
        return self.scores(x)


class Full(Net):
    def forward(self, x):
        if len(x) > 8:
            raise torch.OutOfMemoryError("tried to allocate 640 GiB")
        return self.scores(x)


class Breaks(Net):
    def forward(self, x):
        if len(x) > 8:
            raise IndexError("index 7 is out of bounds for dimension 0 with size 3")
        return self.scores(x)


class Chatty(Net):
    def forward(self, x):
        print("a line of the model's own")
        return self.scores(x)


class Slow(Net):
    """Says every call on stderr, and takes its time: something to interrupt."""

    def forward(self, x):
        print("called", file=sys.stderr, flush=True)
        time.sleep(0.02)
        return self.scores(x)


class Stops(Net):
    """Presses Ctrl-C at its 60th call."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 60:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return self.scores(x)


class LooksAround(Net):
    """Takes a little of the batch's mean off: right alone, another model in every company."""

    def forward(self, x):
        return self.scores(x - 0.1 * x.mean(dim=0))


class Noisy(Net):
    def forward(self, x):
        return self.scores(x) + 1e-3 * torch.randn(len(x), 1)


class Detached(Net):
    def forward(self, x):
        return self.scores(x.detach())


class NotFinite(Net):
    def forward(self, x):
        return self.scores(x) * float("nan")


def needs(width):
    return Net()


def fails():
    raise RuntimeError("no such checkpoint")


def nothing():
    return None


def a_class():
    return Net


def no_data():
    raise OSError("the share is not mounted")
'''


@dataclass(frozen=True)
class Answer:
    """What one call said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON object that it must be."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The paragraph of the error: there is exactly one, and it comes last."""
        lines = self.err.splitlines()
        assert lines, "nothing on stderr"
        assert lines[-1].startswith("error: "), self.err
        assert sum(line.startswith("error: ") for line in lines) == 1, self.err
        return lines[-1].removeprefix("error: ")


Cli = Callable[..., Answer]
"""Runs the words of one command line."""


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Answer:
    """One command line, in this process."""
    capsys.readouterr()
    code = main(list(words))
    captured = capsys.readouterr()
    return Answer(code, captured.out, captured.err)


def tiny(count: int = 16, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (N, 1, 4, 4) in [0, 1] on which `Net` is right: the row of the label is brighter, by more or less."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    images = 0.4 + 0.2 * rng.random((count, 1, 4, 4))
    images[np.arange(count), 0, labels] += rng.uniform(0.1, 0.4, (count, 1))
    return images.astype(np.float32), labels.astype(np.int64)


def save(path: Path, inputs: np.ndarray, labels: np.ndarray) -> None:
    """An npz as a user would write it."""
    np.savez_compressed(path, x=inputs, y=labels)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below, with its bytes (what Python caches of a user's module aside), and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"a folder"
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }
