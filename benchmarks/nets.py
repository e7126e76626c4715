"""The networks that the benchmarks attack: a small CNN, trained plainly or with PGD, cached under runs/benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CACHE = Path("runs/benchmarks")


def small_cnn() -> nn.Module:
    """Two strided convolutions and two linear layers, for 28 x 28 grey pictures."""
    width, hidden = 16, 100
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


def madry_cnn() -> nn.Module:
    """The MNIST network of Madry et al. 2018: 32 and 64 filters of 5 x 5 with pooling, 1,024 hidden units."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 49, 1024),
        nn.ReLU(),
        nn.Linear(1024, 10),
    )


def mlp() -> nn.Module:
    """Two hidden layers: nothing but matrix products, whose kernels depend most on the row count."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def frozen(net: nn.Module) -> nn.Module:
    """The network without weight gradients, so that a bare loop pays for input gradients only, as the engine does."""
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net


def trained(
    name: str, x: Tensor, y: Tensor, *, net: nn.Module | None = None, eps: float = 0.0, epochs: int = 2, steps: int = 7
) -> nn.Module:
    """Train (adversarially where eps > 0, with `steps` of PGD at eps / 4), or load from the cache."""
    torch.manual_seed(0)
    net = net or small_cnn()
    path = CACHE / f"{name}-{size_of(net)}.safetensors"
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


def size_of(net: nn.Module) -> str:
    """Part of the cache's file name: how many parameters."""
    return str(sum(parameter.numel() for parameter in net.parameters()))


def _pgd(net: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int) -> Tensor:
    point = (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(steps):
        point.requires_grad_()
        (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(net(point), y), point)
        point = (point.detach() + eps / 4 * gradient.sign()).clamp(x - eps, x + eps).clamp(0, 1)
    return point.detach()
