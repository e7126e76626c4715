"""How an example ended: the engine decides it, the Record keeps it, and a Record is read without torch."""

from __future__ import annotations

from typing import Literal, get_args

Outcome = Literal["clean_wrong", "broken", "budget", "held", "invalid", "error"]
"""The partition that every rate is computed from; first match wins, in this order. What can not be judged or steered on
its clean input (scores that are no numbers, a target that is the label) is an error before anything else is asked."""

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
UNDECIDED: tuple[Outcome, ...] = ("budget", "invalid", "error")
"""Neither broken nor shown to hold: they are the room between robust accuracy and its upper bound."""
