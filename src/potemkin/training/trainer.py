"""The loop: batch, adversarial examples from the current weights, loss, step, average, then a look at the run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from potemkin.attacks.recipes.pgd import pgd
from potemkin.core.random import row_keys, text_key
from potemkin.data.source import Batch
from potemkin.training.examples import Attacked, Examples
from potemkin.training.inner import Adversary
from potemkin.training.learner import Learner
from potemkin.training.parallel import Processes, Replicas
from potemkin.training.recipes.base import Recipe
from potemkin.training.settings import Settings
from potemkin.training.state import State, Tensors
from potemkin.training.stream import Stream, as_examples
from potemkin.training.watch import Watch
from potemkin.training.weights import moved_uphill

STEP = text_key("step")

Carried = list[Attacked | None]
"""What the parts of a batch hand on to its next replay."""


class Trainer:
    """Learns from a stream by a recipe; what happens between batches is the watch's."""

    def __init__(
        self,
        learner: Learner,
        replicas: Replicas,
        recipe: Recipe,
        settings: Settings,
        stream: Stream,
        processes: Processes,
        optimiser: torch.optim.Optimizer,
        tensors: Tensors,
        watch: Watch,
    ) -> None:
        self.learner, self.replicas, self.recipe, self.settings = learner, replicas, recipe, settings
        self.stream, self.processes, self.optimiser = stream, processes, optimiser
        self.tensors, self.watch, self.steps = tensors, watch, watch.pace.steps

    @property
    def state(self) -> State:
        """Where the run is."""
        return self.watch.state

    def run(self) -> None:
        """Train until the last step, or until something says stop."""
        if self.watch.over():
            return
        for batches in self.stream.from_step(self.state.step):
            parts, carried = self.parts(batches), None
            for _ in range(self.recipe.replays):
                carried = self.step(parts, carried)
                self.watch.after_step(self.optimiser.param_groups[0]["lr"])
                if self.watch.over():
                    return

    def step(self, parts: list[Examples], carried: Carried | None = None) -> Carried:
        """One step of the optimiser on one batch, cut into parts."""
        self._set_learning_rate()
        self.replicas.bare.train()
        left: Carried = []
        for number, given in enumerate(parts):
            attacked = carried[number] if carried and carried[number] is not None else self._attack(given)
            # Shards that wait to be exchanged would get mixed with the gradient that moves weights uphill.
            exchanges = number == len(parts) - 1 or (self.replicas.sharded and self.recipe.awp > 0)
            with self._uphill(given, attacked), self.replicas.accumulating(last=exchanges):
                learnt = self.recipe.loss(self.learner, given, attacked)
                (learnt.loss / len(parts)).backward()  # type: ignore[no-untyped-call]
            self.watch.window.add(learnt, attacked, 1 / len(parts))
            left.append(None if attacked is None else self.recipe.carry(self.learner, given, attacked))
        if self.settings.clip is not None:
            nn.utils.clip_grad_norm_(self.replicas.bare.parameters(), self.settings.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.replicas.settle()
        self.state.step += 1
        self.tensors.average_in(self.state.step, self.steps)
        return left

    def parts(self, batches: list[Batch]) -> list[Examples]:
        """The batch on the device, augmented, cut into parts; torch's own draws (dropout) begin at the step's place."""
        step, seed, processes = self.state.step, self.settings.seed, self.processes
        place = torch.tensor([processes.rank, processes.world])
        words = row_keys(seed, torch.tensor([step]), STEP, place[0], place[1])
        torch.manual_seed(int(words[0, 0]) << 20 ^ int(words[0, 1]))
        epoch, salt = step // self.stream.steps_per_epoch, self.state.rollbacks
        given = as_examples(batches, processes.device, seed, epoch, salt, step / self.steps, step)
        for part in self.recipe.augment:
            given = part.apply(given)
        # Once a step: a search whose points and gradients lie differently in memory converts them at every move.
        given.x = self.learner.laid_out(given.x)
        size = len(given) // self.settings.accumulate
        return [given.rows(k * size, (k + 1) * size) for k in range(self.settings.accumulate)]

    def _attack(self, given: Examples) -> Attacked | None:
        recovers = self.state.step < self.state.recovers_until and self.recipe.attacks
        # After a collapse, PGD (Li et al. 2020, FastAdv+: there for some batches, here for an epoch).
        by = Adversary(pgd(steps=7), mode=self.recipe.inner) if recovers else None
        with self.replicas.quiet():
            return self.recipe.attack(self.learner, given, by)

    def _uphill(self, given: Examples, attacked: Attacked | None) -> AbstractContextManager[None]:
        if not self.recipe.awp or given.progress < self.recipe.awp_after:
            return nullcontext()
        return moved_uphill(
            self.replicas.bare, self.recipe.awp, lambda: self.recipe.loss(self.learner, given, attacked).loss
        )

    def _set_learning_rate(self) -> None:
        # In the middle of the step: at its ends, schedules that begin or end at 0 would waste a step.
        factor = self.settings.schedule.factor((self.state.step + 0.5) / self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.optimiser.learning_rate * factor
