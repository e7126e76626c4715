"""The built-in network for 8x8 handwritten digits: architecture, training, and the command that made its weights.

    python -m potemkin.models.digits_cnn --out digits_cnn.safetensors

trains for seconds on the first 1,297 of the embedded digits, prints the accuracy on the last 500, and writes the
weights; with the default seed these are the ones that ship (to the last bit on the same machine and build of torch;
elsewhere sums may round differently). Nothing here is hardened: it is a façade to try attacks on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

TRAIN_ROWS = 1297


class DigitsCNN(nn.Module):
    """Three convolutions and a linear layer, 15,338 parameters: (B, 1, 8, 8) in [0, 1] -> logits (B, 10)."""

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
        """Logits (B, 10)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def train_digits_cnn(
    inputs: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    epochs: int = 40,
    rows: int = 64,
    step_size: float = 4e-3,
    after_epoch: Callable[[int, float], None] | None = None,
) -> DigitsCNN:
    """Train a DigitsCNN with AdamW on the cross-entropy of shifted digits, the step size falling to 0 along a cosine.

    Shifting each digit by up to a pixel is worth four points on the part held out: it was written by other people.

    Args:
        inputs: (N, 1, 8, 8) float32 in [0, 1]; labels: (N,) int64 in 0..9.
        seed: of the initial weights, the order and the shifts; the global random state is left alone.
        epochs, rows: passes over the data, and examples per step.
        after_epoch: called with the number of epochs done and the last step's loss.

    Returns: the network in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DigitsCNN()
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=step_size, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs))
    net.train()
    for epoch in range(epochs):
        for batch in torch.split(torch.randperm(len(inputs), generator=draws), rows):
            loss = F.cross_entropy(net(_shifted(inputs[batch], draws)), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        if after_epoch is not None:
            after_epoch(epoch + 1, float(loss.detach()))
    return net.eval()


def _shifted(images: Tensor, draws: torch.Generator) -> Tensor:
    """Each image moved by -1, 0 or 1 pixel in both directions, with empty paper coming in."""
    rows, _, height, width = images.shape
    places = F.pad(images, (1, 1, 1, 1)).unfold(2, height, 1).unfold(3, width, 1).reshape(rows, 1, 9, height, width)
    return places[torch.arange(rows), :, torch.randint(9, (rows,), generator=draws)]


def accuracy(net: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """The share of rows whose greatest logit is the label's."""
    with torch.no_grad():
        return float((net(inputs).argmax(dim=1) == labels).double().mean())


def embedded_digits() -> tuple[Tensor, Tensor]:
    """All 1,797 embedded digits: inputs (N, 1, 8, 8) float32 in [0, 1], labels (N,) int64."""
    with resources.files("potemkin.data").joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        images, labels = stored["images"], stored["labels"]
    return torch.from_numpy(images).float().div(16).unsqueeze(1), torch.from_numpy(labels).long()


def main(arguments: list[str] | None = None) -> None:
    """Train on the embedded digits, print the accuracy on the part held out, write the weights."""
    parser = argparse.ArgumentParser(prog="python -m potemkin.models.digits_cnn", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the weights go (.safetensors)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights and the order (default 0)")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the 1,297 training digits (default 40)")
    given = parser.parse_args(arguments)
    if given.out.suffix != ".safetensors":
        parser.error(f"--out {given.out}: a name that ends in .safetensors is needed")
    if given.epochs < 1:
        parser.error(f"--epochs {given.epochs}: at least 1 is needed")
    if not given.out.parent.is_dir():
        parser.error(f"--out {given.out}: the folder {given.out.parent} does not exist")
    torch.set_num_threads(1)  # how many threads share a sum is part of its rounding
    inputs, labels = embedded_digits()
    print(f"Training digits-cnn on {TRAIN_ROWS:,} digits, {given.epochs} epochs …", flush=True)

    def tell(epoch: int, loss: float) -> None:
        if epoch % 10 == 0:
            print(f"{epoch} of {given.epochs} epochs done, loss {loss:.3f}", flush=True)

    net = train_digits_cnn(
        inputs[:TRAIN_ROWS], labels[:TRAIN_ROWS], seed=given.seed, epochs=given.epochs, after_epoch=tell
    )
    held_out = inputs[TRAIN_ROWS:], labels[TRAIN_ROWS:]
    save_file(net.state_dict(), given.out, metadata={"architecture": "potemkin.models.digits_cnn.DigitsCNN"})
    right = round(accuracy(net, *held_out) * len(held_out[1]))
    print(f"{right} of {len(held_out[1])} digits held out are right; weights written to {given.out}")


if __name__ == "__main__":
    main()
