"""The recipes agree with the slow transcriptions of their papers, iterate by iterate, in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import potemkin as pk
from potemkin.attacks.drive import drive
from potemkin.attacks.program import Attack, Rows
from potemkin.core.random import RowStreams, row_keys
from potemkin.threat.box import Box
from potemkin.threat.goals import Aim

from . import apgd, apgd_l1, bim, fgsm, mi_fgsm, ni_fgsm, pgd
from .trace import Trace

B, SHAPE, K = 8, (1, 6, 6), 5
EPS = {"linf": 0.12, "l2": 0.9, "l1": 4.0}
SETS = {"linf": pk.Linf, "l2": pk.L2, "l1": pk.L1}
SHRINK = 3e-6
"""Our L2 and L1 projections stay inside by a factor of 1 - 1e-6, so that float32 results never leave the set."""


@dataclass
class Setting:
    net: nn.Module
    x: Tensor
    labels: Tensor

    def rows(self, norm: str, attack: Attack, targets: Tensor | None = None, seed: int = 0) -> Rows:
        perturbations = SETS[norm](EPS[norm])
        aim_targets = torch.full((B,), -1) if targets is None else targets
        with torch.no_grad():
            clean = self.net(self.x)
        return Rows(
            x=self.x,
            aim=Aim(self.labels, aim_targets, clean),
            set=perturbations,
            region=perturbations.around(self.x, Box(0, 1)),
            steps=torch.full((B,), attack.steps_for(EPS[norm])),
            streams=RowStreams(row_keys(seed, torch.arange(B), 1, torch.tensor(-1), torch.tensor(0))),
        )

    def ours(self, norm: str, attack: Attack, targets: Tensor | None = None, start: Tensor | None = None) -> list:
        program = attack.program(K, SETS[norm](1.0).norm_name, targets is not None)
        rows = self.rows(norm, attack, targets)
        state = program.start(rows) if start is None else program.start_from(rows, start)
        moves = attack.steps_for(EPS[norm])
        return list(drive(program, rows, self.net, moves, state))


@pytest.fixture(scope="module", params=[0, 1])
def setting(request: pytest.FixtureRequest) -> Setting:
    """A rugged network (large weights, tanh), so that trajectories are nowhere near trivial."""
    generator = torch.Generator().manual_seed(request.param)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(36, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, K)
    ).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    x = torch.rand(B, *SHAPE, generator=generator, dtype=torch.float64)
    return Setting(net, x, net(x).argmax(1))


def close(ours: list, theirs: Trace, tolerance: float) -> None:
    """Same number of points, same losses, same points."""
    assert len(ours) == len(theirs.losses)
    for number, ((state, reply), losses, points) in enumerate(zip(ours, theirs.losses, theirs.iterates, strict=True)):
        torch.testing.assert_close(
            reply.value, losses, atol=tolerance * 50, rtol=0, msg=lambda m, n=number: f"loss {n}: {m}"
        )
        torch.testing.assert_close(
            state.point, points, atol=tolerance, rtol=0, msg=lambda m, n=number: f"point {n}: {m}"
        )


def inside(setting: Setting, norm: str) -> Tensor:
    """A start that both sides are given, so that random draws do not matter."""
    rows = setting.rows(norm, pk.pgd())
    return rows.region.sample(rows.streams, torch.zeros(B, dtype=torch.int64))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fgsm_and_fast_gradient_are_one_step_along_the_steepest_direction(setting: Setting, norm: str) -> None:
    box = (0.0, 1.0) if norm == "l1" else None
    theirs = fgsm.run(setting.net, setting.x, setting.labels, EPS[norm], norm=norm, box=box)
    recipe = pk.fgsm() if norm == "linf" else pk.fast_gradient()
    state, _ = setting.ours(norm, recipe)[-1]
    clipped = theirs.final.clamp(0, 1)
    torch.testing.assert_close(state.point, clipped, atol=0 if norm == "linf" else SHRINK, rtol=0)


def test_bim_with_kurakins_step_and_count(setting: Setting) -> None:
    theirs = bim.run(setting.net, setting.x, setting.labels, EPS["linf"])
    close(setting.ours("linf", pk.bim()), theirs, 1e-12)


def test_iterative_least_likely(setting: Setting) -> None:
    theirs = bim.run(setting.net, setting.x, setting.labels, EPS["linf"], least_likely=True)
    recipe = pk.iterative_ll()
    rows = setting.rows("linf", recipe)
    _, targets = recipe.targeting.aims(rows.aim.clean, rows.aim.label, rows.streams)
    close(setting.ours("linf", recipe, targets[:, 0]), theirs, 1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_from_a_given_start(setting: Setting, norm: str) -> None:
    start = inside(setting, norm)
    theirs = pgd.run(
        setting.net, setting.x, setting.labels, EPS[norm], 25, EPS[norm] / 5, start=start, norm=norm, exact=True
    )
    ours = setting.ours(norm, pk.pgd(steps=25, relative_step_size=0.2), start=start)
    close(ours, theirs, 1e-12 if norm == "linf" else 1e-3)
    # The first moves, before a shrink of 1e-6 can grow on a rugged model, agree to rounding.
    close(
        ours[:4],
        replace(theirs, losses=theirs.losses[:4], iterates=theirs.iterates[:4]),
        1e-12 if norm == "linf" else 1e-5,
    )


def test_mi_fgsm_accumulates_normalised_gradients_not_signs(setting: Setting) -> None:
    theirs = mi_fgsm.run(setting.net, setting.x, setting.labels, EPS["linf"], 12)
    close(setting.ours("linf", pk.mi_fgsm(steps=12)), theirs, 1e-12)


def test_ni_fgsm_looks_ahead(setting: Setting) -> None:
    theirs = ni_fgsm.run(setting.net, setting.x, setting.labels, EPS["linf"], 12)
    ours = setting.ours("linf", pk.ni_fgsm(steps=12))
    for (state, _), points in zip(ours, theirs.iterates, strict=True):
        torch.testing.assert_close(state.point, points, atol=1e-12, rtol=0)
    # Where the gradient is taken, without the last query, which only evaluates the result.
    for (state, _), asked in zip(ours[:-1], theirs.queries, strict=False):
        torch.testing.assert_close(state.query, asked, atol=1e-12, rtol=0)


@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize("objective", ["ce", "dlr", "targeted dlr"])
def test_apgd_linf_has_the_losses_of_the_published_algorithm(setting: Setting, steps: int, objective: str) -> None:
    start = inside(setting, "linf")
    targets = (setting.labels + 2) % K if objective == "targeted dlr" else None
    theirs = apgd.run(
        setting.net,
        setting.x,
        setting.labels,
        EPS["linf"],
        steps,
        start=start,
        targets=targets,
        objective=objective[-3:].strip(),
    )
    recipe = pk.apgd(steps=steps, objective=pk.CrossEntropy() if objective == "ce" else pk.DLR())
    ours = setting.ours("linf", recipe, targets, start=start)
    best = ours[-1][0].best_value.maximum(ours[-1][1].value)
    torch.testing.assert_close(best, theirs.best_loss, atol=1e-9, rtol=0)
    for (_, reply), losses in zip(ours, theirs.losses, strict=True):
        torch.testing.assert_close(reply.value, losses, atol=1e-9, rtol=0)


@pytest.mark.parametrize("steps", [20, 100])
def test_apgd_l2_has_the_losses_of_the_published_algorithm(setting: Setting, steps: int) -> None:
    start = inside(setting, "l2")
    theirs = apgd.run(setting.net, setting.x, setting.labels, EPS["l2"], steps, start=start, norm="l2")
    ours = setting.ours("l2", pk.apgd(steps=steps), start=start)
    for (_, reply), losses in list(zip(ours, theirs.losses, strict=True))[:20]:
        torch.testing.assert_close(reply.value, losses, atol=2e-4, rtol=0)
    best = ours[-1][0].best_value.maximum(ours[-1][1].value)
    torch.testing.assert_close(best, theirs.best_loss, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("steps", [20, 100])
def test_apgd_l1_has_the_losses_of_the_published_algorithm(setting: Setting, steps: int) -> None:
    """One phase of the L1 schedule: the sparse steps and their controller.

    The controller counts nonzeros, so a rounding of 1e-17 that turns a zero into a nonzero sends a row elsewhere: the
    losses agree to rounding for the first moves, the best loss within a percent at the end.
    """
    start = inside(setting, "l1")
    theirs = apgd_l1.run(setting.net, setting.x, setting.labels, EPS["l1"], steps, start=start)
    program = pk.apgd(steps=steps).program(K, "L1", False).ascent
    rows = setting.rows("l1", pk.apgd(steps=steps))
    ours = list(drive(program, rows, setting.net, steps, program.start_from(rows, start)))
    for (_, reply), losses in list(zip(ours, theirs.losses, strict=True))[:20]:
        torch.testing.assert_close(reply.value, losses, atol=1e-9, rtol=0)
    best = ours[-1][0].best_value.maximum(ours[-1][1].value)
    torch.testing.assert_close(best, theirs.best_loss, atol=0, rtol=1e-2)


@pytest.mark.parametrize("steps", [20, 25, 7])
def test_apgd_l1_runs_at_three_two_and_one_eps(setting: Setting, steps: int) -> None:
    """The whole schedule: the losses of all phases, each starting from the best point of the one before.

    30 % of 20 moves are 6; of 25 they are 7.5 and of 7 they are 2.1, which are 8 and 3 moves.
    """
    start = inside(setting, "l1")
    stages = apgd_l1.schedule(setting.net, setting.x, setting.labels, EPS["l1"], steps, start=start)
    program = pk.apgd(steps=steps).program(K, "L1", False)
    rows = setting.rows("l1", pk.apgd(steps=steps))
    forwards, _ = program.cost(steps)
    ours = list(drive(program, rows, setting.net, forwards - 1, program.start_from(rows, start)))
    theirs = [losses for stage in stages for losses in stage.losses]
    assert len(ours) == len(theirs) == steps + 3
    for (_, reply), losses in zip(ours, theirs, strict=True):
        torch.testing.assert_close(reply.value, losses, atol=1e-9, rtol=0)
    assert rows.region.contains(ours[-1][0].best).all()
