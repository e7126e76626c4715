"""An attack with rows to try it on, and what it did: the material of the checks in `conformance_checks`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.conformance_models import Logits, normal, uniform
from potemkin.attacks.drive import drive
from potemkin.attacks.program import Attack, Program, Reply, Rows
from potemkin.core.random import RowStreams, row_keys
from potemkin.threat.box import Box
from potemkin.threat.goals import NO_TARGET, Aim
from potemkin.threat.sets.base import PerturbationSet

SHAPE = (2, 4, 4)
"""One input: a small picture, whose sides parts that work on blocks can divide."""
WIDTH = 32
ROWS = 16
MOVES = 9
"""What a check lets a row move where it need not arrive anywhere: time is short."""
ATTACK_KEY = 1
"""All runs draw under one attack's key, so that what differs between two settings is the settings."""


@dataclass(frozen=True)
class Trial:
    """An attack, a set, a model and rows: everything that decides what happens."""

    attack: Attack
    set: PerturbationSet
    model: Logits
    x: Tensor
    label: Tensor
    classes: int
    box: Box = Box()
    eps: Tensor | None = None
    """(B,) budgets; None: the set's own."""
    steps: Tensor | None = None
    """(B,) moves; None: as many as the attack makes."""
    target: Tensor | None = None
    """(B,) classes of a targeted goal, which replace the attack's own choice."""
    seed: int = 0
    restart: int = 0
    ids: Tensor | None = None
    """(B,) example ids; None: 0, 1, 2, …"""

    @property
    def count(self) -> int:
        """B."""
        return self.x.shape[0]

    @property
    def program(self) -> Program:
        """The attack's program for this set and model."""
        return self.attack.program(self.classes, self.set.norm_name, self.target is not None)

    @property
    def moves(self) -> Tensor:
        """(B,) how many moves each row may make."""
        whole = torch.full((self.count,), self.attack.steps_for(self.set.eps))
        return whole if self.steps is None else self.steps

    def short(self, moves: int = MOVES) -> Trial:
        """The same with at most so many moves."""
        return replace(self, steps=self.moves.clamp_max(moves))

    def take(self, index: Tensor) -> Trial:
        """The rows at `index`, each with everything that is its own."""
        names = torch.arange(self.count) if self.ids is None else self.ids
        own = {"x": self.x, "label": self.label, "eps": self.eps, "steps": self.steps, "target": self.target}
        picked: dict[str, Any] = {name: None if value is None else value[index] for name, value in own.items()}
        return replace(self, ids=names[index], **picked)

    def streams(self, target: Tensor) -> RowStreams:
        """The rows' random draws for the job with this target."""
        names = torch.arange(self.count) if self.ids is None else self.ids
        return RowStreams(row_keys(self.seed, names, ATTACK_KEY, target, torch.tensor(self.restart)))

    def aims(self) -> list[Aim]:
        """What the rows' jobs steer at, one after the other."""
        with torch.no_grad():
            clean = self.model(self.x)
        if self.target is not None:
            return [Aim(self.label, self.target, clean)]
        none = torch.full_like(self.label, NO_TARGET)
        label, target = self.attack.targeting.aims(clean, self.label, self.streams(none))
        return [Aim(label[:, job], target[:, job], clean) for job in range(label.shape[1])]

    def rows(self, aim: Aim) -> Rows:
        """What the program is given."""
        region = self.set.around(self.x, self.box, self.eps)
        return Rows(self.x, aim, self.set, region, self.moves, self.streams(aim.target))

    def run(self, aim: Aim | None = None) -> Run:
        """Drive the first job (or the one with this aim) from its start to its declared end."""
        rows = self.rows(self.aims()[0] if aim is None else aim)
        program = self.program
        asked = max(program.cost(int(moves))[0] for moves in rows.steps.unique())
        run = Run(self, program, rows, [], [], [], None)
        for state, reply in drive(program, rows, self.model, asked - 1):
            run.queries.append(state.query.clone())
            run.states.append(state)
            run.replies.append(reply)
        run.last = program.step(rows, run.states[-1], run.replies[-1])
        return run


@dataclass
class Run:
    """What a program asked and was told."""

    trial: Trial
    program: Program
    rows: Rows
    queries: list[Tensor]
    """Copies, made before the answer: nothing that is written to later can change them."""
    states: list[Any]
    replies: list[Reply]
    last: Any
    """The state after the last answer."""

    def answered(self) -> Iterator[tuple[Tensor, Any, Reply, Tensor]]:
        """Per query: (the point, the state, the answer, (B,) bool the rows that were still searching)."""
        for point, state, reply in zip(self.queries, self.states, self.replies, strict=True):
            yield point, state, reply, ~state.finished


def on_grid(share: Tensor, box: Box) -> Tensor:
    """Shares of the box as float32 inputs on its 256 levels: what an 8-bit picture holds, and every set accepts."""
    levels = (share * 255).round().to(torch.float32) / 255
    return box.clip(box.low + levels * (box.high - box.low))


def inputs(box: Box, seed: int = 11, rows: int = ROWS) -> Tensor:
    """Rows (B, 2, 4, 4) in the box: some well inside, some with half of their coordinates on its faces."""
    inner = uniform(seed, rows, *SHAPE)
    faces = (uniform(seed + 1, rows, *SHAPE) < 0.5).double()
    edged = (uniform(seed + 2, rows, *SHAPE) < 0.5) & (torch.arange(rows) % 2 == 1).reshape(-1, 1, 1, 1)
    return on_grid(torch.where(edged, faces, inner), box)


def direction() -> Tensor:
    """(d,) weights without a zero and without two of the same size."""
    return normal(21, WIDTH) + 0.05
