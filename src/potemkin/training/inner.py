"""The inner maximisation: a row program of `attacks`, all rows, a fixed number of steps, from the current weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.drive import ask
from potemkin.attacks.program import Asks, Attack, Program, Reply, Rows
from potemkin.core.rows import peak
from potemkin.threat.goals import NO_TARGET, Aim
from potemkin.threat.objectives import KL
from potemkin.threat.sets.base import PerturbationSet, Region
from potemkin.training.examples import Attacked, Examples
from potemkin.training.learner import Learner


@dataclass(frozen=True)
class Adversary:
    """How adversarial examples are made while training.

        x' = the last iterate of `attack` within set and box, N forwards and N input-only backwards for N steps

    The training pass itself looks at x', so no pass is spent on it here; `keep="best"` returns the iterate with the
    greatest objective and pays one forward for the last one. One forward more where targets are read off the clean
    logits and the attack does not begin there, or where the objective compares with them.

    Args:
        attack: any recipe of `attacks`; its restarts and further targets are not run.
        stretch: the search's set has `stretch * eps` (N-FGSM's noise and step together).
        keep: "last" or "best".
        mode: of the network meanwhile, "eval" or "train" (batch statistics; running ones are left alone).
    """

    attack: Attack
    stretch: float = 1.0
    keep: str = "last"
    mode: str = "eval"

    def search(self, learner: Learner, given: Examples, within: PerturbationSet, eps: Tensor) -> Attacked:
        """Attack all rows of `given` inside `within` at radius `eps` (B,)."""
        region = within.around(given.x, learner.box, eps * self.stretch)
        steps = self.attack.steps_for(float(within.eps))
        with learner.probing(self.mode) as logits, torch.autocast(given.x.device.type, enabled=False):
            if learner.classes is None:
                with torch.no_grad():
                    logits(given.x[:1])
            classes = learner.classes or 2
            program = self.attack.program(classes, within.norm_name, targeted=False)
            rows = _rows(given, within, region, steps)
            state = program.start(rows)
            begun = state.query if program.asks is Asks.GRADIENTS else given.x
            answers = self._aiming(logits, program, rows, classes)
            points, usable, asked = self._climb(program, rows, state, answers, steps)
        learner.meter.attack[1] += asked * len(given)
        # From where it began: a random start is no work of the attack's.
        moved = within.around(begun, learner.box, eps).distance(points).to(eps.dtype) / eps.clamp_min(1e-12)
        return Attacked(points.detach(), ~usable, eps, moved)

    def _aiming(
        self, logits: Callable[[Tensor], Tensor], program: Program, rows: Rows, classes: int
    ) -> Callable[[Tensor], Tensor]:
        """Settle what is steered by: from the first answer where the search begins at the clean input, at no cost."""
        targeting = self.attack.targeting
        needs_clean = targeting.from_clean or isinstance(program.objective, KL)
        if not needs_clean:
            blank = torch.zeros(len(rows.x), classes, device=rows.x.device)
            rows.aim = self._aim(rows, blank, keep=False)
            return logits
        if program.random or isinstance(program.objective, KL):
            with torch.no_grad():
                rows.aim = self._aim(rows, logits(rows.x))
            return logits
        settled = False

        def first(x: Tensor) -> Tensor:
            nonlocal settled
            outputs = logits(x)
            if not settled:
                rows.aim, settled = self._aim(rows, outputs.detach()), True
            return outputs

        return first

    def _aim(self, rows: Rows, clean: Tensor, keep: bool = True) -> Aim:
        labels, targets = self.attack.targeting.aims(clean, rows.aim.label, rows.streams)
        return Aim(labels[:, 0], targets[:, 0], clean if keep else None)

    def _climb(
        self, program: Program, rows: Rows, state: Any, logits: Callable[[Tensor], Tensor], steps: int
    ) -> tuple[Tensor, Tensor, int]:
        """The points, which rows ever saw a gradient that is finite and not zero, and how many gradients were asked."""
        usable = torch.zeros(len(rows.x), dtype=torch.bool, device=rows.x.device)
        if program.asks is not Asks.GRADIENTS:
            return state.query, ~usable, 0
        moves = program.cost(steps)[0] - 1  # phases make more queries than moves
        for _ in range(moves):
            reply = ask(program, rows, logits, state)
            largest = peak(reply.gradient)
            usable |= (largest > 0) & (largest < torch.inf)  # false for NaN, too
            state = program.step(rows, state, reply)
        if self.keep == "last":
            return state.query, usable, moves
        with torch.no_grad():
            outputs = logits(state.query)
            value = program.objective(outputs, rows.aim)
        last = Reply(outputs, value, torch.zeros_like(state.query))
        return program.step(rows, state, last).best, usable, moves


def _rows(given: Examples, within: PerturbationSet, region: Region, steps: int) -> Rows:
    none = torch.full_like(given.y, NO_TARGET)
    return Rows(given.x, Aim(given.y, none), within, region, torch.full_like(given.y, steps), given.streams)
