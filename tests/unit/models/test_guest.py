"""A guest's rights: mode, gradients, buffers and random state as before, and every change told."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from potemkin.errors import ModelChangedError
from potemkin.models.classifier import Classifier


class Counting(nn.Module):
    """Writes to a buffer at every forward, in one of the ways in which people do."""

    steps: Tensor

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.inner = nn.Linear(3, 2)
        self.register_buffer("steps", torch.zeros(()), persistent=how != "hidden")

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "rebind":
            self.steps = self.steps + 1
        elif self.how == "new":
            self.register_buffer("seen", torch.ones(1))
        else:
            self.steps.add_(1)
        result: Tensor = self.inner(x)
        return result


def body() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(4, 2))


def test_inside_all_is_eval_and_nothing_wants_gradients() -> None:
    net = body().train()
    with Classifier(net).guest():
        assert not any(part.training for part in net.modules())
        assert not any(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.parametrize("fail", [False, True])
def test_mode_and_requires_grad_come_back_one_by_one(fail: bool) -> None:
    net = body().eval()
    net[1].train()
    net[0].weight.requires_grad_(False)
    net[4].weight.grad = torch.ones_like(net[4].weight)
    flags = [part.training for part in net.modules()]
    wanted = [parameter.requires_grad for parameter in net.parameters()]
    try:
        with Classifier(net).guest() as in_train_mode:
            if fail:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fail
    assert in_train_mode == ["1 (BatchNorm1d)"]
    assert [part.training for part in net.modules()] == flags
    assert [parameter.requires_grad for parameter in net.parameters()] == wanted
    assert torch.equal(net[4].weight.grad, torch.ones_like(net[4].weight))


def test_modules_in_train_mode_are_listed_by_name() -> None:
    with Classifier(body().train()).guest() as in_train_mode:
        assert in_train_mode[0] == "the model itself (Sequential)"
        assert in_train_mode[2] == "1 (BatchNorm1d)" and in_train_mode[4] == "3 (Dropout)"
    with Classifier(body().eval()).guest() as in_train_mode:
        assert in_train_mode == []


@pytest.mark.parametrize("fail", [False, True])
def test_the_global_random_states_come_back(fail: bool) -> None:
    classifier = Classifier(body())
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    try:
        with classifier.guest():
            torch.rand(5), np.random.rand(5), random.random()
            torch.manual_seed(9)
            if fail:
                raise ValueError
    except ValueError:
        assert fail
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1]) and random.random() == expected[2]


@pytest.mark.parametrize("how", ["add", "rebind", "hidden"])
def test_a_buffer_that_moved_is_named_and_put_back(how: str) -> None:
    net = Counting(how)
    classifier, buffer = Classifier(net), net.steps
    with pytest.raises(ModelChangedError, match=r"changed while it was evaluated: 'steps'\."), classifier.guest():
        classifier(torch.rand(8, 3))
    assert net.steps is buffer and net.steps.item() == 0


def test_a_buffer_that_appeared_is_named_and_taken_away() -> None:
    net = Counting("new")
    classifier = Classifier(net)
    with pytest.raises(ModelChangedError, match="'seen'"), classifier.guest():
        classifier(torch.rand(8, 3))
    assert "seen" not in dict(net.named_buffers())


def test_buffers_come_back_under_an_exception_too_which_is_not_masked() -> None:
    net = Counting("add")
    classifier = Classifier(net)
    with pytest.raises(ZeroDivisionError), classifier.guest():
        classifier(torch.rand(8, 3))
        raise ZeroDivisionError
    assert net.steps.item() == 0


def test_batch_norm_left_in_train_mode_inside_is_caught() -> None:
    net = body()
    classifier = Classifier(net)
    moved = re.escape("'1.num_batches_tracked', '1.running_mean'")
    with pytest.raises(ModelChangedError, match=moved), classifier.guest():
        net.train()
        classifier(torch.rand(8, 3))
    running = net[1].running_mean
    assert running is not None and not running.any()


def test_a_parameter_that_moved_is_named() -> None:
    net = body()
    with pytest.raises(ModelChangedError, match=re.escape("'4.bias'")), Classifier(net).guest(), torch.no_grad():
        net[4].bias += 1e-7


def test_the_preprocessing_is_a_guest_as_well() -> None:
    classifier = Classifier(nn.Linear(2, 2), preprocessing=Counting("add"))
    with pytest.raises(ModelChangedError, match="'steps'"), classifier.guest() as in_train_mode:
        assert "the model itself (Counting)" in in_train_mode
        classifier(torch.rand(8, 3))


def test_a_quiet_visit_changes_nothing() -> None:
    net = body()
    classifier = Classifier(net)
    before = classifier.fingerprint()
    with classifier.guest(), torch.no_grad():
        classifier(torch.rand(8, 3))
    assert classifier.fingerprint() == before


def test_visits_nest() -> None:
    classifier = Classifier(body().train())
    with classifier.guest() as outer:
        with classifier.guest() as inner:
            pass
        assert not any(part.training for part in classifier.net.modules())
    assert len(outer) == 6 and inner == []
    assert all(part.training for part in classifier.net.modules())


def test_a_network_whose_eval_does_things_is_only_flagged() -> None:
    class Merging(nn.Linear):
        def train(self, mode: bool = True) -> Merging:
            raise AssertionError("eval() was called")

    with Classifier(Merging(3, 2)).guest():
        pass


def traced() -> nn.Module:
    made: nn.Module = torch.jit.trace(body().eval(), torch.rand(2, 3))  # type: ignore[no-untyped-call]
    return made


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [traced, body], ids=["torchscript", "plain"])
def test_torchscript_can_be_a_guest(make: Callable[[], nn.Module]) -> None:
    net = make()
    classifier = Classifier(net)
    with classifier.guest():
        assert classifier(torch.rand(8, 3)).shape == (8, 2)
    assert all(parameter.requires_grad for parameter in net.parameters())
