"""The report's fixed words: what each outcome, rate and kind of cost means. The glossary's terms, nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """A term, a name for people, and what it means."""

    term: str
    name: str
    text: str


OUTCOMES = (
    Meaning("held", "Held", "All attacks ran to their end, at least one had a usable signal, and none broke it."),
    Meaning("budget", "Out of budget", "Undecided: the budget ended before all attacks had run."),
    Meaning("invalid", "Invalid claims", "Undecided: attacks claimed success, and verification refused every claim."),
    Meaning("error", "Error", "Undecided: no attack had a usable signal, or the model did not answer with numbers."),
    Meaning(
        "broken",
        "Broken",
        "An adversarial example was found and verified in a pass of its own: in the set, in the box, goal met.",
    ),
    Meaning("clean_wrong", "Wrong before the attack", "Not right on the clean input; no attack was needed."),
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
