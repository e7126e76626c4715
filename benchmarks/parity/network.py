"""The models that both sides attack. Imported on both sides: torch only, weights come through a safetensors file."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DigitsNetwork(nn.Module):
    """The layers of the digits network that ships with potemkin, under the same names: (B, 1, 8, 8) -> (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 10))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


class Plateau(nn.Module):
    """A slope and then a plateau: after a mean shift of 0.02 the gradient is exactly zero. (B, 1, 8, 8) -> (B, 10)."""

    def forward(self, x: Tensor) -> Tensor:
        rise = (x.flatten(1).mean(1) - 0.5).clamp(max=0.02)
        return torch.stack([torch.zeros_like(rise), rise, *[torch.full_like(rise, -1.0)] * 8], dim=1)
