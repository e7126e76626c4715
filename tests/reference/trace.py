"""What every transcription gives back, and the driver that answers its questions.

A transcription is written for ONE example, as the papers write it: a generator that yields the point at which it wants
to know f and its gradient, and is sent that pair. At its end it returns its iterates. The driver runs the
rows in lock step, so that the model sees the same batch at every question. No row sees another.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .losses import Loss

Logits = Callable[[Tensor], Tensor]
Numbers = float | Tensor | Sequence[float]
Box = tuple[float, float] | None


@dataclass
class Path:
    """One row's walk: x^(0) (the start), x^(1), ..., x^(N), and the step size with which each was left."""

    iterates: list[Tensor]
    step_sizes: list[float] = field(default_factory=list)


Climb = Generator[Tensor, tuple[float, Tensor], Path]


@dataclass(frozen=True)
class Trace:
    """A run over B rows: lists have one entry per iterate, the start first, so N steps give N + 1 entries."""

    final: Tensor  # (B, ...) the last iterate
    best: Tensor  # (B, ...) the first iterate with the largest loss
    best_loss: Tensor  # (B,)
    losses: list[Tensor]  # each (B,): the objective, which is maximised, at the iterate
    iterates: list[Tensor]  # each (B, ...)
    predictions: list[Tensor]  # each (B,): the predicted class at the iterate
    queries: list[Tensor]  # each (B, ...): where the gradient was asked; the iterates, except for look-ahead methods
    step_sizes: list[Tensor]  # each (B,): one per step, where the method changes it

    def fooled(self, labels: Tensor) -> Tensor:
        """(B,) whether any iterate was predicted as something else than its label."""
        return torch.stack([p != labels for p in self.predictions]).any(0)

    def last_fooling(self, labels: Tensor) -> Tensor:
        """The latest iterate that was misclassified; the start where none was."""
        point = self.iterates[0].clone()
        for iterate, prediction in zip(self.iterates, self.predictions, strict=True):
            wrong = prediction != labels
            point[wrong] = iterate[wrong]
        return point


def per_row(numbers: Numbers, rows: int) -> list[float]:
    """One float per row, from one number for all or from one for each."""
    if isinstance(numbers, int | float):
        return [float(numbers)] * rows
    values = [float(n) for n in numbers]
    if len(values) != rows:
        raise ValueError(f"{len(values)} numbers for {rows} rows")
    return values


def ask(logits: Logits, loss: Loss, points: Tensor, labels: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """f and its gradient at every row: the gradient of the sum is each row's own, because rows do not interact."""
    points = points.detach().clone().requires_grad_()
    values = loss(logits(points), labels, targets)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    return values.detach(), gradient


def follow(climbs: list[Climb], logits: Logits, loss: Loss, labels: Tensor, targets: Tensor | None) -> Trace:
    """Answer the questions of all rows until they are done, then look at what they visited."""
    queries: list[Tensor] = []
    points = [next(climb) for climb in climbs]
    while True:
        queries.append(torch.stack(points))
        values, gradients = ask(logits, loss, queries[-1], labels, targets)
        points, paths = [], []
        for climb, value, gradient in zip(climbs, values, gradients, strict=True):
            try:
                points.append(climb.send((float(value), gradient)))
            except StopIteration as end:
                paths.append(end.value)
        if paths:
            break
    if points:
        raise ValueError("the rows must take equally many steps")
    return examine(paths, queries, logits, loss, labels, targets)


@torch.no_grad()
def examine(
    paths: list[Path], queries: list[Tensor], logits: Logits, loss: Loss, labels: Tensor, targets: Tensor | None
) -> Trace:
    """Evaluate the objective at every iterate, in passes of their own, and pick each row's best."""
    iterates = [torch.stack(points) for points in zip(*(path.iterates for path in paths), strict=True)]
    outputs = [logits(points) for points in iterates]
    losses = [loss(output, labels, targets) for output in outputs]
    best, best_loss = iterates[0].clone(), losses[0].clone()
    for points, values in zip(iterates[1:], losses[1:], strict=True):
        better = values > best_loss
        best[better], best_loss[better] = points[better], values[better]
    step_sizes = [torch.tensor(sizes) for sizes in zip(*(path.step_sizes for path in paths), strict=True)]
    predictions = [output.argmax(1) for output in outputs]
    return Trace(iterates[-1], best, best_loss, losses, iterates, predictions, queries, step_sizes)
