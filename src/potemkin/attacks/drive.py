"""Drive a row program without the engine: all rows, fixed steps, nobody retires.

`drive` runs a program from any state, so that iterates can be compared with a paper's or another library's (the tests
of `tests/reference`, `make parity`); programs are plain functions so that training can do so, too (decision 0004).
`ask` is one query of it, which the laws of conformance put to a program step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from potemkin.attacks.program import Asks, Program, Reply, Rows


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
        answer = ask(program, rows, logits, state)
        yield state, answer
        if move < moves:
            state = program.step(rows, state, answer)


def ask(program: Program, rows: Rows, logits: Callable[[Tensor], Tensor], state: Any) -> Reply:
    """Answer one query: one forward; if the program wants gradients, one input-only backward for rows that climb."""
    climb = program.asks is Asks.GRADIENTS
    with torch.set_grad_enabled(climb):
        point = state.query.detach().requires_grad_(climb)
        outputs = logits(point)
        value = program.objective(outputs, rows.aim)
        gradient = None
        if value.requires_grad:
            weights = state.climbs.to(value.dtype)
            gradient = torch.autograd.grad(value, point, grad_outputs=weights, allow_unused=True)[0]
    return Reply(outputs.detach(), value.detach(), torch.zeros_like(point) if gradient is None else gradient)
