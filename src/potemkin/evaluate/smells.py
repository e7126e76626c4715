"""Smells: reasons to distrust a number, each with what to do about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from potemkin.attacks.program import Asks, Attack
from potemkin.core.rows import flat, pad_rows
from potemkin.data.source import Batch
from potemkin.engine.engine import Settings
from potemkin.evaluate.collect import Collector
from potemkin.evaluate.record import Outcome, Smell
from potemkin.evaluate.statistics import wilson
from potemkin.models.oracle import Answer, Meter, Oracle
from potemkin.threat.goals import Aim
from potemkin.threat.objectives import CrossEntropy

SUM_TOLERANCE = 1e-5
"""How close to 1 the outputs must sum to look like probabilities."""
FEW = 20
"""Below this many examples, an accuracy near chance is no news: the interval of any rate is wide."""


@dataclass
class Checkup:
    """What a look at the model on the first examples showed, before any attack."""

    randomised: bool = False
    smells: list[Smell] = field(default_factory=list)


def examine(
    oracle: Oracle, batch: Batch, settings: Settings, attacks: Sequence[Attack], in_train_mode: Sequence[str]
) -> Checkup:
    """Ask the model about the first batch twice, in the same way, and read what its answers give away.

    Both asks take a gradient, or neither does: without one, some layers go another way (a transformer's fast path),
    which rounds otherwise and is no randomness.

    Cost: 2 forwards and, where the adversary sees gradients, 2 backwards on one batch, counted under "check".
    """
    device, box = oracle.classifier.device, oracle.classifier.box
    count = len(batch.ids)
    inputs = pad_rows(box.clip(batch.inputs), settings.rows).to(device, settings.dtype)
    labels = pad_rows(batch.labels, settings.rows).to(device)
    aim = Aim(labels, torch.full_like(labels, -1))
    climb = oracle.access.allows("gradients")
    meter, active = Meter.zeros(settings.rows, device), torch.arange(settings.rows, device=device) < count

    def ask() -> Answer:
        def objective(outputs: Tensor) -> Tensor:
            return _safe_cross_entropy(outputs, aim)

        return oracle.ask(inputs, active=active, meter=meter, objective=objective, climb=climb, purpose="check")

    answer = ask()
    outputs, again = answer.outputs[:count], ask().outputs[:count]
    checkup = Checkup()
    if in_train_mode:
        checkup.smells.append(_train_mode(in_train_mode))
    if not torch.equal(torch.nan_to_num(outputs), torch.nan_to_num(again)):
        checkup.randomised = True
        checkup.smells.append(_randomised(outputs, again))
    if _sums_to_one(outputs):
        checkup.smells.append(_softmax(outputs))
    if not any(_wants_gradients(attack) for attack in attacks):
        checkup.smells.append(_only_controls())
    if answer.gradient is not None and any(_wants_gradients(attack) for attack in attacks):
        checkup.smells += [_detached()] if answer.detached else _zero_gradients(answer.gradient[:count])
    if not torch.equal(batch.inputs, box.clip(batch.inputs)):
        checkup.smells.append(_clipped(batch.inputs, box.clip(batch.inputs)))
    if math.isinf(box.high - box.low) and _looks_normalised(batch.inputs):
        checkup.smells.append(_normalised(batch.inputs))
    return checkup


def reflect(
    checkup: Checkup,
    collector: Collector,
    declared: float | None,
    changed: str | None,
    classes: int,
) -> list[Smell]:
    """All smells of an audit: those of the first look, and those that only the results show.

    `classes` is how many the model tells apart: guessing is right once in so many times.
    """
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
    if n >= FEW and wilson(right, n)[0] <= 1 / classes:
        smells.append(_at_chance(right, n, classes))
    smells += [_undecided(outcome, collector) for outcome in _UNDECIDED if collector.outcomes[outcome]]
    return smells


def _undecided(outcome: Outcome, collector: Collector) -> Smell:
    """That examples ended without a decision, for which reasons, and what helps against these."""
    count, n = collector.outcomes[outcome], collector.n
    whys = Counter({why: times for (ended, why), times in collector.whys.items() if ended == outcome})
    reasons = "; ".join(f"{why} ({times})" for why, times in whys.most_common(2))
    if len(whys) > 2:
        reasons += f"; and {len(whys) - 2} more kinds of reason"
    advice = [_UNDECIDED[outcome]]
    if outcome == "error" and (on_target := sum(whys[why] for why in whys if _ON_TARGET in why)):
        leave = "An example whose true class is the target cannot be steered there: leave such examples out."
        advice = [leave] if on_target == count else [leave, *advice]
    return Smell(
        name=f"{outcome}_examples",
        severity="alarm" if outcome == "error" and count > 0.01 * n else "warning",
        message=f"{count} of {n} examples ended as '{outcome}': {reasons or 'no reason was given'}.",
        advice=" ".join(advice),
        evidence={"examples": count, "n": n},
    )


_ON_TARGET = "the true class is the target itself"
_UNDECIDED: dict[Outcome, str] = {
    "error": (
        "They count neither as held nor as broken. Zero gradients: use Margin() or DLR(), or an attack that needs none."
    ),
    "invalid": "An attack claimed what the verifier refused: often a randomised model, or rounding to 8 bits.",
    "budget": "They were neither broken nor shown to hold: allow more queries.",
}


def _train_mode(names: Sequence[str]) -> Smell:
    """Only forgotten where it is the whole model; where it is a part, somebody may have meant it."""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    if any(name.startswith(_ROOT) for name in names):
        return Smell(
            name="train_mode",
            severity="note",
            message="The model came in train mode; it was evaluated in eval mode, and put back.",
            advice="Call .eval() where you make it, and this note is gone.",
            evidence={"modules": len(names)},
        )
    return Smell(
        name="train_mode",
        severity="warning",
        message=f"Parts of the model came in train mode ({shown}); all was evaluated in eval mode, and put back.",
        advice=(
            "Call .eval() on the whole model where you make it. If these parts are meant to stay in train mode (random "
            "dropout, BatchNorm across rows), then this is not the model that you use."
        ),
        evidence={"modules": len(names)},
    )


_ROOT = "the model itself"  # how models.guest names it


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


def _only_controls() -> Smell:
    return Smell(
        name="only_controls",
        severity="warning",
        message="Only random-noise controls ran: nothing searched for an adversarial input.",
        advice="Add an attack, for example pgd() or apgd(): what withstands noise alone is not robust.",
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


def _looks_normalised(inputs: Tensor) -> bool:
    if inputs.dim() != 4 or inputs.shape[1] not in (1, 3):
        return False
    values = inputs.double()
    mean, std = float(values.mean()), float(values.std(correction=0))
    return float(values.min()) < 0 and abs(mean) < 0.8 and 0.3 < std < 2.5


def _normalised(inputs: Tensor) -> Smell:
    return Smell(
        name="normalised_inputs",
        severity="note",
        message="The box is unbounded and the pictures look normalised: eps is in units of normalised pixels.",
        advice=(
            "To measure eps in pixels, give pixels in [0, 1] and put mean and std into the model (--mean and --std; in "
            "Python Classifier(net, preprocessing=pk.Preprocessing(mean=..., std=...)))."
        ),
        evidence={"mean": float(inputs.double().mean()), "std": float(inputs.double().std(correction=0))},
    )


def _at_chance(right: int, n: int, classes: int) -> Smell:
    low, high = wilson(right, n)
    return Smell(
        name="accuracy_at_chance",
        severity="alarm",
        message=(
            f"Clean accuracy is {100 * right / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}] (n = {n}): guessing among "
            f"{classes} classes is right in {100 / classes:.3g} %."
        ),
        advice=(
            "Wrong preprocessing (mean, std, channel order), labels shifted by one, or weights that were not loaded: "
            "mend that before you read the robust accuracy."
        ),
        evidence={"right": right, "n": n, "classes": classes},
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
