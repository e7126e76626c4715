"""Adversarial weight perturbation: learn from weights that were moved uphill first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from potemkin.training.learner import statistics_kept


@contextmanager
def moved_uphill(net: nn.Module, gamma: float, loss: Callable[[], Tensor]) -> Iterator[None]:
    """Move the weights of every layer by gamma of their norm along the gradient of `loss`, and back at the end.

        v_l = gamma ||w_l|| g_l / ||g_l||,   l over parameters with two or more dimensions

    Give the gradient of the moved weights to the optimiser after they are back where they were. Cost: the passes of
    the loss once more; running statistics are left alone. Over several processes the gradient is that of all rows.

    Args:
        gamma: above 0.  loss: makes a scalar from the batch, attached to the weights.

    Source: Wu, Xia and Wang 2020 (AWP), equations (7) and (8), one step.
    Differs: the gradient itself, where the authors take the step of a second optimiser; the direction is the same. The
    optimiser steps when the weights are back, so that weight decay sees w; in their code it sees w + v (recalled).
    """
    kept_grads = [parameter.grad for parameter in net.parameters()]
    net.zero_grad(set_to_none=True)
    with statistics_kept(net):
        loss().backward()  # type: ignore[no-untyped-call]
    moved: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is None or parameter.dim() < 2:
                continue
            moved.append((parameter, parameter.detach().clone()))
            length = parameter.grad.norm()
            parameter.add_(parameter.grad * (gamma * parameter.norm() / (length + 1e-20)))
    for weight, kept in zip(net.parameters(), kept_grads, strict=True):
        weight.grad = kept
    try:
        yield
    finally:
        with torch.no_grad():
            for weights, before in moved:
                weights.copy_(before)  # not subtracted: they come back bit for bit
