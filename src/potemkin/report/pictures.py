"""The gallery: clean, change (magnified about mid-grey) and attempt as PNG, or the largest changes as bars."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

# All pictures of a report together stay below this many characters; large ones are shrunk until they do.
BUDGET = 1_200_000
SIDES = (128, 96, 64, 48, 32)


@dataclass(frozen=True)
class Triptych:
    """Three pictures as data URIs; `factor` magnifies the change, `None` where there is none."""

    clean: str
    change: str
    attempt: str
    factor: int | float | None
    width: int
    height: int
    pixelated: bool
    shrunk_from: str | None


@dataclass(frozen=True)
class Change:
    """One feature that moved: the bar runs from the middle, `x` and `width` in per cent."""

    index: str
    clean: float
    attempt: float
    up: bool
    x: float
    width: float


@dataclass(frozen=True)
class Changes:
    """The largest changes of a feature vector."""

    largest: list[Change]
    moved: int
    total: int


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an input of this shape is shown as a picture: one or three channels, height and width above one."""
    return len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1


def triptychs(
    pairs: list[tuple[Floats, Floats]], box: tuple[float | None, float | None], budget: int = BUDGET
) -> list[Triptych]:
    """The pictures of all pairs (clean, attempt), at the largest size that keeps the report small."""
    for side in SIDES:
        drawn = [_triptych(clean, attempt, box, side) for clean, attempt in pairs]
        if sum(len(item.clean) + len(item.change) + len(item.attempt) for item in drawn) <= budget:
            break
    return drawn if pairs else []


def _triptych(clean: Floats, attempt: Floats, box: tuple[float | None, float | None], side: int) -> Triptych:
    clean, attempt = np.nan_to_num(clean.astype(np.float64)), np.nan_to_num(attempt.astype(np.float64))
    low = float(clean.min()) if box[0] is None else box[0]
    high = float(clean.max()) if box[1] is None else box[1]
    span = (high - low) or 1.0
    moved = (attempt - clean) / span
    factor = magnification(float(np.abs(moved).max(initial=0.0)))
    height, width = clean.shape[1:]
    return Triptych(
        clean=_png((clean - low) / span, side),
        change=_png(0.5 + moved * (factor or 1), side, Image.Resampling.NEAREST),
        attempt=_png((attempt - low) / span, side),
        factor=factor,
        width=width,
        height=height,
        pixelated=max(width, height) <= 64,
        shrunk_from=f"{width} × {height}" if max(width, height) > side else None,
    )


def magnification(largest: float) -> int | float | None:
    """The largest of 1, 2, 5, 10, 20, … that keeps a change of `largest` (a share of the box) within mid-grey ± 0.5.

    >>> magnification(8 / 255), magnification(0.5), magnification(0.0)
    (10, 1, None)
    """
    if largest <= 0.0:
        return None
    room = 0.5 / largest
    power = 10.0 ** math.floor(math.log10(room))
    best = max(step * power for step in (1, 2, 5) if step * power <= room * (1 + 1e-6))
    return round(best) if best >= 1 else best


def _png(values: NDArray[np.floating[Any]], side: int, how: Image.Resampling = Image.Resampling.LANCZOS) -> str:
    """A picture of values in [0, 1], channels first, as a data URI.

    The change is shrunk by picking pixels: averaging would wash a sign pattern out to plain grey.
    """
    grey_levels = np.rint(np.clip(values, 0.0, 1.0) * 255).astype(np.uint8)
    picture = Image.fromarray(grey_levels[0] if len(grey_levels) == 1 else np.moveaxis(grey_levels, 0, -1))
    longest = max(picture.size)
    if longest > side:
        size = (max(1, picture.width * side // longest), max(1, picture.height * side // longest))
        picture = picture.resize(size, how)
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def changes(clean: Floats, attempt: Floats, most: int = 8) -> Changes:
    """The largest changes of an input that is no picture, largest first."""
    moved = attempt.astype(np.float64) - clean.astype(np.float64)
    moved = np.where(np.isfinite(moved), moved, 0.0)
    order = np.argsort(-np.abs(moved), axis=None, kind="stable")[:most]
    peak = float(np.abs(moved).max(initial=0.0))
    largest = [
        _change(index, float(clean[where]), float(attempt[where]), float(moved[where]) / peak)
        for where, index in _indices(order, moved.shape)
        if moved[where] != 0.0
    ]
    return Changes(largest, int(np.count_nonzero(moved)), moved.size)


def _indices(order: NDArray[np.intp], shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    for flat in order:
        where = tuple(int(axis) for axis in np.unravel_index(flat, shape))
        yield where, ", ".join(map(str, where))


def _change(index: str, clean: float, attempt: float, share: float) -> Change:
    x = 50.0 if share > 0 else 50.0 + 50.0 * share
    return Change(index, clean, attempt, share > 0, round(x, 3), round(abs(share) * 50.0, 3))
