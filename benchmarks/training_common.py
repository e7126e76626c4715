"""What the sections of training.py share: the job, how much of it, and how repeats are told."""

from __future__ import annotations

import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from training_sides import Way

import potemkin as pk
from potemkin.models.architectures import ResNet
from potemkin.training.optimisers import SGD

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


def print_part(name: str, found: Found) -> Found:
    """Show a part as soon as it is known."""
    print(name, json.dumps(found, indent=2), flush=True)
    return found
