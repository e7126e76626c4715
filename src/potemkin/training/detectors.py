"""Detectors of the ways in which adversarial training fails in silence, over what a run has measured. No torch.

What they are called, and what follows: `alarms`. Each answers with what to tell, or None; those of evaluations see all
so far, oldest first. Differences of rates are believed beyond two standard errors only, so that a subset of a few
hundred examples cries no wolf.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from potemkin.training.journal import EvaluationLine, StepLine

ENOUGH = 30
"""Examples below which a network is not said to know no more than the most frequent label."""

Told = tuple[str, str, dict[str, float | int | str]]
"""Message, advice, evidence."""


def label_leaking(train: Sequence[EvaluationLine]) -> Told | None:
    """More right under the training attack than without it: the attack tells the label.

    Source: Kurakin et al. 2017, section 4 (accuracy on adversarial above that on clean examples).
    """
    now = train[-1]
    if not surely_above(now.training_attack, now.clean, now.n):
        return None
    return (
        f"{share(now.training_attack, now.n)} of {now.n} training examples are right under the training attack, more "
        f"than the {share(now.clean, now.n)} without it: the network reads the label off the perturbation.",
        "Train with an attack that uses no true label (step_ll(), step_rnd()) or takes several steps (pgd_at).",
        {"attacked": now.training_attack, "clean": now.clean, "n": now.n},
    )


def catastrophic_overfitting(train: Sequence[EvaluationLine]) -> Told | None:
    """The training attack is withstood, the multi-step check is not: it leaves less than half, or collapsed meanwhile.

    Source: Wong, Rice and Kolter 2020, section 5.4; Andriushchenko and Flammarion 2020.
    """
    now = train[-1]
    if not now.attacked or not now.learnt:  # a constant answer is as right under attack: no robustness to lose
        return None
    stands = now.robust + now.undecided  # what could not be judged has not collapsed
    fooled = surely_above(now.training_attack, stands, now.n)
    best = max((line for line in train[:-1] if line.learnt), key=lambda line: line.robust, default=now)
    fell = stands < 0.5 * best.robust and surely_above(best.robust, stands, now.n)
    withstood = not surely_above(best.training_attack, now.training_attack, now.n)
    if not fooled or not (stands < 0.5 * now.training_attack or (fell and withstood)):
        return None
    before = f"fell from {share(best.robust, now.n)} to" if fell else "is"
    return (
        f"Accuracy under the multi-step check {before} {share(now.robust, now.n)} of training examples, under the "
        f"training attack it is {share(now.training_attack, now.n)}: the network has learnt to withstand that attack "
        "alone.",
        "Go back to the last good weights (--rollback does), and train with n_fgsm, grad_align, pgd_at or a smaller "
        "eps.",
        {"before": best.robust, "now": now.robust, "training_attack": now.training_attack, "n": now.n},
    )


def robust_overfitting(train: Sequence[EvaluationLine], validation: Sequence[EvaluationLine]) -> Told | None:
    """Validation robust accuracy is below its best, twice in a row, while training robust accuracy has risen.

    Source: Rice, Wong and Kolter 2020, section 3.
    """
    if len(validation) < 3 or len(train) != len(validation):
        return None
    place = max(range(len(validation)), key=lambda i: validation[i].robust)
    best, now, n = validation[place], validation[-1], validation[-1].n
    falling = all(surely_above(best.robust, line.robust, n) for line in validation[-2:])
    if not (falling and surely_above(train[-1].robust, train[place].robust, train[-1].n)):
        return None
    return (
        f"Validation robust accuracy has fallen from {share(best.robust, n)} (epoch {best.epoch:.1f}) to "
        f"{share(now.robust, n)}, while that of training examples rose from {share(train[place].robust, train[-1].n)} "
        f"to {share(train[-1].robust, train[-1].n)}: the network learns its training examples by heart.",
        "The best checkpoint is kept. Stop here (--patience), or use EMA, cutout, cutmix, awp or more data.",
        {"best": best.robust, "now": now.robust, "n": n, "best_epoch": best.epoch},
    )


def not_learning(validation: Sequence[EvaluationLine], progress: float) -> Told | None:
    """Half of the run is over, and a constant answer would get as much right.

    Source: none; the plainest failure of any training.
    """
    now = validation[-1]
    # A few steps are a trial of the command, not a training; a handful of examples says nothing about a majority.
    if progress < 0.5 or now.epoch < 1 or now.n < ENOUGH or now.learnt:
        return None
    return (
        f"{share(now.clean, now.n)} of {now.n} validation examples are right without any attack, no more than one "
        f"answer for all would get ({share(now.majority, now.n)}): nothing is learnt that could be robust.",
        "Try AdamW(learning_rate=0.002), another learning rate, more epochs, or eps_ramp=0.3; or begin with a network "
        "trained by standard().",
        {"clean": now.clean, "majority": now.majority, "n": now.n},
    )


def gradient_masking(validation: Sequence[EvaluationLine]) -> Told | None:
    """One step does more harm than many: the gradients along the way lead nowhere.

    Source: Athalye, Carlini and Wagner 2018, section 3.1 (one-step attacks perform better than iterative ones).
    """
    now = validation[-1]
    if not surely_above(now.robust, now.one_step, now.n):
        return None
    return (
        f"One step leaves {share(now.one_step, now.n)} of {now.n} validation examples right, the multi-step check "
        f"leaves {share(now.robust, now.n)}: gradients inside the ball are of no use, and robustness is overstated.",
        "Do not trust the robust accuracy of this run. Look for saturated outputs, quantisation or randomness in the "
        "network, and audit it with attacks that need no gradients.",
        {"one_step": now.one_step, "robust": now.robust, "n": now.n},
    )


def dead_attack(now: StepLine) -> Told | None:
    """Most attacked rows saw no gradient at any step, or were hardly moved: training is clean training by now.

    Source: none; the plainest failure of an inner maximisation.
    """
    if now.dead is None or now.moved is None or not now.eps:
        return None
    if now.dead <= 0.5 and now.moved >= 0.01:
        return None
    return (
        f"In {100 * now.dead:.0f} % of attacked rows every gradient was zero or not finite, and rows moved by "
        f"{now.moved:.3f} eps on average: the inner attack does nothing.",
        "If accuracy in the log is that of one answer for all, the network has collapsed: lower the learning rate. "
        "Otherwise look for saturated outputs (very large logits), a detached or quantised input, or a step size near "
        "0.",
        {"dead": now.dead, "moved": now.moved},
    )


def not_a_number(now: StepLine) -> Told | None:
    """The loss, or a weight that it left, is NaN or infinite: the line says None in either case."""
    if now.loss is not None:
        return None
    return (
        "The loss or a weight is NaN or infinite: the weights are spoilt from here on.",
        "Lower the learning rate, clip gradients (--set clip=1), or use float32.",
        {"step": now.step},
    )


def surely_above(a: int, b: int, n: int) -> bool:
    """Whether a of n lies above b of n by more than two standard errors of the difference.

    >>> surely_above(60, 50, 100), surely_above(70, 50, 100)
    (False, True)
    """
    if n == 0 or a <= b:
        return False
    p, q = a / n, b / n
    # One example of each kind more: a rate of 0 or 1 has an error, too.
    pooled = (a + b + 1) / (2 * n + 2)
    return p - q > 2 * math.sqrt(2 * pooled * (1 - pooled) / n)


def share(k: int, n: int) -> str:
    """A share in per cent."""
    return f"{100 * k / n:.1f} %"
