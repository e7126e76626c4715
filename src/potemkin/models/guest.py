"""A model is a guest: what it is and how it stands is the same after a visit as before, and that is checked."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from potemkin.core.explain import listed
from potemkin.errors import ModelChangedError
from potemkin.models.fingerprint import digests, tensor_digest


@contextmanager
def guest(net: nn.Module) -> Iterator[list[str]]:
    """Hold `net` in eval mode without parameter gradients; give everything back as it was, also after an exception.

    Per module the training flag, per parameter `requires_grad`, the values of the buffers, and the global random
    states of torch, numpy and Python are restored. `.grad` is never touched. Parameters are not copied (a second model
    in memory): if one moved, the error names it and the model has to be loaded again.

    Yields: the modules that were in train mode on entry, as "features.1 (BatchNorm2d)".
    Raises: ModelChangedError on exit when a parameter or buffer moved, naming the tensors (never on top of an
        exception that is already on its way).
    """
    before = digests(net)
    with ExitStack() as stack:
        stack.callback(_restore_randomness())
        stack.callback(_restore_buffers(net))
        stack.callback(_restore_requires_grad(net))
        stack.callback(_restore_mode(net))
        trained = [f"{name or 'the model itself'} ({type(part).__name__})" for name, part in _training(net)]
        # The flags are set one by one: net.eval() may be overridden to merge weights, or to refuse (torch.export).
        for part in net.modules():
            part.training = False
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        yield trained
        moved = _moved(before, digests(net))
    if moved:
        raise ModelChangedError(
            f"The model changed while it was evaluated: {listed(moved)}. Its answers depend on what was asked before, "
            "so no outcome can be trusted. Buffers were put back; a parameter that moved was not: load the model "
            "again. In eval mode a forward pass must not write to the model: freeze what it updates."
        )


def _training(net: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in net.named_modules() if part.training]


def _restore_mode(net: nn.Module) -> Callable[[], None]:
    flags = [(part, part.training) for part in net.modules()]

    def restore() -> None:
        for part, training in flags:
            part.training = training

    return restore


def _restore_requires_grad(net: nn.Module) -> Callable[[], None]:
    flags = [(parameter, parameter.requires_grad) for parameter in net.parameters()]

    def restore() -> None:
        for parameter, wanted in flags:
            parameter.requires_grad_(wanted)

    return restore


def _restore_buffers(net: nn.Module) -> Callable[[], None]:
    """Keep values and identities: a forward pass may write into a buffer, bind its name anew, or add another."""
    kept = [(part, dict(part._buffers.items())) for part in net.modules()]
    copies = [(buffer, buffer.detach().clone()) for buffer in net.buffers()]

    def restore() -> None:
        for buffer, copy in copies:
            if tensor_digest(buffer) != tensor_digest(copy):
                buffer.data.copy_(copy)
        for part, buffers in kept:
            if isinstance(part, torch.jit.ScriptModule):
                continue  # its names cannot be bound to other tensors
            part._buffers.clear()
            part._buffers.update(buffers)

    return restore


def _restore_randomness() -> Callable[[], None]:
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    numpy_state = np.random.get_state()
    python_state = random.getstate()

    def restore() -> None:
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        np.random.set_state(numpy_state)
        random.setstate(python_state)

    return restore


def _moved(before: dict[str, str], after: dict[str, str]) -> list[str]:
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name)]
