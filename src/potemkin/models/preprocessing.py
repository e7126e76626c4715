"""What happens to an input inside the model, before the network: resize, crop, normalise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from potemkin.errors import ConfigError, ModelError

Size = int | tuple[int, int]


class Preprocessing(nn.Module):
    """Resize, centre-crop and normalise, as part of the model, so that gradients and distances are the input's.

        x -> (crop(resize(x)) - mean) / std

    Args:
        mean, std: one number, or one per channel (dimension 1), in the unit of the inputs (images in [0, 1]: 0.485,
            not 123.7). Given alone, the other is 0 or 1.
        resize: the shorter side as an int (the aspect ratio is kept), or (height, width); bilinear, antialiased.
        crop: the centre, an int for a square or (height, width).

    Raises: ConfigError at construction for a std that is not positive, a size below 1, or lists that differ in
        length; ModelError in forward for inputs with other channels, or smaller than the crop.

    >>> Preprocessing(mean=0.5, std=0.25)(torch.ones(1, 3, 2, 2)).unique()
    tensor([2.])
    """

    def __init__(
        self,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        resize: int | Sequence[int] | None = None,
        crop: int | Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.mean = _numbers("mean", mean)
        self.std = _numbers("std", std)
        self.resize = _size("resize", resize)
        self.crop = _size("crop", crop)
        if self.std is not None and min(self.std) <= 0:
            raise ConfigError(
                f"std={_shown(self.std)}: every value must be greater than 0 (the input is divided by it)."
            )
        if self.mean and self.std and len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise ConfigError(
                f"mean has {len(self.mean)} values, std has {len(self.std)}: give both one per channel, or one number."
            )
        self._constants: dict[tuple[torch.dtype, torch.device, int], tuple[Tensor, Tensor]] = {}
        self.eval()  # it has no other mode, and must not be taken for a model that was left in train mode

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same, resized, cropped and normalised; differentiable."""
        if self.resize is not None or self.crop is not None:
            if x.dim() != 4:
                raise ModelError(
                    f"resize and crop need images (B, C, height, width); the inputs have {tuple(x.shape)}."
                )
            x = self._cropped(self._resized(x))
        if self.mean is None and self.std is None:
            return x
        mean, std = self._placed(x)
        return (x - mean) / std

    def extra_repr(self) -> str:
        given = {"mean": self.mean, "std": self.std, "resize": self.resize, "crop": self.crop}
        return ", ".join(f"{name}={_shown(value)}" for name, value in given.items() if value is not None)

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize is None:
            return x
        height, width = x.shape[2:]
        if isinstance(self.resize, tuple):
            size = self.resize
        elif height <= width:
            size = (self.resize, max(1, int(self.resize * width / height)))
        else:
            size = (max(1, int(self.resize * height / width)), self.resize)
        if size == (height, width):
            return x
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False, antialias=True)

    def _cropped(self, x: Tensor) -> Tensor:
        if self.crop is None:
            return x
        height, width = (self.crop, self.crop) if isinstance(self.crop, int) else self.crop
        if height > x.shape[2] or width > x.shape[3]:
            raise ModelError(
                f"crop={_shown(self.crop)} is larger than the image, {x.shape[2]} x {x.shape[3]}"
                f"{' after resize' if self.resize is not None else ''}: crop less, or resize to more."
            )
        top, left = round((x.shape[2] - height) / 2), round((x.shape[3] - width) / 2)
        return x[:, :, top : top + height, left : left + width]

    def _placed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and std in the dtype, on the device and in the rank of `x`, kept: making them copies to the device."""
        key = (x.dtype, x.device, x.dim())
        if x.dim() < 2:
            raise ModelError(
                f"mean and std need inputs (B, C, ...) with rows and channels; these have {tuple(x.shape)}."
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, x.shape[1]):
                raise ModelError(
                    f"{name}={_shown(values)} has {len(values)} values, the inputs have {x.shape[1]} channels "
                    f"(shape {tuple(x.shape)}, channels first): give {x.shape[1]} values, or one for all."
                )
        if key not in self._constants:
            shape = (1, -1) + (1,) * (x.dim() - 2)
            mean, std = (
                torch.tensor(values, dtype=x.dtype, device=x.device).reshape(shape)
                for values in (self.mean or (0.0,), self.std or (1.0,))
            )
            self._constants[key] = (mean, std)
        return self._constants[key]


def _numbers(name: str, value: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        values = tuple(float(item) for item in value) if isinstance(value, Sequence) else (float(value),)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"{name}={value!r}: give one number, or one per channel such as (0.485, 0.456, 0.406)."
        ) from error
    if not values or not all(math.isfinite(item) for item in values):
        raise ConfigError(f"{name}={value!r}: at least one number is needed, all of them finite.")
    return values


def _size(name: str, value: int | Sequence[int] | None) -> Size | None:
    if value is None:
        return None
    sizes = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(sizes) not in (1, 2) or not all(type(size) is int and size >= 1 for size in sizes):
        raise ConfigError(f"{name}={value!r}: give a number of pixels, or (height, width), each at least 1.")
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])


def _shown(value: object) -> str:
    return str(value[0]) if isinstance(value, tuple) and len(value) == 1 else str(value)
