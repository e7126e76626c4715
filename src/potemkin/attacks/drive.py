"""Drive a row program without the engine: all rows, fixed steps, nobody retires. What training and conformance do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.program import Asks, Program, Reply, Rows
from potemkin.threat.goals import Aim
from potemkin.threat.objectives import Objective


def drive(
    program: Program, rows: Rows, logits: Callable[[Tensor], Tensor], moves: int, state: Any = None
) -> Iterator[tuple[Any, Reply]]:
    """Yield (state, reply) at each of `moves` + 1 queries: the state still holds the query that was answered.

    Rows see a gradient only where they asked for one (`state.climbs`), as the engine has it.

    Args:
        logits: (B, *shape) -> (B, K), any differentiable callable; parameters collect no gradients.
        state: where to begin; None starts the program.

    Cost: moves + 1 forwards, and as many backwards where the program asks for gradients.
    """
    state = program.start(rows) if state is None else state
    for move in range(moves + 1):
        climbs = state.climbs if program.asks is Asks.GRADIENTS else None
        answer = reply(logits, state.query, program.objective, rows.aim, climbs)
        yield state, answer
        if move < moves:
            state = program.step(rows, state, answer)


def reply(
    logits: Callable[[Tensor], Tensor], query: Tensor, objective: Objective, aim: Aim, climbs: Tensor | None
) -> Reply:
    """Answer one query: one forward and, unless `climbs` is None, one input-only backward for the rows that climb."""
    with torch.set_grad_enabled(climbs is not None):
        point = query.detach().requires_grad_(climbs is not None)
        outputs = logits(point)
        value = objective(outputs, aim)
        gradient = None
        if climbs is not None and value.requires_grad:
            weights = climbs.to(value.dtype)
            gradient = torch.autograd.grad(value, point, grad_outputs=weights, allow_unused=True)[0]
    return Reply(outputs.detach(), value.detach(), torch.zeros_like(query) if gradient is None else gradient)
