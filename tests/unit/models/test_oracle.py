"""The oracle: what it answers, what it charges, what it refuses, and that the model never notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from potemkin.errors import AccessError, ConfigError, ModelError
from potemkin.models.classifier import Classifier
from potemkin.models.oracle import Answer, Meter, Oracle, decisions
from potemkin.models.preprocessing import Preprocessing
from potemkin.threat.access import Access

ROWS = 8


def margin(outputs: Tensor) -> Tensor:
    return outputs[:, 1] - outputs[:, 0]


def ask(
    oracle: Oracle,
    query: Tensor,
    *,
    meter: Meter | None = None,
    active: Tensor | None = None,
    objective: Callable[[Tensor], Tensor] | None = margin,
    climb: bool = True,
    climbing: Tensor | None = None,
) -> Answer:
    active = torch.ones(query.shape[0], dtype=torch.bool) if active is None else active
    meter = Meter.zeros(query.shape[0]) if meter is None else meter
    return oracle.ask(query, active=active, meter=meter, objective=objective, climb=climb, climbing=climbing)


def mask(text: str) -> Tensor:
    return torch.tensor([letter == "x" for letter in text])


def linear(inputs: int = 3, classes: int = 2) -> nn.Linear:
    return nn.Linear(inputs, classes)


class Shared(nn.Module):
    """One layer used twice, dropout, batch norm and an in-place ReLU: everything that likes to leave traces."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.body = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.body(self.norm(self.twice(self.twice(x)))))
        return result


def test_the_gradient_is_that_of_each_row_and_input_only() -> None:
    net = linear()
    net.weight.grad = torch.full_like(net.weight, 7.0)
    answer = ask(Oracle(Classifier(net)), torch.rand(ROWS, 3))
    weight = net.weight.detach()
    torch.testing.assert_close(answer.gradient, (weight[1] - weight[0]).expand(ROWS, 3))
    assert torch.equal(net.weight.grad, torch.full_like(net.weight, 7.0)) and net.bias.grad is None
    assert net.weight.requires_grad
    assert not answer.outputs.requires_grad and answer.value is not None and not answer.value.requires_grad
    assert not answer.detached


@pytest.mark.parametrize("as_guest", [True, False])
def test_no_parameter_ever_collects_a_gradient(as_guest: bool) -> None:
    net = Shared().train(not as_guest)
    classifier = Classifier(net)
    if as_guest:
        with classifier.guest():
            answer = ask(Oracle(classifier), torch.rand(ROWS, 4))
    else:
        answer = ask(Oracle(classifier), torch.rand(ROWS, 4))
    assert answer.gradient is not None and bool(answer.gradient.abs().sum() > 0)
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("climb", [True, False])
def test_the_query_is_not_written_to_by_an_in_place_first_layer(climb: bool) -> None:
    query = torch.randn(ROWS, 3)
    before = query.clone()
    net = nn.Sequential(nn.ReLU(inplace=True), linear())
    ask(Oracle(Classifier(net)), query, climb=climb)
    assert torch.equal(query, before) and not query.requires_grad


def test_cost_is_exact_per_row() -> None:
    oracle, meter = Oracle(Classifier(linear())), Meter.zeros(ROWS)
    query = torch.rand(ROWS, 3)
    ask(oracle, query, meter=meter, active=mask("xxxxxx.."), climbing=mask("x.x.x.x."))
    ask(oracle, query, meter=meter, active=mask("xxx....."))
    ask(oracle, query, meter=meter, active=mask("xx......"), climb=False)
    ask(oracle, query, meter=meter, active=mask("x......."), climb=False, objective=None)
    assert meter.forwards.tolist() == [4, 3, 2, 1, 1, 1, 0, 0]
    assert meter.queries.tolist() == meter.forwards.tolist()
    assert meter.backwards.tolist() == [2, 1, 2, 0, 1, 0, 0, 0]
    cost = oracle.physical["search"]
    assert (cost.forwards, cost.backwards, cost.forward_equivalents) == (32, 16, 48)


