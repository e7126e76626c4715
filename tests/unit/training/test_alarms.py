"""The detectors of silent failure as functions of what was measured: made-up runs, healthy ones, boundaries."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pytest

from journals import evaluation_of, healthy, step_of
from potemkin.core.notation import parse
from potemkin.training import alarms
from potemkin.training.alarms import ALARMS
from potemkin.training.detectors import (
    catastrophic_overfitting,
    dead_attack,
    gradient_masking,
    label_leaking,
    not_a_number,
    not_learning,
    robust_overfitting,
    surely_above,
)
from potemkin.training.journal import AlarmLine, AnyLine, EvaluationLine, StepLine

N = 500
Part = Literal["train", "validation"]


def line(
    clean: int, attack: int, one_step: int, robust: int, *, epoch: int = 1, part: Part = "train", n: int = N
) -> EvaluationLine:
    """An evaluation by its counts: clean, under the training attack, under one step, under the multi-step check."""
    return EvaluationLine(
        step=100 * epoch, epoch=epoch, part=part, weights="current", n=n,
        clean=clean, training_attack=attack, one_step=one_step, robust=robust,
    )  # fmt: skip


def curve(robust: Sequence[int], part: Part, n: int = N) -> list[EvaluationLine]:
    """A run in which nothing but the multi-step check moves."""
    return [line(n, n, n, k, epoch=at, part=part, n=n) for at, k in enumerate(robust, start=1)]


def found(lines: Sequence[AnyLine]) -> list[AlarmLine]:
    """All alarms that a run's lines raise, looked at as the trainer does: after every line of the log."""
    parts: dict[str, list[EvaluationLine]] = {"train": [], "validation": []}
    told: list[AlarmLine] = []
    for each in lines:
        if isinstance(each, StepLine):
            told += raised(alarms.of_step(each))
        elif isinstance(each, EvaluationLine):
            parts[each.part].append(each)
            if each.part == "validation":
                told += raised(alarms.of_evaluations(parts["train"], parts["validation"]))
    return told


def raised(found: Mapping[str, AlarmLine | None]) -> list[AlarmLine]:
    return [alarm for alarm in found.values() if alarm is not None]


# ---- two standard errors --------------------------------------------------------------------------------------------


def errors_between(a: int, b: int, n: int) -> float:
    """How many standard errors lie between a of n and b of n, with one success and one failure more in the pool."""
    rate = (a + b + 1) / (n + n + 2)
    return (a - b) / n / math.sqrt(rate * (1 - rate) * (1 / n + 1 / n))


@pytest.mark.parametrize("n", [20, 129, 512, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_difference_counts_beyond_two_standard_errors(n: int, share: float) -> None:
    low = round(share * n)
    least = next((a for a in range(low, n + 1) if surely_above(a, low, n)), None)
    if least is None:  # so near the top of a small subset that no difference is sure
        assert errors_between(n, low, n) <= 2
        return
    assert errors_between(least, low, n) > 2 >= errors_between(least - 1, low, n)
    assert all(surely_above(a, low, n) for a in range(least, n + 1)), "once sure, always sure"
    assert not any(surely_above(low, a, n) for a in range(low, n + 1)), "never the other way round"


def test_nothing_is_sure_about_nothing() -> None:
    assert not surely_above(0, 0, 0)
    assert not surely_above(1, 0, 1)
    assert not surely_above(N, N, N) and not surely_above(0, 0, N)
    assert surely_above(N, 0, N)


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.5, 0.95])
def test_equal_rates_cry_wolf_seldom(rate: float) -> None:
    """Beyond two standard errors on one side lie 2.3 % of a normal distribution."""
    draws = np.random.default_rng(0).binomial(N, rate, size=(4000, 2))
    assert np.mean([surely_above(int(a), int(b), N) for a, b in draws]) < 0.035


# ---- label leaking --------------------------------------------------------------------------------------------------


def test_label_leaking_fires_where_the_attack_helps() -> None:
    told = label_leaking([line(300, 450, 450, 20)])
    assert told is not None
    message, advice, evidence = told
    assert "90.0 % of 500" in message and "60.0 %" in message
    assert "step_ll()" in advice and "pgd_at" in advice
    assert evidence == {"attacked": 450, "clean": 300, "n": N}


