"""An attack with rows to try it on, and what it did: the material of the checks in this package."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.drive import ask
from potemkin.attacks.laws.models import Logits, normal, rugged, uniform
from potemkin.attacks.program import Attack, Program, Reply, Rows, map_tensors
from potemkin.core.random import RowStreams, row_keys
from potemkin.core.rows import select
from potemkin.threat.box import Box
from potemkin.threat.goals import NO_TARGET, Aim
from potemkin.threat.sets.base import PerturbationSet

SHAPE = (2, 4, 4)
"""One input: a small picture, whose sides parts that work on blocks can divide."""
WIDTH = 32
ROWS = 16
CLASSES = 4
"""Of the rugged model."""
MOVES = 6
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

    @property
    def streams(self) -> RowStreams:
        """The rows' random draws, the same for all targets: so that two targets can be compared from one start."""
        names = torch.arange(self.count) if self.ids is None else self.ids
        none, restart = torch.tensor(NO_TARGET), torch.tensor(self.restart)
        return RowStreams(row_keys(self.seed, names, ATTACK_KEY, none, restart))

    def aims(self) -> list[Aim]:
        """What the rows' jobs steer at, one after the other."""
        with torch.no_grad():
            clean = self.model(self.x)
        if self.target is not None:
            return [Aim(self.label, self.target, clean)]
        label, target = self.attack.targeting.aims(clean, self.label, self.streams)
        return [Aim(label[:, job], target[:, job], clean) for job in range(label.shape[1])]

    def rows(self, aim: Aim) -> Rows:
        """What the program is given."""
        region = self.set.around(self.x, self.box, None if self.eps is None else self.eps.to(self.x.dtype))
        return Rows(self.x, aim, self.set, region, self.moves, self.streams)

    def run(self, aim: Aim | None = None) -> Run:
        """Drive the first job (or the one with this aim) to its declared end; rows that are finished stand still."""
        rows = self.rows(self.aims()[0] if aim is None else aim)
        program = self.program
        run = Run(self, program, rows, [], [], [], program.start(rows))
        for _ in range(max(program.cost(moves)[0] for moves in set(rows.steps.tolist()))):
            run.queries.append(run.last.query.clone())
            run.states.append(run.last)
            run.replies.append(ask(program, rows, self.model, run.last))
            stepped = program.step(rows, run.last, run.replies[-1])
            run.last = map_tensors(partial(select, ~run.last.finished), stepped, run.last)
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


def on_grid(share: Tensor, box: Box, dtype: torch.dtype = torch.float32) -> Tensor:
    """Shares of the box as inputs on its 256 levels: what an 8-bit picture holds, and every set accepts."""
    levels = (share * 255).round().to(dtype) / 255
    return box.clip(box.low + levels * (box.high - box.low))


def inputs(box: Box, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows (B, 2, 4, 4) in the box: half well inside, half with every other coordinate on its faces."""
    inner = uniform(11, ROWS, *SHAPE)
    faces = (uniform(12, ROWS, *SHAPE) < 0.5).double()
    edged = (uniform(13, ROWS, *SHAPE) < 0.5) & (torch.arange(ROWS) % 2 == 1).reshape(-1, 1, 1, 1)
    return on_grid(torch.where(edged, faces, inner), box, dtype)


def wide_box(eps: float) -> tuple[Box, Tensor]:
    """A box so wide that a radius of `eps` never meets it, and rows (B, 2, 4, 4) around its middle."""
    box = Box(-8 * eps, 8 * eps)
    return box, on_grid(0.5 + (uniform(5, ROWS, *SHAPE) - 0.5) / 4, box)


def radius(perturbations: PerturbationSet) -> float:
    """How far, in Euclidean distance, the set reaches in a direction that is steep for it."""
    box, x = wide_box(perturbations.eps)
    far = perturbations.around(x, box).maximiser(normal(9, *x.shape).to(x.dtype))
    return float((far - x).flatten(1).norm(dim=1).median())


def rough(attack: Attack, perturbations: PerturbationSet, seed: int, box: Box | None = None) -> Trial:
    """Rows on a rugged model: budgets, moves and labels differ between them, and half are misclassified already."""
    box = Box() if box is None else box
    x = inputs(box)
    model = rugged(WIDTH, 3 / max(radius(perturbations), 1e-6))
    with torch.no_grad():
        predicted = model(x).argmax(dim=1)
    number = torch.arange(ROWS)
    share = torch.tensor([1.0, 0.3, 1.0, 2.0])[number % 4]
    trial = Trial(
        attack=attack,
        set=perturbations,
        model=model,
        x=x,
        label=torch.where(number % 2 == 0, predicted, number % 4),
        classes=CLASSES,
        box=box,
        eps=perturbations.eps * share,
        seed=seed,
    )
    moves = trial.moves.clamp_max(MOVES)
    return replace(trial, steps=torch.minimum(moves, (MOVES - number % 5)))


def direction() -> Tensor:
    """(d,) weights without a zero and without two of the same size."""
    return normal(21, WIDTH) + 0.05
