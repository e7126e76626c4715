"""The models that ship with potemkin, registered by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import resources

import torch
from safetensors.torch import load
from torch import nn

from potemkin.core.checks import number
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.models.architectures import ResNet, SmallCNN
from potemkin.models.digits_cnn import DigitsCNN


@register("model", "digits-cnn")
@dataclass(frozen=True, repr=False)
class BuiltinDigitsCNN(Noted):
    """Small CNN for 8x8 digits, 15,338 parameters, not hardened; takes (B, 1, 8, 8) in [0, 1].

    Trained on the first 1,297 of the data `digits`; right on 98 % of the last 500, which other people wrote.
    `python -m potemkin.models.digits_cnn --out FILE` trains it anew.
    """

    def fresh(self) -> nn.Module:
        """The network with new weights, drawn from torch's generator."""
        return DigitsCNN()

    def open(self) -> nn.Module:
        """The network with the weights that ship."""
        net = DigitsCNN()
        stored = resources.files("potemkin.models").joinpath("digits_cnn.safetensors").read_bytes()
        net.load_state_dict(load(stored))
        return net.eval()


@dataclass(frozen=True, repr=False)
class _Untrained(Noted, ABC):
    """An architecture: opening it alone gives weights that nothing was learnt from, drawn from seed 0."""

    width: int
    classes: int
    channels: int

    def __post_init__(self) -> None:
        for name in ("width", "channels"):
            number(f"{name} of {type(self).__name__}", getattr(self, name), low=1, integer=True)
        number(f"classes of {type(self).__name__}", self.classes, low=2, integer=True)

    @abstractmethod
    def fresh(self) -> nn.Module:
        """The network with new weights, drawn from torch's generator."""

    def open(self) -> nn.Module:
        """The untrained network: for `potemkin train`, or for --weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.fresh().eval()


@register("model", "small_cnn")
@dataclass(frozen=True, repr=False)
class BuiltinSmallCNN(_Untrained):
    """Untrained CNN for 28x28 pictures: two convolutions of 5x5, two linear layers; takes [0, 1].

    Source: Madry et al. 2018, the MNIST challenge's network (width 32).  Differs: none.
    """

    width: int = 32
    classes: int = 10
    channels: int = 1

    def fresh(self) -> nn.Module:
        return SmallCNN(self.width, self.classes, self.channels)


@register("model", "resnet")
@dataclass(frozen=True, repr=False)
class BuiltinResNet(_Untrained):
    """Untrained residual network for 32x32 pictures: 3 stages of `blocks` blocks (14 layers at 2); takes [0, 1].

    Source: He et al. 2016, section 4.2.  Differs: projection shortcuts where the shape changes.
    """

    width: int = 16
    classes: int = 10
    channels: int = 3
    blocks: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        number("blocks of resnet", self.blocks, low=1, integer=True)

    def fresh(self) -> nn.Module:
        return ResNet(self.width, self.classes, self.channels, self.blocks)