@pytest.mark.parametrize(
    ("clean", "attack"),
    [(450, 300), (450, 450), (0, 0), (N, N), (400, 410)],
    ids=["an attack that hurts", "no attack", "nothing right", "all right", "a little more by chance"],
)
def test_label_leaking_is_quiet(clean: int, attack: int) -> None:
    assert label_leaking([line(clean, attack, attack, 0)]) is None


def test_label_leaking_looks_at_the_newest_evaluation() -> None:
    leaking, healed = line(300, 450, 450, 20), line(450, 300, 300, 250, epoch=2)
    assert label_leaking([leaking, healed]) is None
    assert label_leaking([healed, leaking]) is not None


# ---- catastrophic overfitting ---------------------------------------------------------------------------------------

BEFORE = line(400, 220, 225, 200)


def test_a_fall_in_which_the_training_attack_fell_too_is_no_catastrophic_overfitting() -> None:
    both = line(400, 130, 130, 90, epoch=2)
    assert surely_above(130, 90, N) and 0.5 * BEFORE.robust > 90 and 90 >= 0.5 * 130
    assert catastrophic_overfitting([BEFORE, both]) is None
    assert catastrophic_overfitting([BEFORE, line(400, 196, 196, 99, epoch=2)]) is not None


def test_catastrophic_overfitting_fires_on_a_collapse() -> None:
    told = catastrophic_overfitting([BEFORE, line(440, 430, 430, 3, epoch=2)])
    assert told is not None
    message, advice, evidence = told
    assert "from 40.0 % to 0.6 %" in message and "86.0 %" in message
    assert "--rollback" in advice and "n_fgsm" in advice
    assert evidence == {"before": 200, "now": 3, "training_attack": 430, "n": N}


@pytest.mark.parametrize(
    "now",
    [
        line(400, 230, 235, 205, epoch=2),
        line(440, 300, 300, 150, epoch=2),
        line(60, 10, 12, 8, epoch=2),
        line(300, 90, 95, 70, epoch=2),
    ],
    ids=["nothing happens", "it falls by a quarter", "training diverges", "the training attack finds it, too"],
)
def test_catastrophic_overfitting_is_quiet(now: EvaluationLine) -> None:
    assert catastrophic_overfitting([BEFORE, now]) is None


def test_a_collapse_before_the_first_evaluation_is_one_all_the_same() -> None:
    """Nothing was seen to fall, but the training attack alone is withstood."""
    told = catastrophic_overfitting([line(440, 430, 430, 0)])
    assert told is not None and "is 0.0 % of training examples" in told[0] and "86.0 %" in told[0]
    assert all(catastrophic_overfitting([line(500, 480, 480, 0)] * k) for k in range(1, 6))
    assert catastrophic_overfitting([line(440, 430, 430, 215)]) is None
    assert catastrophic_overfitting([line(440, 430, 430, 214)]) is not None


def test_a_network_that_knows_one_answer_has_nothing_to_lose() -> None:
    constant = line(50, 50, 50, 0).model_copy(update={"majority": 50})
    assert catastrophic_overfitting([constant]) is None
    robust_by_constancy = line(60, 60, 60, 60).model_copy(update={"majority": 60})
    assert catastrophic_overfitting([robust_by_constancy, line(300, 40, 40, 25, epoch=2)]) is None


def test_a_collapse_is_one_to_less_than_half_of_the_best() -> None:
    """The best of all evaluations before, not the last one: a fall in small steps is one, too."""
    half, less = line(400, 195, 200, 100, epoch=9), line(400, 195, 200, 99, epoch=9)
    assert 99 >= 0.5 * 195, "not for the training attack's sake"
    assert catastrophic_overfitting([BEFORE, half]) is None
    assert catastrophic_overfitting([BEFORE, less]) is not None
    steps = [line(400, 220, 225, 200 - 12 * k, epoch=k + 1) for k in range(10)]
    assert catastrophic_overfitting(steps) is not None
    assert catastrophic_overfitting([steps[0], steps[1]]) is None


def test_a_collapse_of_a_handful_is_none() -> None:
    """4 of 500 to 1 of 500 is less than half, and chance."""
    assert catastrophic_overfitting([line(400, 6, 6, 4), line(400, 6, 6, 1, epoch=2)]) is None


def test_without_an_adversary_there_is_nothing_to_overfit_to() -> None:
    """`standard` loses what robustness new weights have by chance; its training attack counts as clean accuracy."""
    seen = [line(400, 400, 250, 200), line(490, 490, 90, 10, epoch=2)]
    assert catastrophic_overfitting(seen) is not None
    assert catastrophic_overfitting([each.model_copy(update={"attacked": False}) for each in seen]) is None


