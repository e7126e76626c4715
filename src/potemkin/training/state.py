"""What a run is at a step: numbers and tensors, written to checkpoints and read back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from potemkin.errors import BundleError, ConfigError
from potemkin.models.logits import fixed_answer
from potemkin.training import averages, checkpoint
from potemkin.training.journal import RUN, digest
from potemkin.training.learner import held
from potemkin.training.parallel import Processes, Replicas
from potemkin.training.recipes.base import Recipe


@dataclass
class State:
    """What a checkpoint holds beside tensors: all that decides how the run goes on."""

    step: int = 0
    seconds: float = 0.0
    cost: list[int] = field(default_factory=lambda: [0] * 6)
    best: list[int] | None = None
    """`EvaluationLine.score` of the best validation so far."""
    kept: str | None = None
    """sha256 of the weights file of that best."""
    since_best: int = 0
    good: int | None = None
    """Step of the last checkpoint that was evaluated without catastrophic overfitting."""
    rollbacks: int = 0
    recovers_until: int = 0
    active: list[str] = field(default_factory=list)
    """Alarms that are told already."""
    stopped: str | None = None
    """Why it is over before its last step."""
    interrupted: bool = False
    """Whether somebody asked it to stop here, to go on later."""

    @classmethod
    def of(cls, numbers: dict[str, Any]) -> Self:
        """From what a checkpoint holds; TypeError for a name nobody knows, or a value of another kind."""
        state = cls(**numbers)
        try:
            TypeAdapter(cls).validate_json(json.dumps(numbers), strict=True)
        except ValidationError as error:
            raise TypeError(f"{error.errors()[0]['loc'][0]} is {error.errors()[0]['input']!r:.100}") from error
        return state


class Tensors:
    """The tensors of a run: weights and buffers, the optimiser's state, the average."""

    def __init__(
        self,
        folder: Path,
        replicas: Replicas,
        optimiser: torch.optim.Optimizer,
        recipe: Recipe,
        processes: Processes,
        probe: Tensor,
    ) -> None:
        self._folder, self._replicas, self._optimiser = folder, replicas, optimiser
        self._recipe, self._processes, self._probe = recipe, processes, probe
        self._average: dict[str, Tensor] | None = None
        if recipe.average is not None:
            self._average = {name: t.detach().clone() for name, t in self._weights().items()}

    @property
    def averaged(self) -> bool:
        """Whether an average of the weights is kept; then it is what is judged."""
        return self._average is not None

    def finite(self) -> bool:
        """Whether every weight of this process is a number."""
        return all(bool(torch.isfinite(t).all()) for t in self._weights().values() if t.is_floating_point())

    def average_in(self, step: int, steps: int) -> None:
        """Take the newest weights into the average, where there is one."""
        if self._average is not None and self._recipe.average is not None:
            averages.update(self._average, self._weights(), self._recipe.average.weight(step, step / steps))

    def load_into(self, net: torch.nn.Module) -> None:
        """The weights that are evaluated and exported, whole, into a plain copy of the network."""
        net.load_state_dict(self._replicas.gather(self._average or self._weights()))

    def save(self, state: State, seconds: float, keep: int, spared: set[int]) -> None:
        """Write a checkpoint, and remove those that are neither among the newest `keep` nor spared."""
        sameness = {"run": digest(self._folder), "answer": self._answer()}
        numbers = {**vars(state), "seconds": seconds}
        checkpoint.save(self._folder, state.step, self._all(), numbers, sameness, self._processes)
        if self._processes.first:
            checkpoint.tidy(self._folder, keep, spared)

    def read(self, step: int, as_it_was: bool = False) -> dict[str, Any]:
        """Everything from the checkpoint at `step`, in place; returns its numbers.

        `as_it_was`: refuse what would make another run of it, a changed run.json or a network with other code.
        """
        state, names, sameness = checkpoint.numbers(self._folder, step)
        if as_it_was and sameness.get("run") != self._processes.broadcast(digest(self._folder)):
            raise BundleError(
                f"{self._folder / RUN} was changed after the checkpoint at step {step}: what goes on would be another "
                "run. Put it back as it was, or start another with another --out."
            )
        self._prepare_optimiser(names)
        self._read_tensors(step)
        if as_it_was and not _alike(sameness.get("answer"), self._answer()):
            raise ConfigError(
                f"With the weights of step {step} the network answers otherwise than it did then: its code was "
                "changed. Resume with the code that it began with, or start another run with another --out."
            )
        return state

    def _read_tensors(self, step: int) -> None:
        tensors = self._all()
        read = {name: torch.empty_like(t, memory_format=torch.contiguous_format) for name, t in tensors.items()}
        checkpoint.load(self._folder, step, read)
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(read[name])

    def _answer(self) -> list[float]:
        """A few logits of fixed inputs: what the network's code makes of these weights."""
        with held(self._replicas.bare, training=False):
            return fixed_answer(self._replicas.bare, self._probe).flatten()[:64].float().tolist()

    def _weights(self) -> dict[str, Tensor]:
        return {name: t for name, t in self._replicas.bare.state_dict().items() if isinstance(t, Tensor)}

    def _all(self) -> dict[str, Tensor]:
        found = {f"model.{name}": t for name, t in self._weights().items()}
        for name, parameter in self._replicas.bare.named_parameters():
            held = self._optimiser.state.get(parameter, {})
            found |= {f"optimiser.{name}.{key}": t for key, t in held.items() if isinstance(t, Tensor)}
        return found | {f"average.{name}": t for name, t in (self._average or {}).items()}

    def _prepare_optimiser(self, names: list[str]) -> None:
        """A new optimiser has no state to read into; give it what the checkpoint has (numbers, or as its parameter)."""
        for name, parameter in self._replicas.bare.named_parameters():
            prefix = f"optimiser.{name}."
            keys = [each.removeprefix(prefix) for each in names if each.startswith(prefix)]
            held = self._optimiser.state[parameter] if keys else {}
            for key in keys:
                if key not in held:
                    held[key] = torch.zeros(()) if key == "step" else torch.zeros_like(parameter)


def _alike(before: object, now: list[float]) -> bool:
    """Whether two answers differ by rounding at most; spoilt weights answer nothing."""
    if not isinstance(before, list) or len(before) != len(now) or not all(map(math.isfinite, [*before, *now])):
        return not isinstance(before, list) or len(before) == len(now)
    return all(abs(a - b) <= 0.01 * max(1.0, *map(abs, before)) for a, b in zip(before, now, strict=True))
