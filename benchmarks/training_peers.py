"""The other side of training.py: runs in the peers' environment, never imports potemkin.

    python training_peers.py THREADS

One command per line of the standard input, {"do": NAME, …}; one line of JSON back. Ends when the input does.

- "art": ART's AdversarialTrainerMadryPGD with its PyTorchClassifier. Attacks the network in eval mode. Its attack works
  in batches of 32 unless told otherwise: it is given the whole batch at once, which is faster.
- "madry": the loop as Madry et al. 2018 describe it and as most PyTorch repositories write it: PGD on the network in
  train mode by `autograd.grad` at the input (no gradient of a weight is made), then one step of SGD.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F


class Computed(nn.Module):
    """A network in a layout and a precision: what a user of ART can do to be faster, by hand."""

    def __init__(self, net: nn.Module, bf16: bool, channels_last: bool) -> None:
        super().__init__()
        self.net, self.bf16, self.channels_last = net, bf16, channels_last
        if channels_last:
            net.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.net(x)
        return logits.float()


class Peer:
    """A way to train, with its network and data."""

    def __init__(self, net: nn.Module, images: np.ndarray, labels: np.ndarray, given: dict[str, Any]) -> None:
        self.bare, self.images, self.labels, self.given = net, images, labels, given
        self.rows, self.lr = given["rows"], given["lr"]
        special = given["bf16"] or given["channels_last"]
        self.net = Computed(net, given["bf16"], given["channels_last"]) if special else net
        self.optimiser = torch.optim.SGD(self.net.parameters(), self.lr, 0.9, weight_decay=5e-4)
        self.random = np.random.default_rng(given["seed"])
        self.order, self.place = self.random.permutation(len(images)), 0
        self.elapsed, self.done = 0.0, 0

    def batches(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The next images (n, 3, 32, 32) uint8 and labels of this sweep over the data."""
        if self.place + count * self.rows > len(self.order):
            self.order, self.place = self.random.permutation(len(self.images)), 0
        chosen = self.order[self.place : self.place + count * self.rows]
        self.place += count * self.rows
        return self.images[chosen].transpose(0, 3, 1, 2), self.labels[chosen]


class Madry(Peer):
    def prepare(self, count: int) -> None:
        """Nothing outside the clock: reading is part of the step, as it is for potemkin."""

    def run(self, count: int) -> None:
        for _ in range(count):
            images, labels = self.batches(1)
            x = torch.from_numpy(np.ascontiguousarray(images)).float().div_(255)
            self.step(x, torch.from_numpy(labels))

    def step(self, x: Tensor, y: Tensor) -> None:
        eps, size = self.given["eps"], self.given["step_size"]
        self.net.train()
        point = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
        for _ in range(self.given["steps"]):
            point.requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(self.net(point), y), point)
            point = point.detach() + size * gradient.sign()
            point = torch.min(torch.max(point, x - eps), x + eps).clamp(0, 1)
        self.optimiser.zero_grad()
        F.cross_entropy(self.net(point), y).backward()
        self.optimiser.step()

    def train(self, seconds: float, budget: float) -> None:
        """Steps for a slice of the budget; the rate goes up to 2/5 of it and down to 0, straight both ways."""
        began = time.perf_counter()
        while (now := time.perf_counter() - began) < seconds and self.elapsed + now < budget:
            share = (self.elapsed + now) / budget
            self.optimiser.param_groups[0]["lr"] = self.lr * float(np.interp(share, [0, 0.4, 1], [0, 1, 0]))
            self.run(1)
            self.done += 1
        self.elapsed += time.perf_counter() - began


class Art(Peer):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        from art.defences.trainer import AdversarialTrainerMadryPGD
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(
            self.net, nn.CrossEntropyLoss(), input_shape=(3, 32, 32), nb_classes=10, optimizer=self.optimiser,
            clip_values=(0.0, 1.0), device_type="cpu",
        )  # fmt: skip
        self.trainer = AdversarialTrainerMadryPGD(
            classifier, nb_epochs=1, batch_size=self.rows, eps=self.given["eps"], eps_step=self.given["step_size"],
            max_iter=self.given["steps"], num_random_init=1,
        )  # fmt: skip
        self.trainer.attack.set_params(batch_size=self.rows)

    def prepare(self, count: int) -> None:
        """ART wants arrays of float32 and one-hot labels: made here, off the clock."""
        images, labels = self.batches(count)
        self._ready = images.astype(np.float32) / 255, np.eye(10, dtype=np.float32)[labels]

    def run(self, count: int) -> None:
        self.trainer.fit(*self._ready, batch_size=self.rows, nb_epochs=1)


@cache
def pictures(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) uint8 and labels."""
    with np.load(Path(path), allow_pickle=False) as archive:
        return archive["images"], archive["labels"]


class Server:
    """The commands."""

    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}

    def versions(self) -> dict[str, str]:
        names = ("torch", "numpy", "adversarial-robustness-toolbox")
        return {"python": sys.version.split()[0], **{name: version(name) for name in names}}

    def make(self, name: str, kind: str, **given: Any) -> dict[str, Any]:
        """A peer of this name; `given`: source, width, weights, data, rows, eps, step_size, steps, lr, seed, bf16,
        channels_last."""
        spec = importlib.util.spec_from_file_location("architectures", given["source"])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        net = module.ResNet(given["width"])
        net.load_state_dict(load_file(given["weights"]))
        images, labels = pictures(given["data"])
        torch.manual_seed(given["seed"])
        np.random.seed(given["seed"])  # ART shuffles with it
        self.peers[name] = {"art": Art, "madry": Madry}[kind](net, images, labels, given)
        return {}

    def steps(self, name: str, count: int) -> dict[str, float]:
        peer = self.peers[name]
        peer.prepare(count)
        began = time.perf_counter(), time.process_time()
        peer.run(count)
        seconds, processor = time.perf_counter() - began[0], time.process_time() - began[1]
        return {"seconds": seconds, "processor": processor, "rows": count * peer.rows}

    def passes(self, name: str) -> dict[str, float]:
        """Do a step and count: rows that went forward through the network, per row that is learnt from."""
        seen: list[int] = []
        hook = self.peers[name].bare.register_forward_pre_hook(lambda net, given: seen.append(len(given[0])))
        self.steps(name, 1)
        hook.remove()
        return {"forwards": sum(seen) / self.peers[name].rows}

    def train(self, name: str, seconds: float, budget: float) -> dict[str, Any]:
        peer = self.peers[name]
        peer.train(seconds, budget)
        return {"elapsed": peer.elapsed, "steps": peer.done, "left": peer.elapsed < budget}

    def save(self, name: str, path: str) -> dict[str, Any]:
        save_file({key: value.contiguous() for key, value in self.peers[name].bare.state_dict().items()}, path)
        return {}

    def drop(self, name: str) -> dict[str, Any]:
        del self.peers[name]
        return {}


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints is no answer
    server = Server()
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(server, command.pop("do"))(**command)), file=answers, flush=True)


if __name__ == "__main__":
    main()
