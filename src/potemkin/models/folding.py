"""Batch normalisation folded into the layer before it, for passes in eval mode: less to compute, the same function.

    norm(w * x + b) = (s w) * x + s (b - mean) + beta,   s = gamma / sqrt(var + eps), per channel

The network's own code runs as it stands: inside `Folding.applied` the layer computes with the merged weights, and the
normalisation hands its input on. Which pairs there are is observed in one pass and proven, not read off the code.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from potemkin.models.logits import fixed_answer

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
Pair = tuple[nn.Module, _BatchNorm]


class Folding:
    """The pairs of a network that can be folded.

    Args:
        pairs: layers, each with the normalisation that alone sees what it returns.
        dtype: of the merged weights; None for the layer's own. bfloat16 under autocast, which then casts nothing.

    Source: Jacob et al. 2018, section 3.2 (equation 14).  Differs: the network is not rewritten.
    """

    def __init__(self, pairs: list[Pair], dtype: torch.dtype | None = None) -> None:
        self.pairs, self._dtype = pairs, dtype

    @classmethod
    def of(cls, net: nn.Module, x: Tensor, dtype: torch.dtype | None = None) -> Self:
        """What can be folded in `net`, observed on the rows x (B, *shape); nothing where that cannot be proven."""
        try:
            names = _proven(net, x)
        except Exception:  # noqa: BLE001 (a network that cannot be copied, or not be computed in float64, stays as it is)
            names = []
        return cls([(net.get_submodule(a), net.get_submodule(b)) for a, b in names], dtype)  # type: ignore[misc]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Fold at the weights of this moment. In eval mode only; gradients reach inputs, not the folded weights."""
        try:
            for layer, norm in self.pairs:
                weight, bias = merged(layer, norm)
                layer.forward = partial(_computed, layer, self._cast(weight), self._cast(bias))
                norm.forward = _handed_on  # type: ignore[assignment]
            yield
        finally:
            for pair in self.pairs:
                for part in pair:
                    vars(part).pop("forward", None)

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor if self._dtype is None else tensor.to(self._dtype)


@torch.no_grad()
def merged(layer: nn.Module, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer that does both."""
    assert norm.running_mean is not None and norm.running_var is not None
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale if norm.bias is None else norm.bias - norm.running_mean * scale
    if isinstance(bias, Tensor):
        shift = shift + bias * scale
    return weight * scale.reshape(-1, *(1,) * (weight.dim() - 1)), shift


def _computed(layer: Any, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    out: Tensor = layer._conv_forward(x, weight, bias)
    return out


def _handed_on(x: Tensor) -> Tensor:
    return x


def _proven(net: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """Names of the pairs which, folded in a float64 copy with other statistics, leave its answer as it was.

    Statistics of a new network (mean 0, variance 1) would hide a pair that is none, so the copy has drawn ones.
    """
    twin, rows = copy.deepcopy(net).double().eval(), x.detach().double()
    random = torch.Generator().manual_seed(0)
    for part in twin.modules():
        if isinstance(part, _BatchNorm):
            for tensor, low in (
                (part.running_mean, -0.5),
                (part.running_var, 0.5),
                (part.weight, 0.5),
                (part.bias, -0.5),
            ):
                if tensor is not None:
                    drawn = torch.rand(tensor.shape, generator=random, dtype=torch.float64)
                    tensor.data.copy_(drawn + low)
    before = fixed_answer(twin, rows)
    if not torch.equal(before, fixed_answer(twin, rows)):
        return []  # it answers differently each time: nothing can be proven

    def unchanged(names: list[tuple[str, str]]) -> bool:
        pairs = [(twin.get_submodule(a), twin.get_submodule(b)) for a, b in names]
        with Folding(pairs).applied():  # type: ignore[arg-type]
            after = fixed_answer(twin, rows)
        return bool((after - before).abs().max() <= 1e-9 * before.abs().max().clamp_min(1e-12))

    alone = [pair for pair in _candidates(twin, rows) if unchanged([pair])]
    return alone if alone and unchanged(alone) else []


def _plain(part: nn.Module) -> bool:
    """Whether its weights are what it computes with, whatever they become: no hook or parametrisation makes them."""
    names = ("weight", "bias")
    made = any(isinstance(getattr(part, name, None), Tensor) and name not in part._parameters for name in names)
    return not made and not part._forward_pre_hooks and "forward" not in vars(part)


def _candidates(net: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """Layers and normalisations that are called once each, the one on what the other returned."""
    names = {part: name for name, part in net.named_modules()}
    returned: dict[int, nn.Module] = {}
    kept, calls, found = [], dict.fromkeys(names, 0), []

    def after(part: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        calls[part] += 1
        if isinstance(part, _BatchNorm):
            if id(given[0]) in returned:
                found.append((returned[id(given[0])], part))
        elif type(part) in LAYERS:
            returned[id(out)] = part
            kept.append(out)  # so that no other tensor gets its id

    hooks = [
        part.register_forward_hook(after) for part in names if type(part) in LAYERS or isinstance(part, _BatchNorm)
    ]
    try:
        fixed_answer(net, x)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (names[layer], names[norm])
        for layer, norm in found
        if calls[layer] == calls[norm] == 1 and norm.running_mean is not None
        and _plain(layer) and _plain(norm)
    ]  # fmt: skip
