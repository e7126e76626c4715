"""Goals: ties, NaN, two classes, and targets that depend on the row alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from potemkin.core.notation import parse, show
from potemkin.core.random import RowStreams
from potemkin.core.registry import entries
from potemkin.errors import ConfigError
from potemkin.threat.goals import NO_TARGET, Aim, Goal, LeastLikely, RandomTarget, Targeted, Untargeted, strictly_right
from property.set_laws import streams

NAN, INF = math.nan, math.inf


def aim(*labels: int, target: int = NO_TARGET) -> Aim:
    return Aim(torch.tensor(labels), torch.full((len(labels),), target))


def targets(goal: Goal, clean: Tensor, label: Tensor) -> list[int]:
    found = goal.targets(clean, label, streams(len(label)))
    assert found.dtype == torch.int64
    return found.tolist()


@pytest.mark.parametrize(
    ("outputs", "right"),
    [
        ([2.0, 1.0, 0.0], True),
        ([1.0, 2.0, 0.0], False),
        ([1.0, 1.0, 0.0], False),  # a tie is wrong
        ([-7.0, -5.0, -9.0], False),
        ([-5.0, -7.0, -9.0], True),  # all negative: the others must be masked by -inf, not 0
        ([INF, 1.0, 0.0], True),
        ([INF, INF, 0.0], False),
        ([-INF, -INF, -INF], False),
        ([NAN, 1.0, 0.0], False),
        ([2.0, NAN, 0.0], False),
    ],
)
def test_right_means_strictly_the_greatest(outputs: list[float], right: bool) -> None:
    found = strictly_right(torch.tensor([outputs, outputs]), torch.tensor([0, 0]))
    assert found.tolist() == [right, right]


def test_untargeted_is_met_on_ties_and_never_on_nan() -> None:
    outputs = torch.tensor([[2.0, 1, 0], [1, 2, 0], [1, 1, 0], [NAN, 1, 0], [0, 1, NAN], [NAN, NAN, NAN], [0, INF, 0]])
    met = Untargeted().is_met(outputs, aim(*[0] * 7))
    assert met.tolist() == [False, True, True, False, False, False, True]


def test_targeted_is_met_only_where_the_target_is_strictly_the_greatest() -> None:
    outputs = torch.tensor([[1.0, 2, 0], [1, 1, 0], [2, 1, 0], [0, 1, 2], [NAN, 2, 0], [0, NAN, 0]])
    met = Targeted(1).is_met(outputs, aim(*[0] * 6, target=1))
    assert met.tolist() == [True, False, False, False, False, False]
    for goal in (Targeted(1), LeastLikely(), RandomTarget()):
        assert goal.targeted and not goal.is_met(torch.tensor([[5.0, 1.0]]), aim(1)).any()  # no target, never met


def test_goals_work_with_two_classes() -> None:
    outputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert Untargeted().is_met(outputs, aim(0, 0, 0)).tolist() == [False, True, True]
    label = torch.tensor([0, 1, 1])
    for goal in (LeastLikely(), RandomTarget()):
        assert targets(goal, outputs, label) == [1, 0, 0]


def test_untargeted_steers_at_nothing() -> None:
    assert targets(Untargeted(), torch.zeros(3, 4), torch.tensor([0, 1, 2])) == [-1, -1, -1]
    assert not Untargeted().targeted


def test_targeted_leaves_out_rows_that_are_of_that_class() -> None:
    assert targets(Targeted(2), torch.zeros(3, 4), torch.tensor([0, 2, 3])) == [2, -1, 2]


def test_least_likely_is_never_the_true_class() -> None:
    rows = [[0.0, 3, 1, 2], [0, 3, 1, 2], [5, 5, 5, 5], [5, 5, 5, 5], [0, INF, INF, INF], [-INF, 1, 2, -INF]]
    clean, label = torch.tensor(rows), torch.tensor([1, 0, 1, 0, 0, 0])
    assert targets(LeastLikely(), clean, label) == [0, 2, 0, 1, 1, 3]  # ties: the lowest number


def test_least_likely_excludes_the_true_class_at_random() -> None:
    g = torch.Generator().manual_seed(0)
    clean, label = torch.randn(500, 7, generator=g), torch.randint(0, 7, (500,), generator=g)
    found = LeastLikely().targets(clean, label, streams(500))
    for row in range(500):
        others = [k for k in range(7) if k != label[row]]
        assert int(found[row]) == min(others, key=lambda k, row=row: float(clean[row, k]))


def test_random_target_is_uniform_over_the_other_classes() -> None:
    count, classes = 9000, 10
    label = torch.arange(count) % classes
    found = RandomTarget().targets(torch.zeros(count, classes), label, streams(count))
    assert bool(((found != label) & (found >= 0) & (found < classes)).all())
    shift = (found - label) % classes
    seen = torch.bincount(shift, minlength=classes)[1:].double()
    chi_square = float(((seen - count / 9) ** 2 / (count / 9)).sum())
    assert chi_square < 26.1  # the 0.001 bound with 8 degrees of freedom


def test_random_target_does_not_depend_on_the_batch() -> None:
    label = torch.arange(40) % 5
    clean, all_streams = torch.zeros(40, 5), streams(40)
    whole = RandomTarget().targets(clean, label, all_streams)
    pick = torch.tensor([17, 3, 3, 39])
    part = RandomTarget().targets(torch.randn(4, 5), label[pick], RowStreams(all_streams.keys[pick]))
    assert torch.equal(part, whole[pick])
    assert len(set(whole.tolist())) == 5
    assert not torch.equal(RandomTarget().targets(clean, label, streams(40, seed=1)), whole)


def test_a_target_must_be_a_class() -> None:
    for wrong in (-1, 1.0, "cat", True):
        with pytest.raises(ConfigError, match="target class of Targeted"):
            Targeted(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Targeted\(4\).*0 to 3"):
        targets(Targeted(4), torch.zeros(2, 4), torch.tensor([0, 1]))


def test_aims_pick_rows() -> None:
    whole = Aim(torch.tensor([1, 2, 3]), torch.tensor([-1, 0, 5]), torch.arange(12.0).reshape(3, 4))
    part = whole.rows(torch.tensor([2, 0]))
    assert (part.label.tolist(), part.target.tolist()) == ([3, 1], [5, -1])
    assert part.clean is not None and part.clean[:, 0].tolist() == [8.0, 0.0]
    assert whole.rows(torch.tensor([False, True, False])).label.tolist() == [2]
    assert whole.targeted.tolist() == [False, True, True]
    assert Aim(whole.label, whole.target).rows(torch.tensor([0])).clean is None


def test_goals_read_well_and_come_back() -> None:
    said = {
        Untargeted(): "untargeted",
        Targeted(3): "targeted at class 3",
        LeastLikely(): "targeted at the least likely class",
        RandomTarget(): "targeted at a random other class",
    }
    for goal, sentence in said.items():
        assert goal.sentence() == sentence and parse(show(goal), kind="goal") == goal
    assert {entry.name for entry in entries("goal")} >= {type(goal).__name__ for goal in said}


@pytest.mark.parametrize("goal", [Untargeted(), Targeted(1), LeastLikely(), RandomTarget()], ids=repr)
def test_goals_wait_for_no_device(goal: Goal) -> None:
    outputs, label = torch.zeros(8, 4, device="meta"), torch.zeros(8, dtype=torch.int64, device="meta")
    assert goal.is_met(outputs, Aim(label, label)).dtype == torch.bool
    found = goal.targets(outputs, label, RowStreams(torch.zeros(8, 2, dtype=torch.int64, device="meta")))
    assert found.shape == (8,)
