"""Whether an answer is the example's own: every way to look at the batch is told, and rounding is not."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import potemkin as pk
from engine_toys import batch_of, random_net
from potemkin.engine.setup import Settings
from potemkin.evaluate.record import Smell
from potemkin.evaluate.rounding import slack
from potemkin.evaluate.smells.company import recompose
from potemkin.evaluate.smells.examine import Checkup, examine
from potemkin.models.oracle import Oracle
from potemkin.threat.box import Box

ROWS = 8


def looked_at(net: nn.Module, x: Tensor, box: tuple[float, float] = (0.0, 1.0), access: str = "gradients") -> Checkup:
    classifier = pk.Classifier(net, box=box)
    attack = pk.fgsm() if access == "gradients" else pk.noise()
    with classifier.guest():
        settings = Settings(ROWS, 1, ROWS, True, True)
        batch = batch_of(x, torch.zeros(len(x), dtype=torch.int64))
        return examine(Oracle(classifier, pk.Access(access)), batch, settings, [attack], ())


def told(found: Checkup) -> Smell | None:
    return next((smell for smell in found.smells if smell.name == "batch_dependent"), None)


def with_seed(net: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter)
    return net.eval()


class Through(nn.Module):
    """A linear network behind what it is given."""

    def __init__(self, first: Callable[[Tensor], Tensor], width: int = 6) -> None:
        super().__init__()
        self.first, self.last = first, with_seed(nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(self.first(x))
        return scores


def attend(x: Tensor) -> Tensor:
    """Attention over the batch, as a forgotten batch_first makes of it."""
    return F.scaled_dot_product_attention(3 * x, 3 * x, x)


def noise_by_place(x: Tensor) -> Tensor:
    """Drawn from one seed at every call: two passes agree, and yet a row's noise is that of its place."""
    return x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


LOOKS_AROUND: dict[str, Callable[[Tensor], Tensor]] = {
    "batch statistics": nn.BatchNorm1d(6, track_running_stats=False, affine=False).eval(),
    "batch statistics on purpose": lambda x: F.batch_norm(x, None, None, training=True),
    "softmax over the rows": lambda x: 9 * x.softmax(dim=0),
    "attention over the rows": attend,
    "the mean taken off": lambda x: x - x.mean(dim=0),
    "scaled by the largest": lambda x: x / x.abs().max(),
    "the neighbour": lambda x: x + 0.01 * x.roll(1, 0),
    "noise by place": noise_by_place,
}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("first", LOOKS_AROUND.values(), ids=LOOKS_AROUND.keys())
def test_a_model_that_looks_at_the_batch_is_told(first: Callable[[Tensor], Tensor], count: int) -> None:
    x = torch.rand(count, 6, generator=torch.Generator().manual_seed(count))
    found = looked_at(Through(first), x)
    smell = told(found)
    assert smell is not None and smell.severity == "alarm"
    assert found.batch_dependent and not found.randomised and not found.may_retire
    assert smell.evidence["inputs"] == (count + 1) // 2
    assert float(smell.evidence["largest_difference"]) > 2 * float(smell.evidence["rounding_allows"])
    assert "in the batch" in smell.message and "BatchNorm" in smell.advice


@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 1.0), (-float("inf"), float("inf")), (0.0, float("inf"))])
def test_equal_examples_meet_a_stranger_inside_the_box(box: tuple[float, float]) -> None:
    """A data set of one picture, or of one picture many times."""
    x = torch.rand(1, 6, generator=torch.Generator().manual_seed(0)).repeat(4, 1) * 0.9
    assert told(looked_at(Through(LOOKS_AROUND["batch statistics"]), x, box)) is not None
    composed, places = recompose(x, ROWS, Box.of(box))
    assert torch.equal(composed, Box.of(box).clip(composed))
    assert torch.equal(composed[places], x[:2])
    assert all(not torch.equal(row, x[0]) for row in composed[:3:2])


def test_no_example_keeps_its_place_and_the_company_is_another() -> None:
    x = torch.rand(ROWS, 6, generator=torch.Generator().manual_seed(0))
    composed, places = recompose(x, ROWS, Box())
    assert composed.shape == x.shape and torch.equal(composed[places], x[: len(places)])
    assert (places != torch.arange(len(places))).all()
    assert not torch.allclose(composed.mean(dim=0), x.mean(dim=0), atol=0.05)


