"""Small networks for benchmarks and tutorials: the shapes that robust training is measured on."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SmallCNN(nn.Module):
    """Two 5x5 convolutions with pooling, two linear layers: (B, C, 28, 28) in [0, 1] -> logits (B, K).

    Source: Madry et al. 2018, the MNIST challenge's network.  Differs: none.
    """

    def __init__(self, width: int = 32, classes: int = 10, channels: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 5, padding=2)
        self.second = nn.Conv2d(width, 2 * width, 5, padding=2)
        self.hidden = nn.Linear(2 * width * 7 * 7, 32 * width)
        self.head = nn.Linear(32 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        logits: Tensor = self.head(F.relu(self.hidden(x.flatten(1))))
        return logits


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation and a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = (
            nn.Identity()
            if before == after and stride == 1
            else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) -> (B, after, H / stride, W / stride)."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of `blocks` residual blocks, 6 blocks + 2 layers: (B, C, H, W) in [0, 1] -> logits (B, K).

    Source: He et al. 2016, section 4.2.  Differs: projection shortcuts; inputs are not normalised, the first batch
    normalisation does that.
    """

    def __init__(self, width: int = 16, classes: int = 10, channels: int = 3, blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = [width] * (blocks + 1) + [2 * width] * blocks + [4 * width] * blocks
        self.stages = nn.Sequential(
            *(Block(before, after, stride=2 if after > before else 1) for before, after in pairwise(widths))
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        x = self.stages(F.relu(self.norm(self.stem(x))))
        logits: Tensor = self.head(torch.mean(x, dim=(2, 3)))
        return logits