# ---- robust overfitting ---------------------------------------------------------------------------------------------

RISING = curve([150, 200, 250, 300, 350, 400], "train")
FALLING = curve([150, 200, 230, 200, 170, 160], "validation")


def test_robust_overfitting_fires_where_validation_falls_and_training_rises() -> None:
    told = robust_overfitting(RISING, FALLING)
    assert told is not None
    message, advice, evidence = told
    assert "from 46.0 % (epoch 3.0) to 32.0 %" in message and "from 50.0 % to 80.0 %" in message
    assert "--patience" in advice and "EMA" in advice
    assert evidence == {"best": 230, "now": 160, "n": N, "best_epoch": 3.0}


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        (RISING, curve([150, 200, 230, 235, 240, 238], "validation")),
        (RISING, curve([150, 200, 230, 200, 170, 225], "validation")),
        (RISING, curve([150, 200, 230, 229, 225, 160], "validation")),
        (curve([150, 200, 250, 240, 200, 190], "train"), FALLING),
        (RISING[:2], curve([230, 160], "validation")),
        (RISING[:5], FALLING),
    ],
    ids=[
        "both rise", "it recovers", "it falls once", "training falls, too", "two evaluations", "parts of other lengths",
    ],
)  # fmt: skip
def test_robust_overfitting_is_quiet(train: list[EvaluationLine], validation: list[EvaluationLine]) -> None:
    assert robust_overfitting(train, validation) is None


def test_robust_overfitting_takes_each_parts_own_size() -> None:
    """147 training examples and 512 of validation: each difference is measured by its own n."""
    train = curve([70, 90, 110, 120, 130], "train", n=147)
    validation = curve([200, 280, 230, 215, 210], "validation", n=512)
    assert robust_overfitting(train, validation) is not None
    near = curve([70, 90, 91, 92, 93], "train", n=147)
    assert robust_overfitting(near, validation) is None


# ---- gradient masking -----------------------------------------------------------------------------------------------


def test_gradient_masking_fires_where_one_step_does_more_than_many() -> None:
    told = gradient_masking([line(450, 400, 200, 400, part="validation")])
    assert told is not None
    message, advice, evidence = told
    assert "40.0 % of 500" in message and "80.0 %" in message
    assert "no gradients" in advice
    assert evidence == {"one_step": 200, "robust": 400, "n": N}


@pytest.mark.parametrize("one_step", [400, 450, 395, 380])
def test_gradient_masking_is_quiet_where_many_steps_do_more(one_step: int) -> None:
    assert gradient_masking([line(450, 400, one_step, 400, part="validation")]) is None


# ---- what steps give away -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dead", "moved", "fires"),
    [
        (0.0, 1.0, False),
        (0.5, 0.5, False),
        (0.51, 0.9, True),
        (1.0, 0.0, True),
        (0.0, 0.01, False),
        (0.0, 0.0099, True),
    ],
)
def test_a_dead_attack_sees_no_gradient_or_moves_nothing(dead: float, moved: float, fires: bool) -> None:
    told = dead_attack(step_of(100, dead=dead, moved=moved))
    assert (told is not None) is fires
    if told is not None:
        assert told[2] == {"dead": dead, "moved": moved}
        assert f"{100 * dead:.0f} %" in told[0] and f"{moved:.3f} eps" in told[0]
        assert "detached" in told[1]


@pytest.mark.parametrize(
    "other", [{"dead": None}, {"moved": None}, {"eps": None}, {"eps": 0.0}, {"dead": None, "moved": None, "eps": None}]
)
def test_where_nothing_was_attacked_nothing_is_dead(other: dict[str, float | None]) -> None:
    assert dead_attack(step_of(100, **({"dead": 1.0, "moved": 0.0} | other))) is None


def test_a_loss_that_is_no_number() -> None:
    told = not_a_number(step_of(200, loss=None))
    assert told is not None
    assert told[2] == {"step": 200}
    assert "learning rate" in told[1] and "clip" in told[1]
    assert not_a_number(step_of(200)) is None
    for value in (math.nan, math.inf, -math.inf):
        assert not_a_number(step_of(100, loss=value)) is not None


# ---- all together ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [2, 10, 30])
def test_a_healthy_run_is_quiet(epochs: int) -> None:
    assert found(healthy(epochs)) == []


