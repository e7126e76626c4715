"""Smells: reasons to distrust a number, each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from potemkin.attacks.program import Asks, Attack
from potemkin.core.rows import flat, pad_rows
from potemkin.data.source import Batch
from potemkin.engine.engine import Settings
from potemkin.evaluate.collect import Collector
from potemkin.evaluate.record import Smell
from potemkin.evaluate.statistics import wilson
from potemkin.models.oracle import Answer, Meter, Oracle
from potemkin.threat.goals import Aim
from potemkin.threat.objectives import CrossEntropy

SUM_TOLERANCE = 1e-5
"""How close to 1 the outputs must sum to look like probabilities."""


@dataclass
class Checkup:
    """What a look at the model on the first examples showed, before any attack."""

    randomised: bool = False
    smells: list[Smell] = field(default_factory=list)


def examine(
    oracle: Oracle, batch: Batch, settings: Settings, attacks: Sequence[Attack], in_train_mode: Sequence[str]
) -> Checkup:
    """Ask the model about the first batch twice, once with a gradient, and read what its answers give away.

    Cost: 2 forwards and, where an attack asks for gradients, 1 backward on one batch, counted under "check".
    """
    device, box = oracle.classifier.device, oracle.classifier.box
    count = len(batch.ids)
    inputs = pad_rows(box.clip(batch.inputs), settings.rows).to(device, settings.dtype)
    labels = pad_rows(batch.labels, settings.rows).to(device)
    aim = Aim(labels, torch.full_like(labels, -1))
    climb = oracle.access.allows("gradients")
    meter, active = Meter.zeros(settings.rows, device), torch.arange(settings.rows, device=device) < count

    def ask(gradient: bool) -> Answer:
        def objective(outputs: Tensor) -> Tensor:
            return _safe_cross_entropy(outputs, aim)

        return oracle.ask(inputs, active=active, meter=meter, objective=objective, climb=gradient, purpose="check")

    answer = ask(climb)
    outputs, again = answer.outputs[:count], ask(False).outputs[:count]
    checkup = Checkup()
    if in_train_mode:
        checkup.smells.append(_train_mode(in_train_mode))
    if not torch.equal(torch.nan_to_num(outputs), torch.nan_to_num(again)):
        checkup.randomised = True
        checkup.smells.append(_randomised(outputs, again))
    if _sums_to_one(outputs):
        checkup.smells.append(_softmax(outputs))
    if answer.gradient is not None and any(_wants_gradients(attack) for attack in attacks):
        checkup.smells += [_detached()] if answer.detached else _zero_gradients(answer.gradient[:count])
    if not torch.equal(batch.inputs, box.clip(batch.inputs)):
        checkup.smells.append(_clipped(batch.inputs, box.clip(batch.inputs)))
    return checkup


def reflect(checkup: Checkup, collector: Collector, declared: float | None, changed: str | None) -> list[Smell]:
    """All smells of an audit: those of the first look, and those that only the results show."""
    smells = list(checkup.smells)
    if changed is not None:
        smells.append(
            Smell(
                name="model_changed", severity="alarm", message=changed, advice="No outcome of this run can be trusted."
            )
        )
    n, right = collector.n, collector.clean_right
    if declared is not None and n:
        low, high = wilson(right, n)
        if not low <= declared <= high:
            smells.append(_declared(declared, right, n, low, high))
    for outcome, advice in _UNDECIDED.items():
        count = collector.outcomes[outcome]  # type: ignore[index]
        if count:
            reasons = "; ".join(f"{why} ({times})" for why, times in collector.whys.most_common(2))
            smells.append(
                Smell(
                    name=f"{outcome}_examples",
                    severity="alarm" if outcome == "error" and count > 0.01 * n else "warning",
                    message=f"{count} of {n} examples ended as '{outcome}': {reasons}.",
                    advice=advice,
                    evidence={"examples": count, "n": n},
                )
            )
    return smells


_UNDECIDED = {
    "error": (
        "They count neither as held nor as broken. Zero gradients: use Margin() or DLR(), or an attack that needs none."
    ),
    "invalid": "An attack claimed what the verifier refused: often a randomised model, or rounding to 8 bits.",
    "budget": "They were neither broken nor shown to hold: allow more queries.",
}


def _train_mode(names: Sequence[str]) -> Smell:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Smell(
        name="train_mode",
        severity="warning",
        message=f"The model came in train mode ({shown}); it was evaluated in eval mode and put back.",
        advice=(
            "Call model.eval() yourself if that is what you mean; in train mode dropout is random and BatchNorm looks "
            "across rows."
        ),
        evidence={"modules": len(names)},
    )


def _randomised(first: Tensor, second: Tensor) -> Smell:
    return Smell(
        name="randomised",
        severity="alarm",
        message="Two forward passes on the same inputs gave different scores: the model is randomised.",
        advice=(
            "One noisy evaluation decides nothing. Fix the randomness, or evaluate with averaged gradients and "
            "repeated decisions."
        ),
        evidence={"largest_difference": float((first - second).abs().nan_to_num().max())},
    )


def _softmax(outputs: Tensor) -> Smell:
    return Smell(
        name="softmax_outputs",
        severity="warning",
        message="The model returns probabilities, not logits: every row lies in [0, 1] and sums to 1.",
        advice=(
            "Return the logits before the softmax: a second softmax flattens gradients and hides adversarial examples."
        ),
        evidence={"largest_output": float(outputs.max())},
    )


def _detached() -> Smell:
    return Smell(
        name="no_gradient_path",
        severity="alarm",
        message="The scores do not depend on the input through any differentiable path.",
        advice=(
            "An argmax, a rounding, torch.no_grad() or .detach() inside the model cuts the gradient: remove it from "
            "the model that is evaluated, or declare Access('scores') and use attacks that need no gradients."
        ),
    )


def _zero_gradients(gradient: Tensor) -> list[Smell]:
    dead = int((flat(gradient).abs().amax(dim=1) == 0).sum())
    if not dead:
        return []
    return [
        Smell(
            name="zero_gradients",
            severity="alarm" if dead == gradient.shape[0] else "warning",
            message=f"The cross-entropy's gradient is exactly zero on {dead} of the first {gradient.shape[0]} inputs.",
            advice=(
                "Gradients are masked or saturated there: add apgd(objective=DLR()) and a noise() control; look for "
                "rounding, argmax or huge logits inside the model."
            ),
            evidence={"zero": dead, "inputs": gradient.shape[0]},
        )
    ]


def _clipped(inputs: Tensor, clipped: Tensor) -> Smell:
    return Smell(
        name="outside_box",
        severity="note",
        message="Some inputs lie a rounding outside the box; they were clipped into it.",
        advice="Nothing to do, unless the box is not the one that you meant.",
        evidence={"largest_overshoot": float((inputs - clipped).abs().max())},
    )


def _declared(declared: float, right: int, n: int, low: float, high: float) -> Smell:
    return Smell(
        name="accuracy_far_from_declared",
        severity="alarm",
        message=(
            f"Clean accuracy is {100 * right / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}] (n = {n}), but "
            f"{100 * declared:.1f} % was declared."
        ),
        advice=(
            "Wrong preprocessing (mean, std, channel order), labels shifted by one, or other weights: mend that before "
            "you read the robust accuracy."
        ),
        evidence={"declared": declared, "measured": right / n},
    )


def _wants_gradients(attack: Attack) -> bool:
    return attack.program(10, "Linf", False).asks is Asks.GRADIENTS


def _sums_to_one(outputs: Tensor) -> bool:
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    return inside and bool(((outputs.sum(dim=1) - 1).abs() < SUM_TOLERANCE).all())


def _safe_cross_entropy(outputs: Tensor, aim: Aim) -> Tensor:
    """Labels beyond the model's classes are refused elsewhere, with a better message than an index error."""
    label = aim.label.clamp(0, outputs.shape[1] - 1)
    return CrossEntropy()(outputs, Aim(label, aim.target))
