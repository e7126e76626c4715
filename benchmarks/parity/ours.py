"""Our side: the same cases as recipes, driven from given starts, and parts that are wrong in the way a peer is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from cases import Case
from torch import Tensor, nn

import potemkin as pk
from potemkin.attacks.ascent import Ascent
from potemkin.attacks.drive import drive
from potemkin.attacks.parts.directions import Momentum, Normalize, Steepest
from potemkin.attacks.parts.looks import LookAhead
from potemkin.attacks.parts.moves import PullIn
from potemkin.attacks.parts.starts import Center
from potemkin.attacks.parts.step_sizes import Constant
from potemkin.attacks.program import Attack, Program, Rows
from potemkin.core.random import RowStreams, row_keys
from potemkin.threat.goals import Aim
from potemkin.threat.sets.base import PerturbationSet

SETS: dict[str, Callable[[float], PerturbationSet]] = {"linf": pk.Linf, "l2": pk.L2, "l1": pk.L1}


@dataclass
class Walk:
    """What a run visited: the last point and the one with the largest objective, and whether any fooled the model."""

    final: Tensor
    best: Tensor
    best_value: Tensor
    fooled: Tensor


def recipe(case: Case) -> Attack:
    """The case in our notation."""
    if case.method == "fgm":
        return pk.fgsm() if case.norm == "linf" else pk.fast_gradient()
    if case.method == "bim":
        return pk.bim(steps=case.steps, step_size=case.step_size)
    if case.method == "pgd":
        return pk.pgd(steps=case.steps, step_size=case.step_size, start=Center())
    if case.method == "mi":
        return pk.mi_fgsm(steps=case.steps, step_size=case.step_size)
    if case.method == "ni":
        return pk.ni_fgsm(steps=case.steps, step_size=case.step_size)
    return pk.apgd(steps=case.steps, objective=pk.CrossEntropy() if case.objective == "ce" else pk.DLR())


def walk(
    case: Case,
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    start: Tensor | None = None,
    targets: Tensor | None = None,
    program: Program | None = None,
) -> Walk:
    """Drive the case's recipe (or another program with its set and steps) from its own start or from the given one."""
    targeted = case.objective == "targeted dlr"
    attack, perturbations = recipe(case), SETS[case.norm](case.eps)
    program = program or attack.program(10, perturbations.norm_name, targeted)
    with torch.no_grad():
        clean = net(x)
    none = torch.full_like(y, -1)
    moves = program.cost(case.steps)[0] - 1
    rows = Rows(
        x=x,
        aim=Aim(y, targets if targeted and targets is not None else none, clean),
        set=perturbations,
        region=perturbations.around(x, pk.Box(0, 1)),
        steps=torch.full_like(y, case.steps),
        streams=RowStreams(row_keys(0, torch.arange(len(x)), 0, torch.tensor(-1), torch.tensor(0))),
    )
    begin: Any = program.start(rows) if start is None else program.start_from(rows, start)  # type: ignore[attr-defined]
    fooled = torch.zeros_like(y, dtype=torch.bool)
    best, best_value = x, torch.full((len(x),), -torch.inf, dtype=x.dtype)
    state = begin
    for state, reply in drive(program, rows, net, moves, begin):
        claimable = rows.region.contains(state.query)
        fooled |= claimable & (reply.outputs.argmax(1) != y)
        better = claimable & (reply.value > best_value)
        best_value = torch.where(better, reply.value, best_value)
        best = torch.where(better.view(-1, 1, 1, 1), state.query, best)
    return Walk(state.query, best, best_value, fooled)


# Parts that are wrong on purpose, each in the way that one peer is. They are how a reason is tested.


class Sign(Normalize):
    """The gradient's sign, where an accumulation follows."""

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        return gradient.sign(), state


class InOrder:
    """A chain that does not refuse to accumulate signs."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def init(self, point: Tensor) -> tuple[Any, ...]:
        return tuple(part.init(point) for part in self.parts)

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        new = []
        for part, own in zip(self.parts, state, strict=True):
            gradient, own = part.update(gradient, own, point, rows, size)
            new.append(own)
        return gradient, tuple(new)

    def memory(self, state: Any) -> Tensor | None:
        kept = [part.memory(own) for part, own in zip(self.parts, state, strict=True)]
        return next((memory for memory in kept if memory is not None), None)


class Unguarded(Normalize):
    """g / mean |g| without a guard: NaN for a zero gradient."""

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        return gradient / gradient.abs().mean(dim=(1, 2, 3), keepdim=True), state


class PlainSign(Steepest):
    """torch.sign as it is: 0 for NaN."""

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        return gradient.sign(), state


def onto_ball(v: Tensor, eps: Tensor) -> Tensor:
    """Scaled onto the L2 ball, without the margin that keeps ours inside after rounding."""
    length: Tensor = v.flatten(1).norm(dim=1)
    return v * (eps / length.clamp_min(1e-12)).clamp_max(1.0).view(-1, 1, 1, 1)


class ScaleThenClip(PullIn):
    """Scaled onto the L2 ball, then into the box."""

    def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> tuple[Tensor, Any]:
        return (rows.x + onto_ball(point + step - rows.x, rows.region.eps)).clamp(0, 1), state


class ClipThenScale(PullIn):
    """Into the box first, then scaled onto the L2 ball."""

    def update(self, point: Tensor, step: Tensor, state: Any, rows: Rows, first: Tensor) -> tuple[Tensor, Any]:
        return rows.x + onto_ball((point + step).clamp(0, 1) - rows.x, rows.region.eps), state


class ShortSteps(Steepest):
    """g / (||g|| + 1e-10) with g the gradient of the mean over the batch: a row with a small gradient moves less."""

    def update(self, gradient: Tensor, state: Any, point: Tensor, rows: Rows, size: Tensor) -> tuple[Tensor, Any]:
        mean = gradient / len(gradient)
        return mean / (mean.flatten(1).norm(dim=1) + 1e-10).view(-1, 1, 1, 1), state


def variant(name: str, case: Case, features: int) -> Ascent:
    """The case's recipe with one part replaced by the wrong one."""
    step = Constant(size=case.step_size)
    if name == "signs":
        return Ascent(direction=InOrder(Sign(), Momentum(1.0), Steepest()), step_size=step)
    if name == "mean":
        look = LookAhead(
            float(features)
        )  # mean |g| is ||g||_1 / d: the momentum, and so the look ahead, is d times as long
        return Ascent(look=look, direction=InOrder(Normalize(p=1), Momentum(1.0), Steepest()), step_size=step)
    if name == "unguarded":
        return Ascent(direction=InOrder(Unguarded(), Momentum(1.0), PlainSign()), step_size=step)
    if name == "scale, then clip":
        return Ascent(step_size=step, move=ScaleThenClip())
    if name == "clip, then scale":
        return Ascent(step_size=step, move=ClipThenScale())
    if name == "short steps, scale, then clip":
        return Ascent(direction=ShortSteps(), step_size=step, move=ScaleThenClip())
    raise ValueError(name)
