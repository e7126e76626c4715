"""Several processes, applied to a network from outside: DDP, FSDP2, synchronised batch normalisation."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from potemkin.training.settings import Settings
from potemkin.training.sync_norm import synchronised


@dataclass
class Processes:
    """This process among those of the run."""

    rank: int
    world: int
    device: torch.device
    started_here: bool = False

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and speaks."""
        return self.rank == 0

    def total(self, numbers: list[float] | list[int]) -> list[float]:
        """Each number summed over all processes, in float64."""
        if self.world == 1:
            return [float(number) for number in numbers]
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def any(self, value: bool) -> bool:
        """Whether it is true for any process."""
        return self.total([float(value)])[0] > 0

    def broadcast(self, value: Any) -> Any:
        """What the first process has."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group, after what holds on to it: its last owner would wait for its threads with Python locked."""
        if self.started_here and dist.is_initialized():
            gc.collect()
            dist.destroy_process_group()


def start_processes(device: torch.device) -> Processes:
    """Join the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK in the environment); else be alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_initialized():
        return Processes(dist.get_rank(), dist.get_world_size(), device)
    if world == 1:
        return Processes(0, 1, device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size(), device, started_here=True)


class Replicas:
    """The network over the processes: `net` learns, `plain` answers attacks, `bare` holds parameters and buffers."""

    def __init__(self, net: nn.Module, processes: Processes, settings: Settings) -> None:
        self.processes, self._settings = processes, settings
        if processes.world > 1 and settings.sync_batchnorm:
            net = synchronised(net, processes.device)
        self.bare = self.plain = net
        self.sharded = processes.world > 1 and settings.parallel == "fsdp"
        self.net = self._wrapped(net) if processes.world > 1 else net
        if settings.compile:
            self.net = torch.compile(self.net)  # type: ignore[assignment]
            self.plain = self.net if processes.world == 1 or self.sharded else torch.compile(net)  # type: ignore[assignment]

    def _wrapped(self, net: nn.Module) -> nn.Module:
        if not self.sharded:
            # Buffers are averaged by `settle`: rank 0's statistics alone would waste the others'.
            return DistributedDataParallel(net, forward_sync_buffers=False)
        mesh = init_device_mesh(self.processes.device.type, (self.processes.world,))
        for child in net.children():
            if any(p.requires_grad for p in child.parameters()):
                fully_shard(child, mesh=mesh)
        fully_shard(net, mesh=mesh)
        return net

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """The inner attack: no gradient of a weight is made, so none may be waited for."""
        if not self.sharded:
            yield
            return
        shards = [part for part in self.bare.modules() if isinstance(part, FSDPModule)]
        for part in shards:
            part.set_requires_gradient_sync(False, recurse=False)
        try:
            yield
        finally:
            for part in shards:
                part.set_requires_gradient_sync(True, recurse=False)

    def accumulating(self, last: bool) -> Any:
        """Context of one part of a batch: gradients are exchanged with the last one only."""
        if last or self.processes.world == 1:
            return nullcontext()
        return self.quiet() if self.sharded else self.net.no_sync()  # type: ignore[operator]

    @torch.no_grad()
    def settle(self) -> None:
        """Make running statistics the same everywhere: their mean over the processes, in one message."""
        if self.processes.world == 1:
            return
        floats = [buffer for buffer in self.bare.buffers() if buffer.is_floating_point()]
        if not floats:
            return
        together = torch.cat([buffer.reshape(-1).float() for buffer in floats])
        dist.all_reduce(together)
        together /= self.processes.world
        means = torch.split(together, [buffer.numel() for buffer in floats])
        for buffer, mean in zip(floats, means, strict=True):
            buffer.copy_(mean.reshape(buffer.shape))

    @torch.no_grad()
    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The whole tensors, where they are sharded."""
        return {name: t.full_tensor() if hasattr(t, "full_tensor") else t for name, t in tensors.items()}
