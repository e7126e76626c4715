"""How far the training adversary may go, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from potemkin.core.random import RowStreams, row_keys
from potemkin.errors import ConfigError, DataError
from potemkin.training.radius import HalfNormal, PerClass, PerExample, Radius, UniformEps, is_radius

HALF = HalfNormal(high=16 / 255, sigma=8 / 255)


def streams(rows: int, epoch: int = 0, seed: int = 0) -> RowStreams:
    return RowStreams(row_keys(seed, torch.arange(rows), 1, torch.tensor(epoch), torch.tensor(0)))


def drawn(radius: Radius, rows: int = 1000, epoch: int = 0, seed: int = 0) -> Tensor:
    labels = torch.arange(rows) % 4
    return radius.draw(labels, torch.arange(rows), streams(rows, epoch, seed))


@pytest.mark.parametrize("radius", [HALF, UniformEps(0.01, 0.3)], ids=repr)
def test_a_draw_belongs_to_example_epoch_and_seed_whatever_stands_beside(radius: Any) -> None:
    whole = drawn(radius)
    few = RowStreams(streams(1000).keys[[17, 900, 3]])
    labels = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(radius.draw(labels, torch.arange(3), few), whole[[17, 900, 3]])
    assert torch.equal(drawn(radius), whole) and whole.dtype == torch.float32
    for other in (drawn(radius, epoch=1), drawn(radius, seed=1)):
        assert float((other == whole).float().mean()) < 0.01
        assert abs(np.corrcoef(other.numpy(), whole.numpy())[0, 1]) < 0.15


def test_the_half_normal_is_that_of_rejecting_what_lies_beyond() -> None:
    """Draws of |N(0, sigma^2)|, those above `high` thrown away: the same quantiles, to Kolmogorov-Smirnov."""
    pool = np.abs(np.random.default_rng(0).normal(0, HALF.sigma, 40_000))
    kept, ours = np.sort(pool[pool <= HALF.high]), np.sort(drawn(HALF, 8000).numpy())
    gap = np.abs(np.searchsorted(kept, ours) / len(kept) - np.arange(8000) / 8000).max()
    assert gap < 1.95 * np.sqrt(1 / 8000 + 1 / len(kept))
    assert ours[0] >= 0 and ours[-1] <= np.float32(16 / 255) and ours[-1] > 15.5 / 255
    assert HALF.largest == 16 / 255
    assert np.mean(ours < 8 / 255) == pytest.approx(0.6827 / 0.9545, abs=0.02)


def test_a_wide_half_normal_is_nearly_uniform_and_a_narrow_one_nearly_all_small() -> None:
    assert drawn(HalfNormal(high=1.0, sigma=50.0)).mean() == pytest.approx(0.5, abs=0.03)
    assert float(drawn(HalfNormal(high=1.0, sigma=0.01)).max()) < 0.05


def test_uniform_eps() -> None:
    eps = drawn(UniformEps(0.1, 0.3), 4000)
    ordered = (eps.sort().values - 0.1) / 0.2
    assert float((ordered - torch.linspace(0, 1, 4000)).abs().max()) < 1.95 / np.sqrt(4000)
    assert eps.min() >= 0.1 and eps.max() <= 0.3 + 1e-7 and UniformEps(0.1, 0.3).largest == 0.3


def test_per_class() -> None:
    radius = PerClass([0.1, 0.0, 0.3, 0.2])
    assert radius.eps == (0.1, 0.0, 0.3, 0.2) and radius.largest == 0.3
    assert torch.equal(drawn(radius, 8), torch.tensor([0.1, 0.0, 0.3, 0.2] * 2))


def test_per_example_goes_by_the_place_in_the_training_data(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(50)
    np.save(tmp_path / "eps.npy", values)
    radius = PerExample(str(tmp_path / "eps.npy"))
    positions = torch.tensor([49, 0, 7, 7])
    eps = radius.draw(torch.zeros(4, dtype=torch.int64), positions, streams(4))
    assert torch.equal(eps, torch.from_numpy(values.astype(np.float32))[positions])
    assert radius.largest == np.float32(values.max())
    eps += 1  # what is handed out is a copy
    assert float(radius.draw(torch.zeros(1, dtype=torch.int64), positions[:1], streams(1))) < 1
    radius.check(50)
    with pytest.raises(DataError, match="50 radii"):
        radius.check(51)


def test_a_file_that_was_written_anew_is_read_anew_by_the_next_run(tmp_path: Path) -> None:
    file, label, place = tmp_path / "eps.npy", torch.zeros(1, dtype=torch.int64), torch.tensor([1])
    np.save(file, np.array([0.1, 0.2]))
    radius = PerExample(str(file))
    radius.check(2)
    np.save(file, np.array([0.3, 0.4, 0.5]))
    assert float(radius.draw(label, place, streams(1))) == pytest.approx(0.2), "not in the midst of a run"
    radius.check(3)
    assert float(radius.draw(label, place, streams(1))) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "values", [np.zeros((3, 2)), np.array([0.1, np.nan]), np.array([0.1, -0.1]), np.array(["a"]), np.zeros(0)]
)
def test_files_that_hold_no_radii_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "eps.npy", values)
    with pytest.raises(DataError, match=r"eps\.npy"):
        PerExample(str(tmp_path / "eps.npy")).check(3)


def test_files_that_are_not_there_or_hold_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        PerExample(str(tmp_path / "none.npy")).check(3)
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        PerExample(str(tmp_path / "objects.npy")).check(1)


def test_arguments_are_checked() -> None:
    for wrong in (
        lambda: HalfNormal(0.0, 0.1), lambda: HalfNormal(0.1, 0.0), lambda: UniformEps(0.2, 0.2),
        lambda: UniformEps(-0.1, 0.2), lambda: PerClass(()), lambda: PerClass((0.1, -0.1)), lambda: PerClass(0.1),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            wrong()
    assert all(is_radius(each) for each in (HALF, UniformEps(0, 1), PerClass((0.1,))))
