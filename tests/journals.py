"""Made-up training runs for the tests of what reads them: no model, no torch, curves as the literature draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from potemkin.training.journal import (
    AlarmLine,
    AnyLine,
    Brought,
    Cost,
    EvaluationLine,
    MarkLine,
    Passes,
    RunInfo,
    StepLine,
    append,
    write_info,
)

SENTENCE = "untargeted; Linf distance at most 0.1 inside the box [0, 1]; gradients visible, unlimited queries"


def info_of(**other: Any) -> RunInfo:
    """run.json as a run on the digits would have it."""
    fields: dict[str, Any] = {
        "potemkin": "0.2.0",
        "recipe": "pgd_at(eps=0.1, steps=10)",
        "threat": SENTENCE,
        "threat_notation": "Linf(0.1)",
        "settings": {"batch": 128, "optimiser": "sgd", "schedule": "piecewise", "average": 0.999, "flip": True},
        "model": Brought(spec="digits-cnn", name="digits-cnn", fingerprint="sha256:" + "0123456789abcdef" * 4),
        "data": Brought(spec="digits", name="digits", details={"classes": 10, "shape": [1, 8, 8]}),
        "validation": Brought(spec=None, name="digits, held out", details={"examples": 500}),
        "seed": 0,
        "steps": 3000,
        "steps_per_epoch": 100,
        "examples": 12_800,
        "world": 1,
        "threads": 2,
        "environment": {"torch": "2.13.0", "python": "3.11", "device": "cpu"},
        "command": "potemkin train digits-cnn digits --recipe 'pgd_at(eps=0.1, steps=10)' --out runs/a",
    }
    return RunInfo(**(fields | other))


def step_of(step: int, total: int = 3000, per_epoch: int = 100, **other: Any) -> StepLine:
    """A line of a run whose loss falls."""
    done = step / total
    wobble = math.sin(step * 1.7) * 0.06
    fields: dict[str, Any] = {
        "step": step,
        "epoch": step / per_epoch,
        "loss": 0.5 + 1.8 * math.exp(-4 * done) + wobble,
        "learning_rate": 0.1 if done < 0.5 else 0.01 if done < 0.75 else 0.001,
        "eps": 0.1,
        "clean_right": 0.9 - 0.6 * math.exp(-5 * done) + wobble / 4,
        "attacked_right": 0.7 - 0.55 * math.exp(-5 * done) + wobble / 4,
        "dead": 0.002,
        "moved": 0.93,
        "cost": Cost(
            attack=Passes(forwards=1280 * step, backwards=1280 * step),
            learning=Passes(forwards=128 * step, backwards=256 * step),
            evaluation=Passes(forwards=210 * step, backwards=200 * step),
        ),
        "seconds": 0.35 * step,
    }
    return StepLine(**(fields | other))


def evaluation_of(
    epoch: float, part: Literal["train", "validation"], shares: Mapping[str, float], n: int = 500, **other: Any
) -> EvaluationLine:
    """An evaluation with these shares of n."""
    counts = {name: round(n * share) for name, share in shares.items()}
    return EvaluationLine(
        **({"step": round(100 * epoch), "epoch": epoch, "part": part, "weights": "current", "n": n} | counts | other)
    )


def healthy(epochs: int = 30, weights: tuple[str, ...] = ("current",)) -> list[AnyLine]:
    """Robust accuracy climbs and overfits a little after the learning rate drops."""
    lines: list[AnyLine] = []
    for epoch in range(1, epochs + 1):
        lines += [step_of(100 * epoch - 100 + at) for at in (25, 50, 75, 100)]
        done = epoch / epochs
        grown, late = 1 - math.exp(-4 * done), max(0.0, done - 0.6)
        for kind in weights:
            for part, lift in (("train", 0.04 + 0.25 * late), ("validation", -0.1 * late)):
                clean, robust = 0.35 + 0.55 * grown + lift / 2, 0.12 + 0.42 * grown + lift
                shares = {"clean": clean, "robust": robust, "training_attack": robust + 0.03, "one_step": robust + 0.07}
                lines.append(evaluation_of(epoch, part, shares, weights=kind))  # type: ignore[arg-type]
    return [*lines, MarkLine(step=100 * epochs, epoch=float(epochs), what="finished", message="all steps done")]


ALARM = AlarmLine(
    step=1700,
    epoch=17.0,
    name="catastrophic_overfitting",
    message="Accuracy under one step rose to 88.2 % while accuracy under the multi-step check fell to 1.4 % (n = 500).",
    advice="Go back to the weights of epoch 16, and train with random starts and a smaller step, or with more steps.",
    evidence={"one_step": 0.882, "robust": 0.014, "n": 500},
    action="rolled back",
)


def overfitting(epochs: int = 30) -> list[AnyLine]:
    """At epoch 17 the one-step attack loses its teeth: the model learnt to bend the gradient."""
    lines: list[AnyLine] = [MarkLine(step=400, epoch=4.0, what="resumed", message="after a kill")]
    for epoch in range(1, epochs + 1):
        lines += [step_of(100 * epoch - 50), step_of(100 * epoch)]
        fallen = epoch >= 17
        grown = 1 - math.exp(-epoch / 8)
        for part, lift in (("train", 0.03), ("validation", 0.0)):
            robust = 0.014 if fallen else 0.1 + 0.35 * grown + lift
            easy = 0.86 + lift if fallen else robust + 0.05
            clean = 0.45 + 0.45 * grown
            shares = {"clean": clean, "robust": robust, "training_attack": easy, "one_step": easy + 0.02}
            lines.append(evaluation_of(epoch, part, shares))  # type: ignore[arg-type]
        if epoch in (17, 18, 22):
            lines.append(ALARM.model_copy(update={"epoch": float(epoch), "step": 100 * epoch}))
            lines.append(MarkLine(step=100 * epoch, epoch=float(epoch), what="rolled back", message="to epoch 16"))
    leak = {"name": "label_leaking", "epoch": 24.0, "step": 2400, "action": "told"}
    lines.append(ALARM.model_copy(update=leak))
    finished = MarkLine(step=100 * epochs, epoch=float(epochs), what="finished", message="all steps done")
    return [*sorted(lines, key=lambda line: line.step), finished]


def huge(steps: int = 100_000, evaluations: int = 300) -> list[AnyLine]:
    """A long run, with a loss that is no number for a while and huge for another."""
    lines: list[AnyLine] = []
    every = steps // evaluations
    for step in range(1, steps + 1):
        odd = {"loss": None} if 0.4 < step / steps < 0.45 else {"loss": 1e7} if step == steps // 5 else {}
        lines.append(step_of(step, steps, 1000, **odd))
        if step % every == 0:
            shares = {"clean": 0.8, "robust": 0.4 + 0.1 * math.sin(step), "training_attack": 0.5, "one_step": 0.6}
            for part in ("train", "validation"):
                lines.append(evaluation_of(step / 1000, part, shares, step=step))  # type: ignore[arg-type]
    return lines


def write_run(folder: Path, lines: list[AnyLine], **other: Any) -> Path:
    """A run's folder with these lines."""
    write_info(folder, info_of(**other))
    append(folder, lines)
    return folder
