"""How a search behaves: on models that answer nonsense, and towards what it was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from potemkin.attacks.drive import ask
from potemkin.attacks.laws.models import hostile
from potemkin.attacks.laws.subject import Subject, strays
from potemkin.attacks.laws.trial import WIDTH
from potemkin.attacks.program import map_tensors
from potemkin.core.rows import finite
from potemkin.threat.box import Box


def hostile_models(subject: Subject) -> Iterator[str]:
    """Zero, tiny, huge and NaN gradients, plateaus and NaN scores: no NaN in a query, nothing leaves the set."""
    trial = subject.rough(Box())
    for what, model in hostile(WIDTH).items():
        run = replace(trial, model=model).run()
        for number, (point, _, _, alive) in enumerate(run.answered()):
            if (alive & ~finite(point)).any():
                yield f"on a model with a fault ({what}), query {number} has NaN or infinite values"
                break
        else:
            yield from (f"on a model with a fault ({what}), {stray}" for stray in strays(run))
        if run.last.best_value.isnan().any():
            yield f"on a model with a fault ({what}), a best value is NaN"


def side_effects(subject: Subject) -> Iterator[str]:
    """Rows, states and replies are not written to; global generators, grad mode and default dtype are not touched."""
    trial = subject.rough()
    rows, program = trial.rows(trial.aims()[0]), trial.program
    constants = {"x": rows.x, "label": rows.aim.label, "target": rows.aim.target, "clean": rows.aim.clean,
                 "eps": rows.region.eps, "steps": rows.steps, "keys": rows.streams.keys}  # fmt: skip
    given = {name: _Watched(value) for name, value in constants.items() if value is not None}
    with torch.enable_grad():
        before = _globals()
        state = program.start(rows)
        for _ in range(4):
            answer = ask(program, rows, trial.model, state)
            given |= {f"state.{n}": _Watched(leaf) for n, leaf in enumerate(_leaves(state))}
            given |= {name: _Watched(value) for name, value in vars(answer).items()}
            state = program.step(rows, state, answer)
            for name, watched in given.items():
                if watched.written:
                    yield f"the program writes into {name}, which it was given"
                    return
        after = _globals()
    for name, value in before.items():
        if after[name] != value:
            yield f"the program changes {name}"
    if any(leaf.requires_grad for leaf in _leaves(state)):
        yield "the state carries an autograd graph: work on detached tensors"


class _Watched:
    """A tensor and what it was."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.version, self.copy = tensor, tensor._version, tensor.clone()

    @property
    def written(self) -> bool:
        return self.tensor._version != self.version or not torch.equal(self.tensor.nan_to_num(), self.copy.nan_to_num())


def _globals() -> dict[str, object]:
    return {
        "torch's global generator": bytes(torch.get_rng_state().numpy().data),
        "numpy's global generator": str(np.random.get_state()),
        "the grad mode": torch.is_grad_enabled(),
        "the default dtype": torch.get_default_dtype(),
    }


def _leaves(state: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(leaf: Tensor) -> Tensor:
        found.append(leaf)
        return leaf

    map_tensors(note, state)
    return found