def test_chance_alone_raises_hardly_anything() -> None:
    """A healthy network that stays as it is, 300 times 20 evaluations, each on examples drawn anew."""
    draws = np.random.default_rng(1)
    cried = 0
    for _ in range(300):
        lines: list[AnyLine] = []
        for epoch in range(1, 21):
            for part in ("train", "validation"):
                clean, attack, one, robust = (int(draws.binomial(N, p)) for p in (0.8, 0.45, 0.47, 0.42))
                lines.append(line(clean, attack, one, robust, epoch=epoch, part=part))  # type: ignore[arg-type]
        cried += bool(found(lines))
    assert cried <= 15


CONSTANT = line(300, 300, 300, 300).model_copy(update={"majority": 300})
"""One answer for all: right where the label is the most frequent one, under any attack."""


def test_a_constant_answer_is_not_learning_and_never_the_best() -> None:
    told = not_learning([CONSTANT], 1.0)
    assert told is not None and told[2] == {"clean": 300, "majority": 300, "n": N}
    better = line(301, 120, 120, 100).model_copy(update={"majority": 300})
    assert not_learning([better], 1.0) is None and better.score > CONSTANT.score


@pytest.mark.parametrize(
    ("changed", "progress"), [({}, 0.49), ({"epoch": 0.9}, 1.0), ({"n": 29, "clean": 9, "robust": 9, "majority": 9,
     "training_attack": 9, "one_step": 9}, 1.0)], ids=["early in the run", "less than an epoch", "too few to tell"],
)  # fmt: skip
def test_not_learning_waits_for_something_to_judge(changed: dict[str, Any], progress: float) -> None:
    assert not_learning([CONSTANT.model_copy(update=changed)], progress) is None
    assert not_learning([CONSTANT], 0.5) is not None


def test_without_an_adversary_weights_are_chosen_by_clean_accuracy() -> None:
    first, last = line(300, 300, 290, 200), line(480, 480, 60, 5)
    assert first.score > last.score
    assert first.model_copy(update={"defends": False}).score < last.model_copy(update={"defends": False}).score
    notation = {name: f"{name}()" for name in ("pgd_at", "free", "kurakin", "softplus", "standard", "l1_logistic")}
    defends = {name: parse(text, kind="recipe").defends for name, text in notation.items()}  # type: ignore[union-attr]
    assert [name for name in defends if not defends[name]] == ["standard", "l1_logistic"]


def test_each_alarm_can_be_told_and_only_those_that_settings_know() -> None:
    """The names in `stop_on` are the names in the log."""
    evaluations: dict[str, Callable[[], dict[str, AlarmLine | None]]] = {
        "label_leaking": lambda: alarms.of_evaluations(
            [line(300, 450, 450, 250)], [line(300, 290, 290, 250, part="validation")]
        ),
        "catastrophic_overfitting": lambda: alarms.of_evaluations(
            [BEFORE, line(440, 430, 430, 3, epoch=2)], curve([200, 3], "validation")
        ),
        "robust_overfitting": lambda: alarms.of_evaluations(RISING, FALLING),
        "gradient_masking": lambda: alarms.of_evaluations(
            [line(450, 400, 200, 400)], [line(450, 400, 200, 400, part="validation")]
        ),
        "not_learning": lambda: alarms.of_evaluations([CONSTANT], [CONSTANT.model_copy(update={"part": "validation"})]),
    }
    steps = {
        "dead_attack": lambda: alarms.of_step(step_of(100, dead=1.0)),
        "not_a_number": lambda: alarms.of_step(step_of(100, loss=None)),
    }
    assert sorted(evaluations | steps) == sorted(ALARMS)
    for name, look in (evaluations | steps).items():
        [alarm] = raised(look())
        assert alarm.name == name
        assert alarm.action == "told"
        assert alarm.message.endswith(".") and alarm.advice.endswith(".")


def test_an_alarm_says_where_it_was_raised() -> None:
    [alarm] = raised(alarms.of_step(step_of(730, loss=None)))
    assert (alarm.step, alarm.epoch) == (730, 7.3)
    [alarm] = raised(alarms.of_evaluations(RISING, FALLING))
    assert (alarm.step, alarm.epoch) == (600, 6.0)


def test_shares_are_of_the_lines_own_n() -> None:
    shares = {"clean": 0.6, "training_attack": 0.9, "one_step": 0.9, "robust": 0.1}
    told = label_leaking([evaluation_of(3.0, "train", shares, n=200)])
    assert told is not None and "90.0 % of 200" in told[0]