def test_it_is_asked_without_gradients_too() -> None:
    """Under Access('scores') no graph is built, and the smell is told all the same."""
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    assert told(looked_at(Through(LOOKS_AROUND["the mean taken off"]), x, access="scores")) is not None
    assert told(looked_at(Through(torch.sin), x, access="scores")) is None


def test_noise_is_told_as_noise_alone() -> None:
    found = looked_at(Through(lambda x: x + torch.randn_like(x)), torch.rand(5, 6))
    assert [smell.name for smell in found.smells] == ["randomised"]
    assert not found.may_retire and not found.batch_dependent


def pictures(*layers: nn.Module) -> nn.Module:
    return with_seed(nn.Sequential(nn.Unflatten(1, (3, 8, 8)), *layers))


DEEP = [layer for _ in range(20) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())]
ALONE: dict[str, nn.Module] = {
    "a wide network": random_net(0, 192, hidden=256),
    "running statistics": pictures(nn.Conv2d(3, 8, 3, padding=1), *DEEP, nn.Flatten(), nn.Linear(512, 4)),
    "chaos": with_seed(
        nn.Sequential(nn.Linear(192, 64), *(nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(40)))
    ),
    "each picture's own statistics": pictures(
        nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8), nn.GroupNorm(2, 8), nn.Flatten(), nn.LayerNorm(288), nn.Linear(288, 4)
    ),
    "attention within the example": with_seed(
        nn.Sequential(
            nn.Unflatten(1, (12, 16)),
            nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 3),
            nn.Flatten(),
            nn.Linear(192, 4),
        )
    ),
    "eight levels": with_seed(nn.Sequential(nn.Hardtanh(0, 0.5), nn.Linear(192, 4))),
    "half precision": with_seed(nn.Sequential(nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 4))).to(torch.bfloat16),
    "scores that are not finite": Through(lambda x: x / (x > 0.01), 192),
    "huge scores": Through(lambda x: 1e6 * x, 192),
}


@pytest.mark.parametrize("count", [1, 5, 8])
@pytest.mark.parametrize("net", ALONE.values(), ids=ALONE.keys())
def test_a_model_whose_rows_are_alone_is_not_suspected(net: nn.Module, count: int) -> None:
    found = looked_at(net, torch.rand(count, 192, generator=torch.Generator().manual_seed(count)))
    assert told(found) is None
    assert found.may_retire


def test_rounding_is_forgiven_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last digits may depend on the place, as another kernel would have it; ten times the slack may not."""
    x = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))

    def shifted(by: float) -> Smell | None:
        net = Through(lambda x: x)
        with torch.no_grad():
            scale = net(x).abs().max()
        place = torch.linspace(0, 1, ROWS).unsqueeze(1)
        return told(looked_at(Shifted(net, by * scale * place), x))

    assert shifted(1e-6) is None
    assert shifted(1e-3) is not None


class Shifted(nn.Module):
    def __init__(self, net: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.net, self.shift = net, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + self.shift


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def test_slack_lies_between_rounding_and_batch_statistics() -> None:
    """A hundred layers, in float32 against float64, and with batch statistics: far below and far above."""
    x = torch.rand(32, 192, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(192, 64), *(Residual() for _ in range(50)), nn.Linear(64, 4))
    with torch.no_grad():
        for _ in range(40):
            net(torch.rand(32, 192))
        single, exact = net.eval()(x), copy.deepcopy(net).double()(x.double())
        mixed = net.train()(x)
    allowed = slack(single, torch.float32)
    assert ((single - exact).abs().amax(dim=1) < allowed / 10).all()
    assert float((single - mixed).abs().max()) > 10 * float(allowed.max())


def test_an_audit_raises_it_and_retires_nothing() -> None:
    """A layer that everybody meets: BatchNorm that keeps no running statistics uses those of the batch for ever."""
    net = nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False), with_seed(nn.Linear(6, 2))).eval()
    x = torch.rand(20, 6, generator=torch.Generator().manual_seed(0))
    record = pk.audit(net, (x, net(x).argmax(dim=1)), pk.Linf(0.1), pk.pgd(steps=5), rows=8)
    assert "batch_dependent" in {smell.name for smell in record.alarms}
    assert record.settings.retire_cycles is False
    assert record.cost.by_purpose.check.forwards == 4 * 8
    assert pk.audit(net[1], (x, net[1](x).argmax(dim=1)), pk.Linf(0.1), pk.pgd(steps=5), rows=8).smells == []
