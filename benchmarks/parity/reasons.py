"""The known disagreements, each with the experiment that shows its reason.

`run.py` fails where an experiment no longer explains what is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SAME = 1e-4
"""Points of two float32 runs closer than this in every coordinate are the same: sums in another order, nothing more."""


def apart(a: Tensor, b: Tensor) -> Tensor:
    """(B,) bool: rows whose points are not the same."""
    return ~((a - b).abs().flatten(1).amax(1) <= SAME)


@dataclass
class Evidence:
    """What an experiment gets to see, all of it on the rows of one case."""

    theirs: dict[str, Tensor]
    """What the peer wrote: points, and what else it recorded."""
    retry: Callable[[str, bool], Tensor]
    """Our points with one part replaced by the wrong one (`ours.variant`); True: in float64 whatever the case says."""
    wrong: Callable[[Tensor], Tensor]
    """(B,) bool: rows that a point fools the model on."""
    loss: Callable[[Tensor], Tensor]
    """(B,) the case's objective at a point."""


@dataclass
class Reason:
    """Why a peer's points are others than ours."""

    why: str
    experiment: Callable[[Evidence], tuple[bool, str]]
    """Whether the reason explains the difference, and the numbers that say so."""


def replaced(part: str) -> Callable[[Evidence], tuple[bool, str]]:
    """With this part in our recipe the difference is gone, but for rows where our own float32 and float64 part, too."""

    def experiment(evidence: Evidence) -> tuple[bool, str]:
        ours = evidence.retry(part, False)
        rounded = apart(ours, evidence.retry(part, True))
        left = apart(ours, evidence.theirs["points"])
        said = f"with {part!r} in our recipe: {int(left.sum())} rows apart"
        if left.any():
            said += f", {int((left & rounded).sum())} of them by float32, as ours are from our float64"
        return not (left & ~rounded).any(), said

    return experiment


def last_or_start(evidence: Evidence) -> tuple[bool, str]:
    """Every row is either the last point that was visited or the start, though a better one had been visited."""
    theirs = evidence.theirs
    fooled = evidence.wrong(theirs["points"])
    last = torch.where(fooled.view(-1, 1, 1, 1), theirs["visited_last"], theirs["start"])
    other = int(apart(last, theirs["points"]).sum())
    lost = float((evidence.loss(theirs["visited_best"]) - evidence.loss(theirs["points"])).mean())
    said = f"{other} rows are neither; the best point it had visited has {lost:.3f} more loss"
    return other == 0 and lost > 0, said


SIGNS = Reason("accumulates the signs of the gradients, not the gradients over their L1 norm", replaced("signs"))
CLIP_LAST = Reason("scales onto the L2 ball, then clips: not the nearest point", replaced("scale, then clip"))
CLIP_FIRST = Reason("clips, then scales onto the L2 ball: not the nearest point", replaced("clip, then scale"))
SHORT = Reason(
    "scales, then clips; and adds 1e-10 to the norm of the gradient of the batch's mean: small gradients step short",
    replaced("short steps, scale, then clip"),
)
LOOK_AHEAD = Reason("divides by mean |g|, not by ||g||_1: it looks ahead d times as far", replaced("mean"))
NO_GUARD = Reason("divides a zero gradient by zero: NaN momentum, the row stands still for ever", replaced("unguarded"))
LAST = Reason("returns the last point where it fools and the random start elsewhere, not the best", last_or_start)

REASONS: dict[tuple[str, str], Reason] = {
    ("MI-FGSM-10", "foolbox"): SIGNS,
    ("MI-FGSM-10-fast", "foolbox"): SIGNS,
    ("PGD-40-L2", "foolbox"): CLIP_LAST,
    ("PGD-40-L2", "torchattacks"): SHORT,
    ("PGD-40-L2-float32", "art"): CLIP_FIRST,
    ("NI-FGSM-10", "torchattacks"): LOOK_AHEAD,
    ("plateau", "torchattacks"): NO_GUARD,
    ("APGD-CE-20", "art"): LAST,
    ("APGD-CE-100", "art"): LAST,
}
