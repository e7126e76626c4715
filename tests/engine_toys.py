"""Nets whose every answer is known, and a short way to run the engine on them. Shared by the tests of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import potemkin as pk
from potemkin.attacks.program import Attack
from potemkin.data.source import Batch
from potemkin.engine.engine import Engine
from potemkin.engine.jobs import Result
from potemkin.engine.setup import Settings
from potemkin.models.oracle import Oracle
from potemkin.threat.threat_model import ThreatModel


@dataclass
class Done:
    """A finished run."""

    results: list[Result]
    engine: Engine
    oracle: Oracle

    @property
    def outcomes(self) -> list[str]:
        return [result.outcome for result in self.results]

    @property
    def story(self) -> dict[int | str, tuple[object, ...]]:
        """Per id, everything that must not depend on the schedule, to the last bit."""
        return {
            r.id: (
                r.outcome, r.why, r.broken_by, r.spent, r.clean_outputs.numpy().tobytes(),
                None if r.point is None else (r.point.inputs.numpy().tobytes(), r.point.outputs.numpy().tobytes()),
                None if r.outcome != "broken" or r.point is None else r.point.distance,
                {number: (t.jobs, t.spent, t.refused) for number, t in r.attacks.items()},
            )
            for r in self.results
        }  # fmt: skip


def batch_of(x: Tensor, y: Tensor, ids: Sequence[int | str] | None = None) -> Batch:
    """One batch of data with these ids (0, 1, 2, … if none are given)."""
    names = list(range(len(x))) if ids is None else list(ids)
    return Batch(names, torch.arange(len(x)), x, y)


def run(
    net: nn.Module,
    data: tuple[Tensor, Tensor] | Batch | Iterable[Batch],
    threat: object,
    attacks: Attack | Sequence[Attack],
    *,
    seed: int = 0,
    **settings: object,
) -> Done:
    """Run the engine with 8 rows unless `settings` say otherwise, attacks in the order given."""
    model = net if isinstance(net, pk.Classifier) else pk.Classifier(net)
    threat = ThreatModel.of(threat)  # type: ignore[arg-type]
    oracle = Oracle(model, threat.access)
    plan = [attacks] if isinstance(attacks, Attack) else list(attacks)
    engine = Engine(oracle, threat, plan, seed=seed, settings=Settings(**{"rows": 8, "verify_rows": 8, **settings}))  # type: ignore[arg-type]
    if isinstance(data, tuple):
        data = batch_of(*data)
    with model.guest():
        results = list(engine.run([data] if isinstance(data, Batch) else data))
    return Done(results, engine, oracle)


class Ramp(nn.Module):
    """Two classes, one feature that counts: logits (0, slope * (x_0 - edge)). Class 1 is reached above the edge.

    Nothing about it is left to chance: a row of label 0 falls as soon as its first feature has gone over the edge.
    """

    def __init__(self, edge: float = 0.5, slope: float = 8.0) -> None:
        super().__init__()
        self.edge, self.slope = edge, slope

    def forward(self, x: Tensor) -> Tensor:
        score = self.slope * (x.flatten(1)[:, 0] - self.edge)
        return torch.stack((torch.zeros_like(score), score), dim=1)


def ramp_rows(*first: float, width: int = 3) -> tuple[Tensor, Tensor]:
    """Rows of label 0 with these first features; the others are 0.5."""
    x = torch.full((len(first), width), 0.5)
    x[:, 0] = torch.tensor(first)
    return x, torch.zeros(len(first), dtype=torch.int64)


class Zoo(nn.Module):
    """A ramp that behaves as the last feature of a row says: below 0.25 as a ramp, then without a gradient, then
    answering NaN as soon as the first feature leaves 0.3."""

    def __init__(self, edge: float = 0.5) -> None:
        super().__init__()
        self.ramp = Ramp(edge)

    def forward(self, x: Tensor) -> Tensor:
        kind = x.flatten(1)[:, -1:]
        plain = self.ramp(x)
        still = self.ramp(x.detach()) + 0 * plain
        nan = plain.masked_fill((x[:, :1] - 0.3).abs() > 1e-4, torch.nan)
        return torch.where(kind < 0.25, plain, torch.where(kind < 0.75, still, nan))


def random_net(seed: int, width: int, classes: int = 4, hidden: int = 32) -> nn.Module:
    """A small network with large random weights: many hills, so that restarts end in different places."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
        nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, classes),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / (1 + 2 * (parameter.ndim > 1)))
    return net


def random_rows(net: nn.Module, seed: int, count: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows that the net classifies rightly, by definition, except every seventh."""
    x = torch.rand(count, width, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        outputs = net(x)
    y = outputs.argmax(dim=1)
    y[::7] = (y[::7] + 1) % outputs.shape[1]
    return x, y
