"""The network that learns, as recipes see it: logits for learning, logits for the attack, and every pass counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from potemkin.models.folding import Folding
from potemkin.models.logits import as_logits
from potemkin.threat.box import Box


@dataclass
class Meter:
    """Rows that went through the network in this process, by purpose; see `journal.Cost`."""

    attack: list[int] = field(default_factory=lambda: [0, 0])
    learning: list[int] = field(default_factory=lambda: [0, 0])
    evaluation: list[int] = field(default_factory=lambda: [0, 0])

    def numbers(self) -> list[int]:
        return [*self.attack, *self.learning, *self.evaluation]

    def reset(self) -> None:
        self.attack, self.learning, self.evaluation = [0, 0], [0, 0], [0, 0]


@dataclass
class Learner:
    """A network under training.

    `net` is what learns (a DDP wrapper, a compiled module); `plain` the module inside, which attacks ask: their passes
    must trigger no gradient synchronisation.
    """

    net: nn.Module
    plain: nn.Module
    box: Box
    preprocessing: nn.Module | None = None
    classes: int | None = None
    bf16: bool = False
    channels_last: bool = False
    folding: Folding = field(default_factory=lambda: Folding([]))
    """What is folded while it is attacked in eval mode."""
    meter: Meter = field(default_factory=Meter)

    def learn(self, x: Tensor) -> Tensor:
        """Logits (B, K) in float32, attached to the weights; counts one forward and 2 backwards per row."""
        self.meter.learning[0] += len(x)
        self.meter.learning[1] += 2 * len(x)
        return self._logits(self.net, x)

    def beside(self, x: Tensor) -> Tensor:
        """Logits of the module inside, attached to weights and inputs: for penalties; a backward counts 3."""
        self.meter.learning[0] += len(x)
        self.meter.learning[1] += 3 * len(x)
        return self._logits(self.plain, x)

    @contextmanager
    def probing(self, mode: str) -> Iterator[Callable[[Tensor], Tensor]]:
        """The network as the inner attack asks it, in "eval" or "train" mode; running statistics are left alone.

        Yields: logits (B, K) of (B, *shape); counts one forward per row (backwards are the caller's to count).
        """
        folded = nullcontext() if mode == "train" else self.folding.applied()
        with held(self.plain, training=mode == "train"), folded:

            def logits(x: Tensor) -> Tensor:
                self.meter.attack[0] += len(x)
                return self._logits(self.plain, x)

            yield logits

    def laid_out(self, x: Tensor) -> Tensor:
        """The same values (B, *shape) in the memory format that the network computes in."""
        if self.channels_last and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def _logits(self, net: nn.Module, x: Tensor) -> Tensor:
        inside = x if self.preprocessing is None else self.preprocessing(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            returned = net(self.laid_out(inside))
        logits, _ = as_logits(returned, len(x), self.classes)
        self.classes = logits.shape[1]
        return logits.float()


@contextmanager
def held(net: nn.Module, training: bool) -> Iterator[None]:
    """Put every module into a mode and give it back; what train mode writes into buffers is not kept."""
    flags = [(part, part.training) for part in net.modules()]
    for part, _ in flags:
        part.training = training
    try:
        with statistics_kept(net) if training else nullcontext():
            yield
    finally:
        for part, flag in flags:
            part.training = flag


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Passes in train mode use the batch's statistics, and leave those that the network keeps as they were."""
    norms = [part for part in net.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    theirs = {id(buffer) for norm in norms for buffer in norm.buffers()}
    others = [(buffer, buffer.clone()) for buffer in net.buffers() if id(buffer) not in theirs]
    for norm in norms:
        # Then nothing is written; put back afterwards, the graph of this pass would be refused its backward.
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
        with torch.no_grad():
            for buffer, before in others:
                buffer.copy_(before)
