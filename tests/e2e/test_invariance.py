"""What an example's result may depend on: nothing but model, data, threat, attacks, seed and `rows`.

The lines of examples.jsonl and the rows of adversarials.safetensors are compared byte by byte, between two data orders,
two subsets, two thread counts, two strides, with and without running ahead: real pictures, restarts, two attacks.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import potemkin as pk
from potemkin.data.arrays import ArraySource
from potemkin.evaluate.bundle_read import read_bundle

ATTACKS = (pk.pgd(steps=1, restarts=6, relative_step_size=0.6), pk.apgd(steps=12, objective=pk.DLR(), targets=2))
Rows = dict[int | str, tuple[bytes, bytes | None]]


@dataclasses.dataclass
class Pictures:
    """A small network trained on pictures, and pictures to attack it with."""

    net: nn.Module
    x: Tensor
    y: Tensor
    eps: float

    def run(self, out: Path, order: list[int] | None = None, threads: int = 1, **options: object) -> Rows:
        """Audit the examples in this order; each example's line and adversarial, as bytes, by id."""
        order = list(range(len(self.x))) if order is None else order
        source = ArraySource(self.x[order], self.y[order], name="pictures", ids=order)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            pk.audit(
                pk.Classifier(self.net),
                source,
                pk.Linf(self.eps),
                ATTACKS,
                **{"rows": 32, "out": out, "seed": 3} | options,
            )
        finally:
            torch.set_num_threads(before)
        return by_id(out)


def by_id(out: Path) -> Rows:
    texts = (out / "examples.jsonl").read_bytes().splitlines()
    bundle = read_bundle(out)
    claims = bundle.tensor("inputs")
    return {
        line.id: (text, None if line.adversarial is None else claims[line.adversarial].tobytes())
        for line, text in zip(bundle.lines, texts, strict=True)
    }


def train(net: nn.Module, x: Tensor, y: Tensor, steps: int) -> nn.Module:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(steps):
        index = torch.randint(len(x), (64,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[index]), y[index]).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module", params=["digits", "fashion_mnist"])
def pictures(request: pytest.FixtureRequest) -> Iterator[Pictures]:
    """A network with BatchNorm on the embedded digits, a strided one on Fashion-MNIST (where the data are)."""
    torch.manual_seed(1)
    if request.param == "digits":
        train_x, train_y = arrays(pk.load_data("digits(part='train')"))
        test_x, test_y = arrays(pk.load_data("digits"))
        net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10)
        )
        yield Pictures(train(net, train_x, train_y, 120), test_x[:72], test_y[:72], 0.12)
        return
    root = request.getfixturevalue("data_root")
    (train_x, train_y), (test_x, test_y) = (
        pictures_of(root / "fashion_mnist" / f"{part}.npz") for part in ("train", "test")
    )
    net = nn.Sequential(
        nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)
    )
    yield Pictures(train(net, train_x, train_y, 150), test_x[:72], test_y[:72], 0.02)


def arrays(source: object) -> tuple[Tensor, Tensor]:
    batch = next(iter(source.batches(10_000)))  # type: ignore[attr-defined]
    return batch.inputs, batch.labels


def pictures_of(path: Path) -> tuple[Tensor, Tensor]:
    with np.load(path, allow_pickle=False) as archive:
        images, labels = archive["images"][:3000], archive["labels"][:3000]
    return torch.from_numpy(images).float().div(255).unsqueeze(1), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def straight(pictures: Pictures, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The run that the others are compared with; worth it: some fall, some hold, both attacks contribute."""
    rows = pictures.run(tmp_path_factory.mktemp("straight"))
    lines = [json.loads(text) for text, _ in rows.values()]
    assert {"held", "broken"} <= {line["outcome"] for line in lines}
    assert len({line["broken_by"] for line in lines} - {None}) == 2, "both attacks must break something"
    # Every example that got as far as APGD has been through all restarts of PGD.
    assert any("apgd" in (line["broken_by"] or "") and line["forwards"] > 12 for line in lines)
    return rows


@pytest.mark.parametrize("order", ["backwards", "shuffled"])
def test_data_order(pictures: Pictures, straight: Rows, tmp_path: Path, order: str) -> None:
    places = torch.arange(len(pictures.x)).flip(0)
    if order == "shuffled":
        places = torch.randperm(len(pictures.x), generator=torch.Generator().manual_seed(5))
    assert pictures.run(tmp_path, places.tolist()) == straight


@pytest.mark.parametrize("subset", [list(range(0, 72, 3)), [70, 11, 5, 33, 2]])
def test_subsets(pictures: Pictures, straight: Rows, tmp_path: Path, subset: list[int]) -> None:
    assert pictures.run(tmp_path, subset) == {name: straight[name] for name in subset}


def test_thread_counts(pictures: Pictures, straight: Rows, tmp_path: Path) -> None:
    assert pictures.run(tmp_path, threads=2) == straight


@pytest.mark.parametrize("options", [{"stride": 3}, {"stride": 16}, {"speculate": False}], ids=str)
def test_schedule(pictures: Pictures, straight: Rows, tmp_path: Path, options: dict[str, object]) -> None:
    """Costs included: what an example needed does not depend on when anybody looked, or on who ran ahead."""
    assert pictures.run(tmp_path, **options) == straight


def test_everything_at_once(pictures: Pictures, straight: Rows, tmp_path: Path) -> None:
    """Another order, a subset, another stride, nobody running ahead: in one run."""
    part = torch.randperm(len(pictures.x), generator=torch.Generator().manual_seed(2))[:29].tolist()
    found = pictures.run(tmp_path, part, stride=5, speculate=False)
    assert found == {name: straight[name] for name in part}


def test_the_files_themselves_are_the_same(pictures: Pictures, tmp_path: Path) -> None:
    """In one order, whole files: nothing of the schedule or the clock is in them."""
    names = ("examples.jsonl", "adversarials.safetensors")
    pictures.run(tmp_path / "one")
    pictures.run(tmp_path / "two", stride=7, speculate=False)
    one, two = ([(tmp_path / run / name).read_bytes() for name in names] for run in ("one", "two"))
    assert one == two


def test_another_seed_draws_otherwise(pictures: Pictures, straight: Rows, tmp_path: Path) -> None:
    """The comparison can fail: another seed changes adversarials."""
    assert pictures.run(tmp_path, seed=4) != straight


def test_cycle_retirement_changes_costs_alone(pictures: Pictures, tmp_path: Path) -> None:
    """Identical outcomes and adversarials, at a lower cost."""

    def run(name: str, retire: bool) -> tuple[dict[int | str, tuple[str, bytes | None]], int]:
        out = tmp_path / name
        record = pk.audit(
            pk.Classifier(pictures.net), (pictures.x, pictures.y), pk.Linf(pictures.eps / 4),
            pk.pgd(steps=120, relative_step_size=0.25), rows=32, out=out, retire_cycles=retire,
        )  # fmt: skip
        found = {name: (json.loads(text)["outcome"], claim) for name, (text, claim) in by_id(out).items()}
        return found, record.cost.useful.forwards

    (with_cycles, cost), (without, full_cost) = run("on", True), run("off", False)
    assert with_cycles == without
    assert cost < 0.8 * full_cost
