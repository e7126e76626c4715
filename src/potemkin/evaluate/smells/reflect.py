"""What only the results of an audit give away."""

from __future__ import annotations

from collections import Counter

from potemkin.core.outcomes import UNDECIDED, Outcome
from potemkin.evaluate.collect import Collector
from potemkin.evaluate.record import Smell
from potemkin.evaluate.smells.examine import Checkup
from potemkin.evaluate.statistics import wilson

FEW = 20
"""Below this many examples, an accuracy near chance is no news: the interval of any rate is wide."""
LOW = 0.5
"""A clean accuracy surely below this is asked about where none was declared: few models mean to be wrong so often."""


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
    elif n >= FEW and declared is None and wilson(right, n)[1] < LOW:
        smells.append(_low(right, n))
    smells += [_undecided(outcome, collector) for outcome in UNDECIDED if collector.outcomes[outcome]]
    return smells


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


def _low(right: int, n: int) -> Smell:
    low, high = wilson(right, n)
    return Smell(
        name="low_clean_accuracy",
        severity="warning",
        message=f"Clean accuracy is only {100 * right / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}] (n = {n}).",
        advice=(
            "If the model is known to do better, look at its preprocessing (mean, std, channel order) and at the "
            "labels first. If not, say so (--declared-accuracy), and this warning is gone."
        ),
        evidence={"right": right, "n": n},
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


def _undecided(outcome: Outcome, collector: Collector) -> Smell:
    """That examples ended without a decision, for which reasons, and what helps against these."""
    count, n = collector.outcomes[outcome], collector.n
    whys = Counter({why: times for (ended, why), times in collector.whys.items() if ended == outcome})
    reasons = "; ".join(f"{why} ({times})" for why, times in whys.most_common(2))
    if len(whys) > 2:
        reasons += f"; and {len(whys) - 2} more kinds of reason"
    advice = [_ADVICE[outcome]]
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
_ADVICE: dict[Outcome, str] = {
    "error": (
        "They count neither as held nor as broken. Zero gradients: use Margin() or DLR(), or an attack that needs none."
    ),
    "invalid": "An attack claimed what the verifier refused: often a randomised model, or rounding to 8 bits.",
    "budget": "They were neither broken nor shown to hold: allow more queries.",
}
