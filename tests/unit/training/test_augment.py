"""Augmentation: in the box, a function of example and epoch, and what each part does to a picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from potemkin.core.random import RowStreams, row_keys
from potemkin.errors import ConfigError
from potemkin.training.augment import Cutmix, Cutout, Flip, Mixup, Shift
from potemkin.training.examples import Examples

ALONE = [Shift(3), Flip(), Cutout(3)]
MIXING = [Mixup(), Cutmix()]
every_part = pytest.mark.parametrize("part", [*ALONE, *MIXING], ids=repr)


def pictures(rows: int = 50, shape: tuple[int, ...] = (3, 7, 9), epoch: int = 0, seed: int = 0) -> Examples:
    g = torch.Generator().manual_seed(seed)
    keys = row_keys(0, torch.arange(rows), 1, torch.tensor(epoch), torch.tensor(0))
    x = torch.rand(rows, *shape, generator=g)
    return Examples(x, torch.arange(rows) % 5, torch.arange(rows), RowStreams(keys), 0.0)


def picked(given: Examples, rows: list[int]) -> Examples:
    index = torch.tensor(rows)
    return Examples(given.x[index], given.y[index], given.positions[index], RowStreams(given.streams.keys[index]), 0.0)


# What all share -----------------------------------------------------------------------------------------------------


@every_part
def test_inputs_stay_in_the_box_and_the_givens_as_they_were(part: Any) -> None:
    given = pictures()
    before, labels = given.x.clone(), given.y.clone()
    after = part.apply(given)
    assert after.x.shape == given.x.shape and after.x.min() >= 0 and after.x.max() <= 1
    assert after.x.dtype == torch.float32 and torch.equal(given.x, before)
    assert torch.equal(after.y, labels) and torch.equal(after.positions, given.positions)
    assert torch.equal(after.streams.keys, given.streams.keys)
    assert not torch.equal(after.x, before), "it does something"


@pytest.mark.parametrize("part", ALONE, ids=repr)
def test_an_example_is_changed_alike_whatever_stands_beside_it(part: Any) -> None:
    given = pictures()
    whole = part.apply(given).x
    rows = [17, 3, 44]
    assert torch.equal(part.apply(picked(given, rows)).x, whole[rows])
    assert torch.equal(part.apply(given.rows(20, 25)).x, whole[20:25])


@every_part
def test_each_epoch_draws_anew(part: Any) -> None:
    first, again, other = (part.apply(pictures(epoch=epoch)).x for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    same = (first == other).flatten(1).all(dim=1)
    assert same.float().mean() < 0.75  # a coin falls alike half of the time


def test_two_parts_of_a_recipe_draw_independently() -> None:
    given = pictures(400)
    down = torch.where(Flip().apply(given).x == given.x, 0.0, 1.0).flatten(1).amax(dim=1)
    moved = (Shift(1).apply(given).x[:, :, 0] == 0).flatten(1).all(dim=1).float()  # the window went up
    blank = (Cutout(3).apply(given).x == 0).float().mean(dim=(1, 2, 3))
    mixed = Mixup().apply(given).share
    assert mixed is not None
    table = np.corrcoef(torch.stack([down, moved, blank, mixed]).numpy())
    assert np.abs(table - np.eye(4)).max() < 0.2


@every_part
def test_what_is_no_picture_is_refused(part: Any) -> None:
    if isinstance(part, Mixup):
        assert part.apply(pictures(shape=(12,))).x.shape == (50, 12)
        return
    with pytest.raises(ConfigError, match=r"\(12,\)"):
        part.apply(pictures(shape=(12,)))


# Shift --------------------------------------------------------------------------------------------------------------


def shifted(picture: np.ndarray, down: int, right: int) -> np.ndarray:
    """The picture seen through a window that is moved by (down, right); what lies outside is 0."""
    channels, height, width = picture.shape
    seen = np.zeros_like(picture)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                if 0 <= i + down < height and 0 <= j + right < width:
                    seen[c, i, j] = picture[c, i + down, j + right]
    return seen


def test_shift_is_a_window_moved_by_up_to_so_many_pixels() -> None:
    given, reach = pictures(40), 2
    after = Shift(reach).apply(given).x
    counts: dict[tuple[int, int], int] = {}
    moves = [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]
    for x, found in zip(given.x.numpy(), after.numpy(), strict=True):
        fits = [move for move in moves if np.array_equal(shifted(x, *move), found)]
        assert len(fits) == 1
        counts[fits[0]] = counts.get(fits[0], 0) + 1
    assert {i for i, _ in counts} == {j for _, j in counts} == {-2, -1, 0, 1, 2}


def test_all_moves_are_alike_likely() -> None:
    rows = 4000
    given = pictures(1)
    many = Examples(
        torch.zeros(rows, 1, 9, 9), torch.zeros(rows, dtype=torch.int64), torch.arange(rows),
        RowStreams(row_keys(0, torch.arange(rows), 1, torch.tensor(0), torch.tensor(0))), given.progress,
    )  # fmt: skip
    many.x[:, 0, 4, 4] = 1.0
    spot = Shift(4).apply(many).x.flatten(1).argmax(dim=1)
    counts = torch.bincount(spot, minlength=81)  # 49 each, sd 7
    assert int(counts.min()) > 22 and int(counts.max()) < 78


def test_channels_come_last_in_memory() -> None:
    assert Shift(2).apply(pictures()).x.is_contiguous(memory_format=torch.channels_last)


# Flip ---------------------------------------------------------------------------------------------------------------


def test_flip_mirrors_left_and_right_half_of_the_time() -> None:
    given = pictures(400)
    after = Flip().apply(given).x
    mirrored = torch.tensor([torch.equal(a, x.flip(2)) for a, x in zip(after, given.x, strict=True)])
    kept = torch.tensor([torch.equal(a, x) for a, x in zip(after, given.x, strict=True)])
    assert torch.equal(mirrored, ~kept) and 160 < int(mirrored.sum()) < 240


# Cutout -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cutout_blanks_one_square_around_a_place_in_the_picture(size: int) -> None:
    given = pictures(300)
    after = Cutout(size).apply(given).x
    blank = (after == 0).all(dim=1)
    assert torch.equal((after == 0).any(dim=1), blank), "all channels alike"
    assert torch.equal(torch.where(blank[:, None], given.x, after), given.x), "and nothing else is touched"
    areas = blank.sum(dim=(1, 2))
    assert int(areas.max()) == size**2 and int(areas.min()) >= (size // 2 or 1) * ((size + 1) // 2 or 1) // 2
    for mask in blank:
        down, right = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
        height, width = int(down[-1] - down[0]) + 1, int(right[-1] - right[0]) + 1
        assert height * width == int(mask.sum()) and max(height, width) <= size
        # Less than the whole side only at the border.
        assert height == size or down[0] == 0 or down[-1] == mask.shape[0] - 1
        assert width == size or right[0] == 0 or right[-1] == mask.shape[1] - 1
    assert blank.any(dim=0).all(), "every pixel is blanked some time"


def test_the_place_of_cutout_is_uniform() -> None:
    spots = (Cutout(1).apply(pictures(6300)).x == 0).all(dim=1).sum(dim=0)  # 63 places, a hundred each, sd 10
    assert int(spots.min()) > 65 and int(spots.max()) < 140


# Mixtures -----------------------------------------------------------------------------------------------------------


def test_mixup_blends_a_row_with_the_next_and_the_last_with_the_first() -> None:
    given = pictures(400)
    after = Mixup().apply(given)
    assert after.share is not None and after.partner is not None
    share = after.share.reshape(-1, 1, 1, 1)
    nxt = torch.cat([given.x[1:], given.x[:1]])
    assert torch.allclose(after.x, share * given.x + (1 - share) * nxt, atol=1e-6)
    assert torch.equal(after.partner, torch.cat([given.y[1:], given.y[:1]]))
    assert after.share.min() >= 0.5 and after.share.max() <= 1.0
    ordered = after.share.sort().values.double()
    gap = (ordered - torch.linspace(0.5, 1, 400, dtype=torch.float64)).abs().max()
    assert float(gap) * 2 < 1.95 / math.sqrt(400), "uniform on [1/2, 1]"


@pytest.mark.parametrize("shape", [(3, 7, 9), (1, 4, 4), (1, 28, 28), (1, 2, 2), (2, 3, 12)])
def test_cutmix_pastes_a_square_of_the_next_row_and_weighs_labels_by_area(shape: tuple[int, ...]) -> None:
    given = pictures(400, shape)
    after = Cutmix().apply(given)
    assert after.share is not None and after.partner is not None
    nxt = torch.cat([given.x[1:], given.x[:1]])
    own, pasted = (after.x == given.x).all(dim=1), (after.x == nxt).all(dim=1)
    assert torch.all(own ^ pasted)
    assert torch.allclose(after.share, own.float().mean(dim=(1, 2)))
    assert after.share.min() >= 0.5, "the attack steers by the label of the larger part"
    assert torch.equal(after.partner, torch.cat([given.y[1:], given.y[:1]]))
    for mask in pasted:
        down, right = mask.any(dim=1).sum(), mask.any(dim=0).sum()
        assert int(down * right) == int(mask.sum())
    if shape == (1, 28, 28):
        areas = pasted.float().mean(dim=(1, 2))
        assert 0.12 < float(areas.mean()) < 0.25, "a quarter on average, less what lies beyond the border"
        assert float(areas.max()) > 0.45


def test_a_part_of_a_mixed_batch_keeps_its_labels_and_shares() -> None:
    after = Mixup().apply(pictures(10))
    assert after.share is not None and after.partner is not None
    part = after.rows(4, 7)
    assert part.share is not None and part.partner is not None
    assert torch.equal(part.share, after.share[4:7]) and torch.equal(part.partner, after.partner[4:7])


def test_arguments_are_checked() -> None:
    for wrong in (lambda: Shift(0), lambda: Shift(1.5), lambda: Cutout(0), lambda: Cutout(-1)):
        with pytest.raises(ConfigError):
            wrong()
