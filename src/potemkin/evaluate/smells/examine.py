"""A look at the model before the attack: what its answers about the first examples give away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from potemkin.attacks.program import Attack
from potemkin.core.rows import flat, pad_rows
from potemkin.data.source import Batch
from potemkin.engine.setup import Settings
from potemkin.evaluate.record import Smell
from potemkin.evaluate.rounding import same_answers, slack
from potemkin.evaluate.smells.brought import odd_inputs, train_mode
from potemkin.evaluate.smells.company import recompose
from potemkin.models.oracle import Answer, Meter, Oracle
from potemkin.threat.goals import NO_TARGET, Aim
from potemkin.threat.objectives import CrossEntropy

SUM_TOLERANCE = 1e-5
"""How close to 1 the outputs must sum to look like probabilities."""


@dataclass
class Checkup:
    """What a look at the model on the first examples showed, before any attack; and these, for a look after it."""

    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    labels: Tensor = field(default_factory=lambda: torch.empty(0))
    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    randomised: bool = False
    batch_dependent: bool = False
    smells: list[Smell] = field(default_factory=list)

    @property
    def may_retire(self) -> bool:
        """Whether a row that came back to an earlier state can do nothing new: its answers are its own, and fixed."""
        return not (self.randomised or self.batch_dependent)


def examine(
    oracle: Oracle, batch: Batch, settings: Settings, attacks: Sequence[Attack], in_train_mode: Sequence[str]
) -> Checkup:
    """Ask the model about the first batch twice in the same way and once in another company; read what that gives away.

    All asks run with a graph, or none does: without one, some layers go another way (a transformer's fast path), which
    rounds otherwise and is no randomness.

    Cost: 3 forwards (2 where they show that the model is randomised) and, where the adversary sees gradients, 2
    backwards on one batch, counted under "check".
    """
    box, count = oracle.classifier.box, len(batch.ids)
    inputs = box.clip(batch.inputs).to(settings.dtype)
    labels = pad_rows(batch.labels, settings.rows)
    answer, again = (ask(oracle, pad_rows(inputs, settings.rows), labels) for _ in range(2))
    outputs, repeated = answer.outputs[:count], again.outputs[:count]
    smells = train_mode(in_train_mode)
    randomised = not same_answers(outputs, repeated)
    # Noise would make every answer look as if it came from the company; it is told as what it is.
    strange = [] if randomised else _batch_dependent(oracle, inputs, labels, outputs)
    smells += [_randomised(outputs, repeated)] if randomised else strange
    smells += softmax(outputs)
    if answer.gradient is not None and not all(attack.control for attack in attacks):
        smells += [_detached()] if answer.detached else _zero_gradients(answer.gradient[:count])
    smells += odd_inputs(batch.inputs, box)
    return Checkup(inputs, batch.labels, outputs, randomised, bool(strange), smells)


def ask(oracle: Oracle, inputs: Tensor, labels: Tensor, backward: bool = True) -> Answer:
    """One ask about a full batch, with the graph that the search will have."""
    device, rows = oracle.classifier.device, len(inputs)
    aim = Aim(labels.to(device), torch.full_like(labels, NO_TARGET).to(device))

    def objective(outputs: Tensor) -> Tensor:
        return _safe_cross_entropy(outputs, aim)

    return oracle.ask(
        inputs.to(device),
        active=torch.ones(rows, dtype=torch.bool, device=device),
        meter=Meter.zeros(rows, device),
        objective=objective,
        climb=oracle.access.allows("gradients"),
        backward=backward,
        purpose="check",
    )


def _safe_cross_entropy(outputs: Tensor, aim: Aim) -> Tensor:
    """Labels beyond the model's classes are refused elsewhere, with a better message than an index error."""
    label = aim.label.clamp(0, outputs.shape[1] - 1)
    return CrossEntropy()(outputs, Aim(label, aim.target))


def _randomised(first: Tensor, second: Tensor) -> Smell:
    return Smell(
        name="randomised",
        severity="alarm",
        message=(
            "Two forward passes on the same inputs gave different scores: the model is randomised, or keeps a state (a "
            "counter, a cache) that every call changes."
        ),
        advice=(
            "Take such a state out. Of a random model one noisy evaluation decides nothing: fix the randomness, or "
            "evaluate with averaged gradients and repeated decisions."
        ),
        evidence={"largest_difference": float((first - second).abs().nan_to_num().max())},
    )


def _batch_dependent(oracle: Oracle, inputs: Tensor, labels: Tensor, outputs: Tensor) -> list[Smell]:
    """Whether examples get other answers in another company at the same row count, by more than rounding."""
    composed, places = recompose(inputs, len(labels), oracle.classifier.box)
    elsewhere = ask(oracle, composed, labels, backward=False).outputs[places]
    alone = outputs[: len(places)]
    apart = float((torch.nan_to_num(alone) - torch.nan_to_num(elsewhere)).abs().max())
    allowed = float(slack(torch.cat((alone, elsewhere)), oracle.classifier.dtype).max())
    if apart <= allowed:
        return []
    return [
        Smell(
            name="batch_dependent",
            severity="alarm",
            message=(
                "The model's answer to an input depends on what else is in the batch, or on its place there: the same "
                f"inputs beside others gave scores up to {apart:.3g} apart."
            ),
            advice=(
                "What is broken or held in one batch need not be in another, so no rate here means what it says. Look "
                "for BatchNorm with batch statistics (track_running_stats=False), for normalisation, softmax or "
                "attention over dimension 0, or noise drawn per row: mend it, or let the model see one row at a time."
            ),
            evidence={"largest_difference": apart, "rounding_allows": allowed, "inputs": len(places)},
        )
    ]


def softmax(outputs: Tensor) -> list[Smell]:
    """Probabilities where logits belong."""
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    if not inside or not bool(((outputs.sum(dim=1) - 1).abs() < SUM_TOLERANCE).all()):
        return []
    return [
        Smell(
            name="softmax_outputs",
            severity="warning",
            message="The model returns probabilities, not logits: every row lies in [0, 1] and sums to 1.",
            advice=(
                "Return the logits before the softmax: a second softmax flattens gradients and hides adversarial "
                "examples, and the confidences shown here are flattened by it, too."
            ),
            evidence={"largest_output": float(outputs.max())},
        )
    ]


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
