"""What a model is, as a digest: names, shapes, dtypes and bytes of its parameters and buffers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from potemkin.errors import ModelError


def named_tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer with its dotted name, non-persistent buffers and shared weights included."""
    yield from net.named_parameters(remove_duplicate=False)
    yield from net.named_buffers(remove_duplicate=False)


def tensor_digest(tensor: Tensor) -> str:
    """SHA-256 over dtype, shape and bytes, wherever the tensor lies and however it is strided."""
    plain = tensor.detach()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    plain = plain.cpu().resolve_conj().resolve_neg().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    if plain.numel():
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def digests(net: nn.Module) -> dict[str, str]:
    """Return name -> digest of every parameter and buffer; a tensor that appears under two names is read once.

    Raises: ModelError for a parameter that has no bytes yet (lazy modules, the meta device).
    """
    seen: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, tensor in named_tensors(net):
        if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise ModelError(
                f"The parameter or buffer '{name}' has no values yet (a lazy module, or the meta device). "
                "Run the model once on one example, or load its weights, before it is handed over."
            )
        if id(tensor) not in seen:
            seen[id(tensor)] = tensor_digest(tensor)
        found[name] = seen[id(tensor)]
    return found


def fingerprint(net: nn.Module, extra: str = "") -> str:
    """Return "sha256:…" over the tensors, the class of `net` and `extra` (the preprocessing).

    Python code is represented by the class's name only; a traced graph (torch.fx, torch.export) by its code.
    """
    digest = hashlib.sha256(f"{type(net).__qualname__}\n{extra}\n".encode())
    if isinstance(net, torch.fx.GraphModule):
        digest.update(net.code.encode())
    for name, value in sorted(digests(net).items()):
        digest.update(f"{name} {value}\n".encode())
    return f"sha256:{digest.hexdigest()}"
