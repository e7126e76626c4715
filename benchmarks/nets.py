"""The networks that the benchmarks attack: a small CNN, trained plainly or with PGD, cached under runs/benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CACHE = Path("runs/benchmarks")


def small_cnn(width: int = 16, hidden: int = 100) -> nn.Module:
    """Two strided convolutions and a linear layer, for 28 x 28 grey pictures: MNIST size."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 49, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


def trained(name: str, x: Tensor, y: Tensor, *, eps: float = 0.0, epochs: int = 2, steps: int = 7) -> nn.Module:
    """Train (adversarially where eps > 0, with `steps` of PGD at eps / 4), or load from the cache."""
    torch.manual_seed(0)
    net, path = small_cnn(), CACHE / f"{name}.safetensors"
    if path.exists():
        net.load_state_dict(load_file(path))
        return net.eval()
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(128):
            batch, labels = x[index], y[index]
            attacked = _pgd(net, batch, labels, eps, steps) if eps else batch
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(attacked), labels).backward()
            optimizer.step()
    CACHE.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), path)
    return net.eval()


def _pgd(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    point = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(steps):
        point.requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(net(point), y), point)
        point = (point.detach() + eps / 4 * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return point.detach()
