"""Objectives against formulas written out row by row in plain Python floats, and what must hold for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potemkin.core.notation import parse, show
from potemkin.core.registry import lookup
from potemkin.errors import ConfigError
from potemkin.threat.goals import Aim, strictly_right
from potemkin.threat.objectives import DLR, KL, CrossEntropy, Entropy, Margin, Objective, ProbabilityMargin

Row = list[float]
ALL: dict[str, Objective] = {
    o.__class__.__name__: o for o in (CrossEntropy(), Margin(), DLR(), ProbabilityMargin(), KL(), Entropy())
}


def least_classes(name: str) -> int:
    return 3 if name == "DLR" else 2


every_objective = pytest.mark.parametrize("name", ALL)


# The formulas, once more, naively.


def softmax(z: Row) -> Row:
    top = max(z)
    e = [math.exp(v - top) for v in z]
    return [v / sum(e) for v in e]


def log_softmax(z: Row) -> Row:
    top = max(z)
    return [v - top - math.log(sum(math.exp(w - top) for w in z)) for v in z]


def lead(z: Row, k: int) -> float:
    return z[k] - max(v for j, v in enumerate(z) if j != k)


def dlr(z: Row, y: int, t: int, clean: Row) -> float:
    down = sorted(z, reverse=True)
    if t < 0:
        return -lead(z, y) / (down[0] - down[2] + 1e-12)
    if len(z) == 3:
        return lead(z, t)
    return -(z[y] - z[t]) / (down[0] - 0.5 * (down[2] + down[3]) + 1e-12)


def kl(z: Row, y: int, t: int, clean: Row) -> float:
    p, q = softmax(clean), log_softmax(z)
    if t >= 0:
        return q[t]
    return sum(p[j] * (math.log(p[j]) - q[j]) for j in range(len(z)) if p[j] > 0)


def entropy(z: Row, y: int, t: int, clean: Row) -> float:
    return log_softmax(z)[t] if t >= 0 else -sum(p * q for p, q in zip(softmax(z), log_softmax(z), strict=True))


FORMULAS: dict[str, Callable[[Row, int, int, Row], float]] = {
    "CrossEntropy": lambda z, y, t, clean: log_softmax(z)[t] if t >= 0 else -log_softmax(z)[y],
    "Margin": lambda z, y, t, clean: lead(z, t) if t >= 0 else -lead(z, y),
    "DLR": dlr,
    "ProbabilityMargin": lambda z, y, t, clean: lead(softmax(z), t) if t >= 0 else -lead(softmax(z), y),
    "KL": kl,
    "Entropy": entropy,
}


@st.composite
def batches(draw: st.DrawFn, least: int = 2) -> tuple[Tensor, Aim]:
    """Float64 logits of many sizes, some with ties, with targeted and untargeted rows mixed."""
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    classes, count = draw(st.integers(least, 12)), draw(st.sampled_from([1, 3, 8]))
    outputs = torch.randn(count, classes, generator=g, dtype=torch.float64) * draw(st.sampled_from([0.01, 1.0, 30.0]))
    outputs = outputs + draw(st.sampled_from([0.0, -200.0, 50.0]))
    if draw(st.booleans()):
        outputs = outputs.round()  # ties
    label = torch.randint(0, classes, (count,), generator=g)
    target = (label + torch.randint(1, classes, (count,), generator=g)) % classes
    target = torch.where(torch.rand(count, generator=g) < 0.5, target, -1)
    clean = torch.randn(count, classes, generator=g, dtype=torch.float64) * 3
    return outputs, Aim(label, target, clean)


@every_objective
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_it_is_the_formula(name: str, data: st.DataObject) -> None:
    outputs, aim = data.draw(batches(least_classes(name)))
    assert aim.clean is not None
    expected = [
        FORMULAS[name](outputs[i].tolist(), int(aim.label[i]), int(aim.target[i]), aim.clean[i].tolist())
        for i in range(len(outputs))
    ]
    got = ALL[name](outputs, aim)
    assert got.shape == (len(outputs),) and got.dtype == torch.float64
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@every_objective
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_row_depends_on_itself_alone(name: str, data: st.DataObject) -> None:
    outputs, aim = data.draw(batches(least_classes(name)))
    outputs = outputs.float()
    whole = ALL[name](outputs, aim)
    order = torch.randperm(len(outputs), generator=torch.Generator().manual_seed(0))
    for pick in (order, order[:1].repeat(8), torch.arange(len(outputs)).repeat(2)):
        assert torch.equal(ALL[name](outputs[pick], aim.rows(pick)), whole[pick])


@pytest.mark.parametrize(("name", "classes"), [(n, k) for n in ALL for k in (2, 3, 4, 7) if k >= least_classes(n)])
def test_gradients_are_those_of_the_function(name: str, classes: int) -> None:
    g = torch.Generator().manual_seed(classes)
    outputs = torch.randn(6, classes, generator=g, dtype=torch.float64).requires_grad_()
    label = torch.arange(6) % classes
    target = torch.where(torch.arange(6) < 3, (label + 1) % classes, -1)
    aim = Aim(label, target, torch.randn(6, classes, generator=g, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda z: ALL[name](z, aim), (outputs,))


@every_objective
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_values_and_gradients_are_finite_in_float32(name: str, data: st.DataObject) -> None:
    outputs, aim = data.draw(batches(least_classes(name)))
    scale = data.draw(st.sampled_from([0.0, 1e-20, 1.0, 1e4]))  # all equal, nearly equal, saturated
    z = (outputs * scale).float().requires_grad_()
    value = ALL[name](z, aim)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert bool(value.isfinite().all()) and bool(gradient.isfinite().all())


@every_objective
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_the_gradient_of_a_row_is_its_own(name: str, data: st.DataObject) -> None:
    outputs, aim = data.draw(batches(least_classes(name)))
    z = outputs.requires_grad_()
    (gradient,) = torch.autograd.grad(ALL[name](z, aim)[0], z)
    assert not gradient[1:].any()


# Meaning.


@pytest.mark.parametrize("name", ["Margin", "ProbabilityMargin", "DLR"])
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_a_margin_is_negative_exactly_where_the_model_is_right(name: str, data: st.DataObject) -> None:
    outputs, aim = data.draw(batches(3))
    aim.target = torch.full_like(aim.label, -1)
    outputs = (outputs - outputs.amax(1, keepdim=True)).clamp_min(-20)  # the softmax must tell the classes apart
    assert torch.equal(ALL[name](outputs, aim) < 0, strictly_right(outputs, aim.label))


def test_all_negative_logits_mask_the_true_class_by_minus_infinity() -> None:
    """With 0 in place of -inf the best "other" would be 0, and the margin 7."""
    outputs = torch.tensor([[-7.0, -5.0, -9.0]])
    assert Margin()(outputs, Aim(torch.tensor([0]), torch.tensor([-1]))).tolist() == [2.0]
    assert Margin()(outputs, Aim(torch.tensor([0]), torch.tensor([1]))).tolist() == [2.0]
    assert Margin()(outputs, Aim(torch.tensor([0]), torch.tensor([2]))).tolist() == [-4.0]


@given(
    data=st.data(),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-100, 100),
)
@settings(max_examples=60, deadline=None)
def test_dlr_does_not_feel_scale_or_shift(data: st.DataObject, scale: float, shift: float) -> None:
    g = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    outputs = torch.randn(8, data.draw(st.integers(4, 10)), generator=g, dtype=torch.float64)
    aim = Aim(torch.zeros(8, dtype=torch.int64), torch.tensor([-1, 1, -1, 2, -1, 3, -1, 1]))
    torch.testing.assert_close(DLR()(outputs * scale + shift, aim), DLR()(outputs, aim), rtol=1e-6, atol=1e-6)
    assert not torch.allclose(Margin()(outputs * (scale + 1), aim), Margin()(outputs, aim))


def test_dlr_of_a_sure_prediction_and_of_ties() -> None:
    aim = Aim(torch.tensor([0, 0, 0]), torch.tensor([-1, -1, -1]))
    outputs = torch.tensor([[9.0, 1, 1, 1], [3, 3, 1, 0], [3, 3, 3, 3]])
    assert DLR()(outputs, aim).tolist() == [-1.0, 0.0, 0.0]


def test_entropy_and_kl_know_their_extremes() -> None:
    aim = Aim(torch.tensor([0, 0]), torch.tensor([-1, -1]), clean=torch.tensor([[0.0, 0, 0, 0], [200, 0, 0, 0]]))
    outputs = torch.tensor([[0.0, 0, 0, 0], [0, 200, 0, 0]])
    torch.testing.assert_close(Entropy()(outputs, aim), torch.tensor([math.log(4), 0.0]))
    torch.testing.assert_close(KL()(outputs, aim), torch.tensor([0.0, 200.0]))


def test_kl_sends_no_gradient_to_the_clean_logits_and_needs_them() -> None:
    clean = torch.randn(2, 3, requires_grad=True)
    outputs = torch.randn(2, 3, requires_grad=True)
    aim = Aim(torch.tensor([0, 1]), torch.tensor([-1, -1]), clean)
    KL()(outputs, aim).sum().backward()
    assert clean.grad is None and outputs.grad is not None
    with pytest.raises(ConfigError, match="clean"):
        KL()(outputs, Aim(aim.label, aim.target))


# Stand-ins.


@pytest.mark.parametrize(
    ("classes", "targeted", "expected"),
    [
        (2, False, Margin()),
        (2, True, Margin()),
        (3, False, DLR()),
        (3, True, Margin()),
        (4, True, DLR()),
        (9, False, DLR()),
    ],
)
def test_dlr_names_its_stand_in(classes: int, targeted: bool, expected: Objective) -> None:
    assert DLR().fallback(classes, targeted) == expected


def test_the_others_stand_for_themselves_with_two_classes() -> None:
    for name, objective in ALL.items():
        if name != "DLR":
            assert objective.fallback(2, False) is objective and objective.fallback(2, True) is objective


def test_dlr_refuses_two_classes_and_names_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"at least 3 classes, the model has 2; use Margin\(\)"):
        DLR()(torch.zeros(1, 2), Aim(torch.tensor([0]), torch.tensor([-1])))


def test_dlr_at_three_classes_mixes_rows_as_the_fallback_would() -> None:
    outputs = torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    aim = Aim(torch.tensor([0, 0]), torch.tensor([-1, 2]))
    value = DLR()(outputs, aim)
    untargeted, toward = DLR().fallback(3, False), DLR().fallback(3, True)
    assert value.tolist() == [untargeted(outputs, aim)[0], toward(outputs, aim)[1]]


@every_objective
def test_objectives_are_registered_and_come_back(name: str) -> None:
    assert lookup(name, "objective").summary.endswith(".")
    assert parse(show(ALL[name]), kind="objective") == ALL[name]


@every_objective
def test_nothing_waits_for_the_device(name: str) -> None:
    outputs = torch.zeros(8, 5, device="meta")
    label = torch.zeros(8, dtype=torch.int64, device="meta")
    assert ALL[name](outputs, Aim(label, label, outputs)).shape == (8,)
