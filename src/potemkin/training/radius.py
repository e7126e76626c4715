"""How far the training adversary may go, row by row: one eps for all, or one that depends on the row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from potemkin.core import quantiles
from potemkin.core.checks import number
from potemkin.core.files import sha256
from potemkin.core.notation import Noted
from potemkin.core.random import RowStreams
from potemkin.core.registry import register
from potemkin.errors import ConfigError, DataError

RADIUS = 321
"""Purpose tag of the draws made here."""


class Radius(Protocol):
    """Gives each row its eps; `largest` is what robustness is evaluated at."""

    @property
    def largest(self) -> float: ...

    def draw(self, labels: Tensor, positions: Tensor, streams: RowStreams) -> Tensor:
        """(B,) labels, (B,) places in the training data, the rows' streams -> (B,) float32 eps, in input units."""


def is_radius(eps: Any) -> TypeGuard[Radius]:
    """Whether eps is drawn row by row; asks the class, for a file need not be there yet."""
    return callable(getattr(type(eps), "draw", None))


@register("part")
@dataclass(frozen=True, repr=False)
class HalfNormal(Noted):
    """|N(0, sigma^2)| given that it is at most `high`: most rows get a small eps, some a large one.

    Args:
        high, sigma: input units, above 0.

    Source: Kurakin et al. 2017, section 3 (N(0, 8) truncated to [0, 16] grey levels; recalled).
    Differs: drawn by inversion, so that a row's eps is a function of (seed, example, epoch).

    >>> HalfNormal(high=16 / 255, sigma=8 / 255).largest == 16 / 255
    True
    """

    high: float
    sigma: float

    def __post_init__(self) -> None:
        number("high of HalfNormal", self.high, low=0.0, open_low=True)
        number("sigma of HalfNormal", self.sigma, low=0.0, open_low=True)

    @property
    def largest(self) -> float:
        return self.high

    def draw(self, labels: Tensor, positions: Tensor, streams: RowStreams) -> Tensor:
        u = streams.uniform(0, (), RADIUS, torch.float64)
        inside = quantiles.normal_central(u.mul_(quantiles.central_mass(self.high / self.sigma)))
        return inside.mul_(self.sigma).clamp_(max=self.high).float()


@register("part")
@dataclass(frozen=True, repr=False)
class UniformEps(Noted):
    """eps ~ U(low, high), row by row.

    Args:
        low, high: input units, 0 <= low < high.

    Source: none; the plainest draw.  Differs: none.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        number("low of UniformEps", self.low, low=0.0)
        number("high of UniformEps", self.high, low=self.low, open_low=True)

    @property
    def largest(self) -> float:
        return self.high

    def draw(self, labels: Tensor, positions: Tensor, streams: RowStreams) -> Tensor:
        return self.low + (self.high - self.low) * streams.uniform(0, (), RADIUS)


@register("part")
@dataclass(frozen=True, repr=False)
class PerClass(Noted):
    """One eps per class, in the order of the labels.

    Args:
        eps: as many numbers as there are classes, input units, at least 0.

    Source: none.  Differs: none.

    >>> PerClass((0.1, 0.3)).draw(torch.tensor([1, 0]), None, None)
    tensor([0.3000, 0.1000])
    """

    eps: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.eps, tuple | list) or not self.eps:
            raise ConfigError(f"PerClass takes one eps per class, such as PerClass((0.1, 0.2)); found {self.eps!r}.")
        for value in self.eps:
            number("eps of PerClass", value, low=0.0)
        object.__setattr__(self, "eps", tuple(self.eps))

    @property
    def largest(self) -> float:
        return max(self.eps)

    def draw(self, labels: Tensor, positions: Tensor, streams: RowStreams) -> Tensor:
        return torch.tensor(self.eps, device=labels.device)[labels]


@register("part")
@dataclass(frozen=True, repr=False)
class PerExample(Noted):
    """One eps per training example, read from a .npy file in the order of the training data.

    Args:
        file: path of a one-dimensional array of finite numbers, at least 0, in input units.

    Source: none.  Differs: none.
    """

    file: str

    @property
    def largest(self) -> float:
        return float(self._read().max())

    def draw(self, labels: Tensor, positions: Tensor, streams: RowStreams) -> Tensor:
        return torch.from_numpy(self._read()).to(labels.device)[positions.to(labels.device)]

    @property
    def fingerprint(self) -> str:
        """Of the radii."""
        return sha256(self._read().tobytes())

    def _read(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        if "_radii" not in vars(self):
            object.__setattr__(self, "_radii", _radii_in(Path(self.file)))
        return vars(self)["_radii"]  # type: ignore[no-any-return]

    def check(self, examples: int) -> None:
        """Refuse a file that has not one eps per example; it is read anew, so that a run has what stands there now."""
        vars(self).pop("_radii", None)
        if len(self._read()) != examples:
            raise DataError(
                f"{self.file} has {len(self._read())} radii, the training data {examples} examples: save one per "
                "example, in their order, np.save(path, eps)."
            )


def _radii_in(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"The radii in {path} cannot be read: {error}. Save them with np.save(path, eps).") from error
    if values.ndim != 1 or values.dtype.kind not in "fiu" or not values.size:
        raise DataError(f"{path} holds {values.dtype} of shape {values.shape}; one number per example is needed.")
    if not np.isfinite(values).all() or (values < 0).any():
        raise DataError(f"{path} holds radii that are negative or no numbers; each must be at least 0.")
    radii: np.ndarray[tuple[int], np.dtype[np.float32]] = values.astype(np.float32)
    return radii
