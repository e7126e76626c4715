"""Batch normalisation folded into the layer before it: the same function, proven, and gone afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from potemkin.models.architectures import ResNet
from potemkin.models.folding import Folding
from potemkin.threat.box import Box
from potemkin.training.learner import Learner


def drawn(net: nn.Module) -> nn.Module:
    """With statistics of a network that has learnt something."""
    torch.manual_seed(1)
    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            part.running_mean.normal_()
            part.running_var.uniform_(0.3, 3)
            if part.affine:
                part.weight.data.normal_(1, 0.5)
                part.bias.data.normal_()
    return net.eval()


class Odd(nn.Module):
    """One convolution and its normalisation, put together by `how`."""

    def __init__(self, how: Callable[[Odd, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.how(self, x).mean((2, 3)))


FOLDABLE: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "a residual network": (lambda: ResNet(4, blocks=1), (3, 16, 16), 9),
    "one pair": (lambda: Odd(lambda own, x: own.norm(own.conv(x))), (3, 8, 8), 1),
    "a ReLU in place after it": (lambda: Odd(lambda own, x: F.relu_(own.norm(own.conv(x)))), (3, 8, 8), 1),
    "noise of its own": (lambda: Odd(lambda own, x: own.norm(own.conv(x + torch.rand_like(x)))), (3, 8, 8), 1),
    "a linear layer": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(12, 5, bias=False), nn.BatchNorm1d(5), nn.Linear(5, 3)),
        (3, 2, 2), 1,
    ),
    "groups, padding, stride, no affine": (
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2, padding_mode="circular"),
            nn.BatchNorm2d(8, affine=False), nn.Flatten(), nn.Linear(8 * 4 * 4, 3),
        ),
        (4, 8, 8), 1,
    ),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(4 * 6, 3)), (2, 8), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLDABLE)
def test_logits_and_input_gradients_are_the_same(name: str) -> None:
    make, shape, pairs = FOLDABLE[name]
    net, x = drawn(make()).double(), torch.rand(5, *shape, dtype=torch.float64)
    folding = Folding.of(net.float(), x.float())
    assert len(folding.pairs) == pairs
    net.double()

    def look() -> tuple[Tensor, Tensor]:
        torch.manual_seed(2)
        point = x.clone().requires_grad_()
        logits = net(point)
        return logits.detach(), torch.autograd.grad(logits.square().sum(), point)[0]

    plain = look()
    with folding.applied():
        counted = [0]
        hook = folding.pairs[0][1].register_forward_hook(lambda *_: counted.__setitem__(0, counted[0] + 1))
        merged = look()
        hook.remove()
    assert counted == [1], "the network's own code ran, hooks and all"
    for a, b in zip(plain, merged, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)
    again = look()
    assert torch.equal(plain[0], again[0]), "and nothing is left behind"
    assert not any("forward" in vars(part) for part in net.modules())


def test_it_follows_the_weights() -> None:
    net, x = drawn(ResNet(4, blocks=1)), torch.rand(4, 3, 16, 16)
    folding = Folding.of(net, x)
    before = net(x)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    expected = net(x)
    with folding.applied():
        assert torch.allclose(net(x), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, expected, atol=1e-2)
    drawn(net)
    for part in net.parameters():
        part.data.mul_(0.7)
    with folding.applied():  # not what was merged the first time
        inside = net(x)
    assert torch.allclose(inside, net(x), rtol=1e-4, atol=1e-4) and not torch.allclose(inside, expected, atol=1e-2)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def hooked(layer: nn.Module) -> nn.Module:
    """Its weights drift with each pass, by a hook before it."""
    layer.register_forward_pre_hook(lambda part, given: part.weight.data.mul_(1.0))
    return layer


def made_bias(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "bias", Twice())
    return layer


@pytest.mark.parametrize("made", [spectral_norm, weight_norm, parametrizations.spectral_norm, hooked, made_bias])
def test_weights_that_are_made_anew_at_each_pass_are_left_alone(made: Callable[[nn.Module], nn.Module]) -> None:
    """They stand still while it is proven, and not while the network learns."""
    net = nn.Sequential(made(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 36, 4))
    assert Folding.of(drawn(net), torch.rand(4, 3, 8, 8)).pairs == []


OTHERS: dict[str, Callable[[Odd, Tensor], Tensor]] = {
    "what the layer returned is used twice": lambda own, x: (y := own.conv(x)) + own.norm(y),
    "something is in between": lambda own, x: own.norm(own.conv(x).relu()),
    "something in place is in between": lambda own, x: own.norm(own.conv(x).relu_()),
    "the layer is called twice": lambda own, x: own.norm(own.conv(x)) + own.conv(x),
    "the normalisation is called twice": lambda own, x: own.norm(own.norm(own.conv(x))),
    "functional": lambda own, x: F.batch_norm(own.conv(x), own.norm.running_mean, own.norm.running_var),
    "no layer before it": lambda own, x: own.conv(x) * 2 if x.sum() < 0 else own.norm(own.conv(x) * 2),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("new", [True, False])
def test_what_is_no_pair_is_left_alone(name: str, new: bool) -> None:
    """Also where the statistics are those of a new network, which hide the difference."""
    net = Odd(OTHERS[name]).eval() if new else drawn(Odd(OTHERS[name]))
    assert Folding.of(net, torch.rand(4, 3, 8, 8)).pairs == []


class NoCopy(ResNet):
    def __deepcopy__(self, memo: object) -> NoCopy:
        raise RuntimeError("not me")


class Float32(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()


@pytest.mark.parametrize(
    "net",
    [
        NoCopy(4, blocks=1),
        nn.Sequential(Float32(), ResNet(4, blocks=1)),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(), nn.LazyLinear(3)),
    ],
    ids=["cannot be copied", "cannot be computed in float64", "has no running statistics"],
)
def test_what_cannot_be_proven_is_left_alone(net: nn.Module) -> None:
    with torch.no_grad():
        net(torch.rand(2, 3, 16, 16))
    assert Folding.of(net.eval(), torch.rand(4, 3, 16, 16)).pairs == []


def test_looking_leaves_the_network_and_the_random_numbers_as_they_were() -> None:
    net = drawn(ResNet(4, blocks=1)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert Folding.of(net, torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))).pairs
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(part.training for part in net.modules())


def test_a_pass_that_fails_takes_the_folding_off() -> None:
    net = drawn(ResNet(4, blocks=1))
    folding = Folding.of(net, torch.rand(2, 3, 16, 16))
    with pytest.raises(RuntimeError), folding.applied():
        net(torch.rand(2, 5, 16, 16))
    assert not any("forward" in vars(part) for part in net.modules())


def test_a_learner_folds_in_eval_mode_alone() -> None:
    net, x = drawn(ResNet(4, blocks=1)).train(), torch.rand(8, 3, 16, 16)
    folding = Folding.of(net, x)
    plain, folded = (Learner(net, net, Box(0, 1), folding=each) for each in (Folding([]), folding))
    seen: list[bool] = []
    net.norm.register_forward_hook(lambda part, given, out: seen.append(out is given[0]))
    answers = {}
    for mode in ("train", "eval"):
        for name, learner in (("plain", plain), ("folded", folded)):
            with learner.probing(mode) as logits, torch.no_grad():
                answers[mode, name] = logits(x)
    assert seen == [False, False, False, True]
    assert torch.equal(answers["train", "plain"], answers["train", "folded"])
    assert torch.allclose(answers["eval", "plain"], answers["eval", "folded"], atol=1e-4, rtol=1e-4)
    net.train()
    folded.learn(x)
    assert seen[-1] is False, "learning sees the batch's own statistics"
