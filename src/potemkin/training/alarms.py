"""The alarms of a run, in one table: names, meanings, what each needs and what may follow. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from potemkin.training import detectors
from potemkin.training.detectors import Told
from potemkin.training.journal import AlarmLine, EvaluationLine, StepLine


@dataclass(frozen=True)
class Evaluated:
    """What the detectors of evaluations look at: all so far, oldest first, and how much of the run is over."""

    train: Sequence[EvaluationLine]
    validation: Sequence[EvaluationLine]
    progress: float


@dataclass(frozen=True)
class Alarm:
    """One way to fail."""

    name: str
    meaning: str
    needs: Literal["step", "attacked step", "evaluation", "attacked evaluation"]
    """Without which nothing can be seen."""
    of_step: Callable[[StepLine], Told | None] | None = None
    of_evaluations: Callable[[Evaluated], Told | None] | None = None
    goes_back: bool = False
    """Whether going back to the last good weights is an answer to it (`rollback`)."""


def title(name: str) -> str:
    """The name for people.

    >>> title("label_leaking")
    'Label leaking'
    """
    return name.replace("_", " ").capitalize()


ALARMS = {
    alarm.name: alarm
    for alarm in (
        Alarm(
            "label_leaking",
            "more is right under the training attack than without it: the perturbation gives the label away",
            "attacked evaluation",
            of_evaluations=lambda seen: detectors.label_leaking(seen.train),
        ),
        Alarm(
            "catastrophic_overfitting",
            "the training attack is withstood, the multi-step check is not",
            "attacked evaluation",
            of_evaluations=lambda seen: detectors.catastrophic_overfitting(seen.train),
            goes_back=True,
        ),
        Alarm(
            "robust_overfitting",
            "validation robust accuracy has fallen since its best, that of training examples has risen",
            "evaluation",
            of_evaluations=lambda seen: detectors.robust_overfitting(seen.train, seen.validation),
        ),
        Alarm(
            "gradient_masking",
            "one step does more harm than many",
            "evaluation",
            of_evaluations=lambda seen: detectors.gradient_masking(seen.validation),
        ),
        Alarm(
            "not_learning",
            "half of the run is over, and one answer for all would be right as often",
            "evaluation",
            of_evaluations=lambda seen: detectors.not_learning(seen.validation, seen.progress),
        ),
        Alarm(
            "dead_attack",
            "zero gradients, or nothing moved: clean training by now",
            "attacked step",
            of_step=detectors.dead_attack,
        ),
        Alarm(
            "not_a_number",
            "the loss or a weight is NaN or infinite: the run stops, or goes back",
            "step",
            of_step=detectors.not_a_number,
            goes_back=True,
        ),
    )
}


def of_step(line: StepLine) -> dict[str, AlarmLine | None]:
    """What the newest window of steps gives away, by name; None where nothing is wrong."""
    return {name: _line(name, alarm.of_step(line), line) for name, alarm in ALARMS.items() if alarm.of_step is not None}


def of_evaluations(
    train: Sequence[EvaluationLine], validation: Sequence[EvaluationLine], progress: float = 1.0
) -> dict[str, AlarmLine | None]:
    """What the newest evaluations give away at this share of the run, by name; None where nothing is wrong."""
    seen = Evaluated(train, validation, progress)
    return {
        name: _line(name, alarm.of_evaluations(seen), validation[-1])
        for name, alarm in ALARMS.items()
        if alarm.of_evaluations is not None
    }


def _line(name: str, told: Told | None, at: StepLine | EvaluationLine) -> AlarmLine | None:
    if told is None:
        return None
    message, advice, evidence = told
    return AlarmLine(step=at.step, epoch=at.epoch, name=name, message=message, advice=advice, evidence=evidence)
