"""Batch normalisation over all processes, also on CPUs, where torch's own does not run."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum over all processes; every process's loss depends on it, so gradients are summed alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradients[0].contiguous())


def _summed(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


class SyncedNorm(_BatchNorm):
    """Batch normalisation whose batch is that of all processes (equal rows each): the same mean, the same gradient.

        mean = sum_ranks sum_rows x / n,   var = sum_ranks sum_rows (x - mean)^2 / n

    Two small messages forwards and two backwards per layer.
    Source: Ioffe and Szegedy 2015, Algorithm 1, over the global batch.  Differs: none.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.dim()) if d != 1]
        count = x.numel() // x.shape[1] * dist.get_world_size()
        shape = (1, -1) + (1,) * (x.dim() - 2)
        wide = x.float()
        mean = _summed(wide.sum(dims)) / count
        centred = wide - mean.view(shape)
        var = _summed(centred.square().sum(dims)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self._remember(mean.detach(), var.detach() * (count / max(1, count - 1)))
        out = centred * torch.rsqrt(var + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        normalised: Tensor = out.to(x.dtype)
        return normalised

    def _remember(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = self.momentum
        if share is None:
            assert self.num_batches_tracked is not None
            share = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var, share)


def synchronised(net: nn.Module, device: torch.device) -> nn.Module:
    """The network with every batch normalisation synchronised, names of parameters and buffers unchanged."""
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        return converted
    return _converted(net)


def _converted(part: nn.Module) -> nn.Module:
    if isinstance(part, _BatchNorm) and not isinstance(part, SyncedNorm):
        synced = SyncedNorm(part.num_features, part.eps, part.momentum, part.affine, part.track_running_stats)
        synced._parameters, synced._buffers, synced.training = part._parameters, part._buffers, part.training
        return synced
    for name, child in part.named_children():
        setattr(part, name, _converted(child))
    return part
