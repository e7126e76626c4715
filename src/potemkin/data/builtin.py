"""The data that ship with potemkin, registered by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import numpy as np

from potemkin.core.checks import choice
from potemkin.core.notation import Noted
from potemkin.core.registry import register
from potemkin.data.arrays import ArraySource

_PARTS = {"test": (1297, 1797), "train": (0, 1297), "all": (0, 1797)}


@register("data")
@dataclass(frozen=True, repr=False)
class digits(Noted):
    """Handwritten digits, 8x8 grey, 10 classes: 500 to test (part='test'), 1297 to train, 1797 in all.

    Each input is float32 (1, 8, 8) in [0, 1]: the stored ink count 0..16 divided by 16, so every value is exact. The
    ids are the row positions in the full set, so an example has one id in every part.

    >>> len(digits(part="train").open())
    1297

    Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI, CC BY 4.0; the 1,797 rows of the
    original's test part, the same as sklearn.datasets.load_digits().
    Differs: divided into 1,297 and 500 rows by position, as the original has no such parts.
    """

    part: str = "test"

    def __post_init__(self) -> None:
        choice("part of digits", self.part, tuple(_PARTS))

    def open(self) -> ArraySource:
        """The examples of this part."""
        first, last = _PARTS[self.part]
        with resources.files("potemkin.data").joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
            images, labels = stored["images"][first:last], stored["labels"][first:last]
        return ArraySource(
            images,
            labels,
            name=repr(self).removesuffix("()"),
            ids=range(first, last),
            class_names=[str(k) for k in range(10)],
            divisor=16.0,
        )