def test_physical_cost_stands_under_its_purpose() -> None:
    oracle = Oracle(Classifier(linear()))
    for purpose, times in (("clean", 1), ("search", 2), ("verify", 3), ("check", 4)):
        for _ in range(times):
            oracle.ask(torch.rand(ROWS, 3), active=mask("x" * 8), meter=Meter.zeros(ROWS), purpose=purpose)  # type: ignore[arg-type]
    assert {name: cost.forwards for name, cost in oracle.physical.items()} == {
        "clean": 8, "search": 16, "verify": 24, "check": 32,
    }  # fmt: skip


def test_rows_that_do_not_climb_get_no_gradient() -> None:
    answer = ask(Oracle(Classifier(linear())), torch.rand(ROWS, 3), active=mask("xxxx...."), climbing=mask("xx..xx.."))
    assert answer.gradient is not None
    assert (answer.gradient.abs().sum(dim=1) > 0).tolist() == mask("xx......").tolist()


def test_without_climbing_there_is_a_value_and_no_gradient() -> None:
    answer = ask(Oracle(Classifier(linear())), torch.rand(ROWS, 3), climb=False)
    assert answer.gradient is None and answer.value is not None
    assert torch.equal(answer.value, margin(answer.outputs))
    bare = ask(Oracle(Classifier(linear())), torch.rand(ROWS, 3), climb=False, objective=None)
    assert bare.value is None and bare.gradient is None and bare.refused.tolist() == [False] * ROWS


@pytest.mark.parametrize("level", ["scores", "decisions"])
def test_a_gradient_beyond_the_access_is_refused_and_costs_nothing(level: str) -> None:
    oracle, meter = Oracle(Classifier(linear()), Access(level)), Meter.zeros(ROWS)  # type: ignore[arg-type]
    with pytest.raises(AccessError, match=f"sees only {level}"):
        ask(oracle, torch.rand(ROWS, 3), meter=meter)
    assert meter.forwards.sum() == 0 and oracle.physical["search"].forwards == 0


def test_decisions_are_one_hot_and_the_objective_sees_no_more() -> None:
    query = torch.rand(ROWS, 3)
    classifier = Classifier(linear(classes=4))
    scores = classifier(query).detach()
    answer = ask(Oracle(classifier, Access("decisions")), query, climb=False)
    assert torch.equal(answer.outputs, nn.functional.one_hot(scores.argmax(dim=1), 4).float())
    assert answer.value is not None and set(answer.value.tolist()) <= {-1.0, 0.0, 1.0}


def test_decisions_keep_nan_for_the_engine_to_see() -> None:
    hot = decisions(torch.tensor([[0.0, torch.nan], [torch.inf, 1.0], [2.0, 2.0]]))
    assert hot[0].isnan().all() and hot[1:].tolist() == [[1.0, 0.0], [1.0, 0.0]]


def test_the_evaluators_own_looks_are_not_bound_by_the_access() -> None:
    oracle, meter = Oracle(Classifier(linear()), Access("decisions", queries=1)), Meter.zeros(ROWS)
    for _ in range(3):
        answer = oracle.ask(torch.rand(ROWS, 3), active=mask("x" * 8), meter=meter, purpose="verify")
    assert len(answer.outputs.unique()) > 2 and not answer.refused.any()


