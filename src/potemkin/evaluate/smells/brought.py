"""What the model and the inputs that were brought give away before the model is asked anything."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from potemkin.evaluate.record import Smell
from potemkin.threat.box import Box

_ROOT = "the model itself"  # how models.guest names it


def train_mode(names: Sequence[str]) -> list[Smell]:
    """Only forgotten where it is the whole model; where it is a part, somebody may have meant it."""
    if not names:
        return []
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    if any(name.startswith(_ROOT) for name in names):
        return [
            Smell(
                name="train_mode",
                severity="note",
                message="The model came in train mode; it was evaluated in eval mode, and put back.",
                advice="Call .eval() where you make it, and this note is gone.",
                evidence={"modules": len(names)},
            )
        ]
    return [
        Smell(
            name="train_mode",
            severity="warning",
            message=f"Parts of the model came in train mode ({shown}); all was evaluated in eval mode, and put back.",
            advice=(
                "Call .eval() on the whole model where you make it. If these parts are meant to stay in train mode "
                "(random dropout, BatchNorm across rows), then this is not the model that you use."
            ),
            evidence={"modules": len(names)},
        )
    ]


def odd_inputs(inputs: Tensor, box: Box) -> list[Smell]:
    """Inputs beside the box, and inputs whose unit is not the one that eps is thought in."""
    found = []
    clipped = box.clip(inputs)
    if not inputs.equal(clipped):
        found.append(_clipped(inputs, clipped))
    if math.isinf(box.high - box.low) and _looks_normalised(inputs):
        found.append(_normalised(inputs))
    return found


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
