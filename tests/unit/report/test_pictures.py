"""The gallery's pictures say what was measured: values, change, factor, and a size that stays small."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from potemkin.report.pictures import changes, is_picture, magnification, triptychs


def pixels(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_values_and_the_magnified_change_come_out_as_grey_levels() -> None:
    clean = np.full((1, 2, 2), 0.2, np.float32)
    attempt = clean + np.array([[[0.1, -0.1], [0.0, 0.05]]], np.float32)
    [drawn] = triptychs([(clean, attempt)], (0.0, 1.0))
    assert drawn.factor == 5
    assert pixels(drawn.clean).tolist() == [[51, 51], [51, 51]]
    assert pixels(drawn.change).tolist() == [[255, 0], [128, 191]]
    assert pixels(drawn.attempt).tolist() == [[77, 26], [51, 64]]


def test_colour_keeps_its_channels_and_its_place() -> None:
    clean = np.zeros((3, 2, 3), np.float32)
    clean[0, 0, 2] = 1
    [drawn] = triptychs([(clean, clean)], (0.0, 1.0))
    assert pixels(drawn.clean).shape == (2, 3, 3)
    assert pixels(drawn.clean)[0, 2].tolist() == [255, 0, 0]
    assert drawn.factor is None
    assert np.unique(pixels(drawn.change)).tolist() == [128]


def test_the_box_sets_the_scale_and_an_open_box_the_picture_itself() -> None:
    clean = np.array([[[-1.0, 1.0], [0.0, 0.5]]], np.float32)
    [in_box] = triptychs([(clean, clean)], (-1.0, 3.0))
    assert pixels(in_box.clean).tolist() == [[0, 128], [64, 96]]
    [unbounded] = triptychs([(clean, clean)], (None, None))
    assert pixels(unbounded.clean).tolist() == [[0, 255], [128, 191]]


def test_a_flat_picture_without_a_box_and_one_with_nan_can_be_drawn() -> None:
    flat, bad = np.full((1, 4, 4), 7.0, np.float32), np.full((1, 4, 4), np.nan, np.float32)
    assert len(triptychs([(flat, flat), (bad, flat)], (None, None))) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_large_pictures_are_shrunk_to_the_budget(channels: int) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.random((channels, 224, 224), dtype=np.float32) for _ in range(18)]
    drawn = triptychs([(x, np.clip(x + 0.03, 0, 1)) for x in noise], (0.0, 1.0))
    assert sum(len(d.clean) + len(d.change) + len(d.attempt) for d in drawn) <= 1_200_000
    assert drawn[0].shrunk_from == "224 × 224"
    assert max(pixels(drawn[0].clean).shape) >= 48


def test_shrinking_does_not_wash_a_sign_pattern_out() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((1, 512, 512), 0.5, np.float32)
    attempt = clean + np.where(rng.random(clean.shape) < 0.5, -0.03, 0.03).astype(np.float32)
    [drawn] = triptychs([(clean, attempt)], (0.0, 1.0))
    assert set(np.unique(pixels(drawn.change))) <= {51, 52, 203, 204}


def test_a_ribbon_keeps_a_pixel() -> None:
    ribbon = np.zeros((1, 2, 3000), np.float32)
    [drawn] = triptychs([(ribbon, ribbon)], (0.0, 1.0))
    assert min(pixels(drawn.clean).shape) >= 1


@given(st.floats(1e-12, 10))
def test_the_factor_uses_the_room_and_no_more(largest: float) -> None:
    factor = magnification(largest)
    assert factor is not None
    assert 0.5 / 2.5 - 1e-6 <= factor * largest <= 0.5 + 1e-5


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 8, 8), True),
        ((3, 224, 224), True),
        ((2, 8, 8), False),
        ((30,), False),
        ((1, 1, 30), False),
        ((8, 8), False),
    ],
)
def test_what_is_a_picture(shape: tuple[int, ...], expected: bool) -> None:
    assert is_picture(shape) is expected


def test_the_largest_changes_of_features_largest_first() -> None:
    clean = np.zeros(20, np.float32)
    attempt = clean.copy()
    attempt[[3, 7, 11]] = [0.25, -1.0, 0.5]
    found = changes(clean, attempt)
    assert (found.moved, found.total) == (3, 20)
    assert [change.index for change in found.largest] == ["7", "11", "3"]
    assert [(change.x, change.width, change.up) for change in found.largest] == [
        (0, 50, False),
        (50, 25, True),
        (50, 12.5, True),
    ]


def test_changes_of_nothing_of_much_and_of_many_axes() -> None:
    clean = np.zeros((2, 3, 4), np.float32)
    assert changes(clean, clean).largest == []
    assert len(changes(clean, clean + 1).largest) == 8
    moved = clean.copy()
    moved[1, 2, 3] = 1
    assert changes(clean, moved).largest[0].index == "1, 2, 3"
    moved[0, 0, 0] = np.nan
    assert changes(clean, moved).moved == 1
