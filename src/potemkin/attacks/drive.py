"""Drive a row program without the engine: all rows, fixed steps, nobody retires. What training and conformance do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.program import Program, Reply, Rows
from potemkin.threat.goals import Aim
from potemkin.threat.objectives import Objective


def drive(
    program: Program, rows: Rows, logits: Callable[[Tensor], Tensor], moves: int, state: Any = None
) -> Iterator[tuple[Any, Reply]]:
    """Yield (state, reply) at each of `moves` + 1 queries: the state still holds the query that was answered.

    Args:
        logits: (B, *shape) -> (B, K), any differentiable callable; parameters collect no gradients.
        state: where to begin; None starts the program.

    Cost: moves + 1 forwards and as many backwards.
    """
    state = program.start(rows) if state is None else state
    for move in range(moves + 1):
        answer = reply(logits, state.query, program.objective, rows.aim)
        yield state, answer
        if move < moves:
            state = program.step(rows, state, answer)


def reply(logits: Callable[[Tensor], Tensor], query: Tensor, objective: Objective, aim: Aim) -> Reply:
    """Answer one query: one forward, one input-only backward."""
    with torch.enable_grad():
        point = query.detach().requires_grad_()
        outputs = logits(point)
        value = objective(outputs, aim)
        (gradient,) = torch.autograd.grad(value.sum(), point)
    return Reply(outputs.detach(), value.detach(), gradient)
