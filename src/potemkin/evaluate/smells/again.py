"""A last look at the model: whether it still answers as it did before the attack."""

from __future__ import annotations

from potemkin.core.rows import pad_rows
from potemkin.errors import ModelError
from potemkin.evaluate.record import Smell
from potemkin.evaluate.rounding import same_answers
from potemkin.evaluate.smells.examine import Checkup, ask
from potemkin.models.oracle import Oracle


def look_again(oracle: Oracle, checkup: Checkup, rows: int) -> list[Smell]:
    """Ask about the first batch once more, after all attacks: a counter in plain Python shows in nothing else.

    Parameters and buffers are fingerprinted; what a module keeps beside them is not. Cost: 1 forward on one batch,
    counted under "check"; none where the model is known to be randomised.
    """
    if checkup.randomised:
        return []
    try:
        answer = ask(oracle, pad_rows(checkup.inputs, rows), pad_rows(checkup.labels, rows), backward=False)
    except ModelError as error:  # what was found before it broke down is not lost for that
        return [_unconfirmed(f"After the run the model failed on inputs that it had answered for before it: {error}")]
    now, before = answer.outputs[: len(checkup.inputs)], checkup.outputs
    if same_answers(now, before):
        return []
    largest = float((now - before).abs().nan_to_num().max())
    told = "After the run the model gives other scores for the same inputs than before it."
    return [_drifted(told, {"largest_difference": largest})]


def not_looked() -> list[Smell]:
    """What an interrupt leaves open."""
    return [_unconfirmed("The last look at the model, after all examples were done, was interrupted.")]


def _unconfirmed(message: str) -> Smell:
    return Smell(
        name="not_looked_at_again",
        severity="alarm",
        message=message,
        advice="Whether the model answers as it did before the run is not known. Run the audit again.",
    )


def _drifted(message: str, evidence: dict[str, int | float | str]) -> Smell:
    return Smell(
        name="drifted",
        severity="alarm",
        message=message,
        advice=(
            "It keeps a state that is neither a parameter nor a buffer: a counter, a cache, an average. What was found "
            "depends on what was asked before; take that state out, or set it anew in every call."
        ),
        evidence=evidence,
    )
