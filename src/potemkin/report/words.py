"""The report's fixed words: what each outcome, rate and kind of cost means. The glossary's terms, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from potemkin.core.outcomes import Outcome

Term = TypeVar("Term", bound=str)


@dataclass(frozen=True)
class Meaning(Generic[Term]):
    """A term, a name for people, and what it means."""

    term: Term
    name: str
    text: str


# Short, for the verdict's table in a terminal of 80 columns has them, too.
OUTCOMES: tuple[Meaning[Outcome], ...] = (
    Meaning("held", "Held", "No attack broke it; at least one had a signal."),
    Meaning("budget", "Out of budget", "Undecided: the queries ran out before the end."),
    Meaning("invalid", "Invalid claims", "Undecided: every claim of success was refused."),
    Meaning("error", "Error", "Undecided: no usable signal, or no numbers."),
    Meaning("broken", "Broken", "Has an adversarial that verification confirmed."),
    Meaning("clean_wrong", "Wrong before the attack", "Not right before any attack."),
)

GLOSSARY = (
    Meaning("clean_accuracy", "clean accuracy", "Share of examples that are right before any attack."),
    Meaning(
        "robust_accuracy",
        "robust accuracy",
        "Share of all examples that held. It says that these attacks found nothing, not that nothing is there: "
        "a stronger attack can only lower it.",
    ),
    Meaning(
        "robust_accuracy_upper",
        "upper bound of the robust accuracy",
        "What it would be if every undecided example (out of budget, invalid claims, error) had held.",
    ),
    Meaning(
        "attack_success_rate",
        "attack success rate",
        "Share of broken examples among those that were right before the attack.",
    ),
    Meaning("right", "right", "The true class has strictly the greatest output; a tie is not right."),
    Meaning("interval", "[low, high]", "95 % Wilson interval in percent: how far the sample may be from the truth."),
    Meaning("forwards", "forwards", "Forward passes, counted per example at the model."),
    Meaning("backwards", "backwards", "Backward passes to the input, counted the same way."),
    Meaning("forward_equivalents", "forward-equivalents", "Forwards plus backwards: one number to compare costs by."),
    Meaning("useful", "useful cost", "Passes that the examples' own searches needed."),
    Meaning(
        "physical",
        "physical cost",
        "All passes that were computed: with clean, verification and check passes, and rows that were padding.",
    ),
    Meaning("speculative", "speculative cost", "Passes of jobs that ran ahead and turned out not to be needed."),
)

PURPOSES = {
    "clean": "the clean predictions",
    "search": "the attacks' searches",
    "verify": "verifying claims",
    "check": "checking the model",
}

SEVERITIES = {"alarm": "Alarm", "warning": "Warning", "note": "Note"}
