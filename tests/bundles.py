"""Made-up bundles for the tests of what reads them: no model, no torch, every number consistent with the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potemkin.core.outcomes import OUTCOMES
from potemkin.evaluate.asked import DataInfo, ModelInfo, Settings, ThreatInfo
from potemkin.evaluate.bundle import BundleWriter
from potemkin.evaluate.cascade import AttackSummary
from potemkin.evaluate.costs import Cost, Costs, PurposeCosts
from potemkin.evaluate.lines import ExampleLine
from potemkin.evaluate.rates import Rate, Rates
from potemkin.evaluate.record import Record, Smell

RECIPES = ("pgd(steps=50, restarts=5)", "apgd()", "apgd(objective=DLR(), steps=100)")
EPS = 0.1

SMELLS = (
    Smell(
        name="softmax_outputs",
        severity="alarm",
        message="The outputs are probabilities: every row sums to one.",
        advice="Return the logits, and audit again: the gradient of a softmax vanishes where the model is sure.",
        evidence={"rows": 128, "largest_deviation": 1.2e-7},
    ),
    Smell(
        name="train_mode",
        severity="warning",
        message="Three layers were in train mode when the model was brought.",
        advice="Call model.eval() before the audit.",
        evidence={"layers": "bn1, bn2, dropout"},
    ),
    Smell(name="few_examples", severity="note", message="Only 40 examples.", advice="Audit more.", evidence={"n": 40}),
)


def outcomes_of(counts: Mapping[str, int]) -> list[str]:
    """Outcomes mixed evenly over the data order, the same on every machine."""
    flat = [name for name, n in counts.items() for _ in range(n)]
    return [flat[i] for i in np.random.default_rng(0).permutation(len(flat))]


def line_of(position: int, outcome: str, rng: np.random.Generator, **other: Any) -> ExampleLine:
    """One line with plausible numbers."""
    label = int(rng.integers(10))
    broken = outcome == "broken"
    wrong = (label + 1 + int(rng.integers(9))) % 10
    fields: dict[str, Any] = {
        "id": position,
        "position": position,
        "label": label,
        "prediction": wrong if outcome == "clean_wrong" else label,
        "outcome": outcome,
        "why": {"budget": "2 jobs left", "invalid": "left the set", "error": "zero gradients"}.get(outcome),
        "broken_by": RECIPES[int(rng.integers(2))] if broken else None,
        "restart": 0 if broken else None,
        "distance": EPS * float(1 - 0.3 * rng.random() ** 6) if broken else None,
        "attack_prediction": None if outcome == "clean_wrong" else wrong if broken else label,
        "clean_confidence": float(1 - rng.random() ** 3 * 0.6),
        "attack_confidence": None if outcome == "clean_wrong" else float(0.4 + 0.6 * rng.random()),
        "forwards": int(rng.integers(1, 251)),
        "backwards": int(rng.integers(0, 250)),
    }
    never = {} if broken else {"broken_by": None}  # whatever `other` says: read_bundle would refuse it
    return ExampleLine(**(fields | other | never))


def record_of(lines: Iterable[ExampleLine], shape: tuple[int, ...], **other: Any) -> Record:
    """The record that belongs to the lines."""
    lines = list(lines)
    counts = Counter(line.outcome for line in lines)
    outcomes = {name: counts[name] for name in OUTCOMES}
    n, right = len(lines), len(lines) - outcomes["clean_wrong"]
    spent = Cost(forwards=sum(line.forwards for line in lines), backwards=sum(line.backwards for line in lines))
    attacks, standing, left = [], right, outcomes["held"] + outcomes["broken"]
    for order, recipe in enumerate(RECIPES[:2]):
        tried, fell = standing, sum(line.broken_by == recipe for line in lines)
        standing, left = standing - fell, left - fell
        share = Cost(forwards=spent.forwards // (order + 2), backwards=spent.backwards // (order + 2))
        attacks.append(
            AttackSummary(
                recipe=recipe,
                order=order,
                tried=tried,
                jobs=5 * tried,
                broken=fell,
                invalid_claims=order,
                robust_accuracy_after=Rate.of(left, n),
                cost=share,
            )
        )
    physical = Cost(forwards=spent.forwards * 5 // 4, backwards=spent.backwards * 5 // 4)
    search = Cost(forwards=spent.forwards * 6 // 5, backwards=physical.backwards)
    fields: dict[str, Any] = {
        "potemkin": "0.1.0",
        "complete": True,
        "threat": ThreatInfo(
            sentence="untargeted; Linf distance at most 0.1 inside the box [0, 1]; gradients visible, "
            "unlimited queries",
            notation="Linf(0.1)",
            norm="Linf",
            eps=EPS,
            goal="Untargeted()",
            access="Access()",
            eight_bit=False,
            box=(0.0, 1.0),
        ),
        "model": ModelInfo(
            name="digits-cnn",
            fingerprint="sha256:" + "0123456789abcdef" * 4,
            parameters=21_642,
            classes=10,
            input_shape=list(shape),
        ),
        "data": DataInfo(
            name="digits", fingerprint="sha256:" + "fedcba9876543210" * 4, total=1797, examples=n, sample="first"
        ),
        "seed": 0,
        "settings": Settings(
            rows=128, stride=8, verify_rows=64, retire_cycles=True, dtype="float32", device_type="cpu"
        ),
        "attacks": attacks,
        "outcomes": outcomes,
        "rates": Rates.of(outcomes, right),
        "cost": Costs(
            useful=spent,
            physical=physical,
            speculative=Cost(forwards=210, backwards=200),
            by_purpose=PurposeCosts(clean=Cost(forwards=n), search=search, verify=Cost(forwards=n // 2)),
        ),
        "batch_fill": 0.93,
        "timing": {"seconds": 12.25},
        "environment": {"torch": "2.13.0", "python": "3.11", "command": "potemkin audit digits-cnn digits"},
    }
    return Record(**(fields | other))


def tensors_of(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A clean input that looks like something (soft blobs where it is a picture), and one eps away."""
    if len(shape) == 3:
        rows, columns = np.linspace(-1, 1, shape[1])[:, None], np.linspace(-1, 1, shape[2])[None, :]
        waves = [np.cos(3 * (rows * rng.normal() + columns * rng.normal()) + rng.normal()) for _ in range(shape[0])]
        clean = (0.5 + 0.45 * np.stack(waves)).astype(np.float32)
    else:
        clean = rng.random(shape).astype(np.float32)
    sign = np.where(rng.random(shape) < 0.5, -1.0, 1.0) * (rng.random(shape) if len(shape) == 1 else 1.0)
    return clean, np.clip(clean + EPS * sign, 0, 1).astype(np.float32)


def write_bundle(
    folder: Path,
    counts: Mapping[str, int],
    shape: tuple[int, ...] = (1, 8, 8),
    *,
    seed: int = 0,
    line: Mapping[str, Any] | None = None,
    **other: Any,
) -> Record:
    """A whole bundle; `line` replaces fields of every line, `other` fields of the record."""
    rng = np.random.default_rng(seed)
    lines = []
    with BundleWriter(folder, input_shape=shape) as writer:
        for position, outcome in enumerate(outcomes_of(counts)):
            clean, attempt = (
                tensors_of(shape, rng) if writer.wants_picture(outcome) or outcome == "broken" else (None, None)
            )
            made = line_of(position, outcome, rng, **(line or {}))
            lines.append(writer.add(made, attempt if outcome == "broken" else None, clean=clean, attempt=attempt))
        return writer.finish(record_of(lines, shape, **other))