def test_rows_beyond_their_queries_are_neither_counted_nor_answered() -> None:
    oracle, meter = Oracle(Classifier(linear()), Access("gradients", queries=2)), Meter.zeros(4)
    meter.queries += torch.tensor([0, 1, 2, 5])
    query = torch.rand(4, 3)
    answer = ask(oracle, query, meter=meter)
    assert answer.refused.tolist() == [False, False, True, True]
    assert answer.outputs.isnan().all(dim=1).tolist() == [False, False, True, True]
    assert answer.value is not None and answer.value.isnan().tolist() == [False, False, True, True]
    assert answer.gradient is not None and (answer.gradient.abs().sum(1) > 0).tolist() == [True, True, False, False]
    assert meter.queries.tolist() == [1, 2, 2, 5]
    assert meter.forwards.tolist() == meter.backwards.tolist() == [1, 1, 0, 0]
    assert oracle.physical["search"].forwards == 4  # they were computed all the same
    assert ask(oracle, query, meter=meter, climb=False).refused.tolist() == [False, True, True, True]


class Decided(nn.Module):
    """Nothing differentiable leads from input to output."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.how = linear(classes=3), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "argmax":
            return nn.functional.one_hot(self.inner(x).argmax(dim=1), 3).float()
        if self.how == "detach":
            logits: Tensor = self.inner(x.detach())
            return logits
        with torch.no_grad() if self.how == "no_grad" else torch.inference_mode():
            logits = self.inner(x)
        return logits


@pytest.mark.parametrize("how", ["no_grad", "inference_mode", "argmax", "detach"])
def test_a_model_without_a_path_back_is_said_to_be_detached(how: str) -> None:
    oracle, meter = Oracle(Classifier(Decided(how))), Meter.zeros(ROWS)
    answer = ask(oracle, torch.rand(ROWS, 3), meter=meter)
    assert answer.detached
    assert answer.gradient is not None and answer.gradient.shape == (ROWS, 3) and not answer.gradient.any()
    assert meter.forwards.tolist() == [1] * ROWS
    assert meter.backwards.sum() == 0 and oracle.physical["search"].backwards == 0


def test_a_gradient_that_is_zero_is_not_detached() -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 0.0

    answer = ask(Oracle(Classifier(Flat())), torch.rand(ROWS, 3))
    assert not answer.detached and answer.gradient is not None and not answer.gradient.any()


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode])
def test_a_caller_without_gradients_still_gets_one(around: Callable[[], torch.no_grad]) -> None:
    classifier = Classifier(linear())
    with around():
        answer = ask(Oracle(classifier), torch.rand(ROWS, 3))
        assert answer.gradient is not None and bool(answer.gradient.any())


def test_nan_and_infinity_pass_through_and_stay_in_their_rows() -> None:
    query = torch.rand(4, 3)
    query[1], query[2] = torch.nan, torch.inf
    answer = ask(Oracle(Classifier(linear())), query)
    assert answer.outputs.isfinite().all(dim=1).tolist() == [True, False, False, True]
    assert answer.gradient is not None and bool(answer.gradient[[0, 3]].isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_answers_come_as_float32(dtype: torch.dtype) -> None:
    answer = ask(Oracle(Classifier(linear().to(dtype))), torch.rand(ROWS, 3))
    assert answer.outputs.dtype == torch.float32
    assert answer.gradient is not None and answer.gradient.dtype == torch.float32 and bool(answer.gradient.any())


@pytest.mark.parametrize(
    ("query", "net", "expected"),
    [
        (torch.float32, torch.float32, torch.float32),
        (torch.float64, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float32),
        (torch.float32, torch.float64, torch.float32),
    ],
)
def test_float64_needs_both_sides(query: torch.dtype, net: torch.dtype, expected: torch.dtype) -> None:
    answer = ask(Oracle(Classifier(linear().to(net))), torch.rand(ROWS, 3, dtype=query))
    assert answer.outputs.dtype == expected
    assert answer.value is not None and answer.value.dtype == expected
    assert answer.gradient is not None and answer.gradient.dtype == expected


def test_float64_is_not_rounded_on_the_way() -> None:
    net = linear().double()
    query = torch.rand(ROWS, 3, dtype=torch.float64)
    answer = ask(Oracle(Classifier(net)), query)
    assert torch.equal(answer.outputs, net(query))


@pytest.mark.parametrize("shape", [(5,), (3, 4, 4), (2, 3, 4, 5)])
def test_any_rank_of_row(shape: tuple[int, ...]) -> None:
    size = int(torch.tensor(shape).prod())
    answer = ask(Oracle(Classifier(nn.Sequential(nn.Flatten(), linear(size)))), torch.rand(ROWS, *shape))
    assert answer.gradient is not None and answer.gradient.shape == (ROWS, *shape)


def test_a_backward_that_fails_is_told_in_a_paragraph() -> None:
    class Overwriting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x.exp()
            z = y * 1.0
            y.add_(1.0)
            return z

    with pytest.raises(ModelError, match=r"backward pass failed: RuntimeError: .*inplace") as caught:
        ask(Oracle(Classifier(Overwriting())), torch.rand(ROWS, 3))
    assert "\n" not in str(caught.value) and caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "objective",
    [lambda z: z.sum(), lambda z: z, lambda z: z[:4, 0], lambda z: 1.0],
    ids=["scalar", "all", "few", "float"],
)
def test_an_objective_is_one_number_per_row(objective: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ConfigError, match="one number per row"):
        ask(Oracle(Classifier(linear())), torch.rand(ROWS, 3), objective=objective)


def test_climbing_needs_an_objective() -> None:
    with pytest.raises(ConfigError, match="needs an objective"):
        ask(Oracle(Classifier(linear())), torch.rand(ROWS, 3), objective=None)


class NoSync(TorchDispatchMode):
    """Fails where a value would travel from the device to Python: .item(), `if tensor`, a boolean mask as index."""

    WAITING = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in self.WAITING, f"{func} waits for the device"
        assert not (func.overloadpacket is torch.ops.aten.index and args[1][0].dtype == torch.bool)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("level", ["gradients", "decisions"])
def test_asking_never_waits_for_the_device(level: str) -> None:
    oracle = Oracle(Classifier(linear(), preprocessing=Preprocessing(0.5)), Access(level, queries=3))  # type: ignore[arg-type]
    query, active, climbing, meter = torch.rand(ROWS, 3), mask("xxxxxx.."), mask("x.x.x.x."), Meter.zeros(ROWS)
    climb = level == "gradients"
    oracle.ask(query, active=active, meter=meter, objective=margin, climb=climb)  # constants are placed the first time
    with NoSync():
        oracle.ask(query, active=active, meter=meter, objective=margin, climb=climb, climbing=climbing)
        with pytest.raises(AssertionError, match="waits"):
            bool(active.any())
    assert meter.forwards.tolist() == [2] * 6 + [0] * 2


def test_a_meter_takes_rows_and_they_are_its_own() -> None:
    meter = Meter.zeros(4)
    meter.queries += torch.arange(4)
    taken, masked = meter.take(torch.tensor([3, 1])), meter.take(mask("x..x"))
    taken.queries += 10
    assert taken.queries.tolist() == [13, 11] and masked.queries.tolist() == [0, 3]
    assert meter.queries.tolist() == [0, 1, 2, 3] and meter.forwards.sum() == 0


def test_an_answer_left_to_itself_refused_nothing() -> None:
    assert Answer(torch.zeros(3, 2)).refused.tolist() == [False] * 3


def test_a_backward_that_no_row_reads_is_neither_run_nor_counted() -> None:
    """The forward is the one of a climbing step, so that the outputs keep their last bit."""
    oracle, meter, query = Oracle(Classifier(linear())), Meter.zeros(ROWS), torch.rand(ROWS, 3)
    active = torch.ones(ROWS, dtype=torch.bool)
    answer = oracle.ask(query, active=active, meter=meter, objective=margin, climb=True, backward=False)
    assert answer.gradient is not None and not answer.gradient.any() and not answer.detached
    assert oracle.physical["search"].backwards == 0 and meter.backwards.sum() == 0
    assert oracle.physical["search"].forwards == ROWS and meter.forwards.tolist() == [1] * ROWS
