"""How stored inputs become float32 inputs of a model: decided once from type and shape, applied batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potemkin.errors import DataError

_CHANNELS = (1, 3)


@dataclass(frozen=True)
class Layout:
    """What is done to each batch: divide (images), add or move the channel dimension, turn into float32."""

    input_shape: tuple[int, ...]
    divisor: float | None = None  # None: values are taken as they are
    move: str = "none"  # "none" | "add" a channel dimension | "last" to first

    def serve(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """A float32 array (B, *input_shape) of its own, never a view of what is stored."""
        if self.move == "add":
            rows = rows[:, None]
        elif self.move == "last":
            rows = np.moveaxis(rows, -1, 1)
        with np.errstate(over="ignore", invalid="ignore"):  # float64 beyond float32 becomes inf, which the checks name
            served = np.array(rows, dtype=np.float32, order="C")
        if self.divisor is not None:
            served /= np.float32(self.divisor)
        return served


def find_layout(
    inputs: NDArray[Any],
    name: str,
    *,
    divisor: float = 255.0,
    wanted: tuple[int, ...] | None = None,
    whole: bool = True,
) -> Layout:
    """The layout for inputs (N, ...); `wanted` is the shape that the model is known to expect, if any.

    `whole`: these are all inputs, not the first few, so that a set of 0 and 1 can be told from a dark picture.
    """
    shape, kind = inputs.shape, inputs.dtype.kind
    if kind not in "buif":
        raise DataError(f"The inputs of {name} are {inputs.dtype}, expected numbers (uint8 images or floats).")
    if inputs.ndim == 0:
        raise DataError(f"The inputs of {name} are a single number, expected one row per example: (N, ...).")
    if len(inputs) == 0:
        raise DataError(f"There are no examples in {name} (inputs of shape {shape}): there is nothing to evaluate.")
    if inputs.ndim == 1:
        raise DataError(
            f"The inputs of {name} have shape {shape}, expected (N, d) feature vectors or (N, C, H, W) images. "
            "If each example is one number, use inputs.reshape(-1, 1)."
        )
    if 0 in shape:
        raise DataError(f"The inputs of {name} have shape {shape}: the examples are empty.")
    if inputs.ndim == 2 or kind == "b":
        return Layout(tuple(shape[1:]))
    if kind == "f":
        return _of_floats(shape, name, wanted, whole)
    return _of_images(inputs, name, divisor, wanted, whole)


def _of_floats(shape: tuple[int, ...], name: str, wanted: tuple[int, ...] | None, whole: bool) -> Layout:
    looks_last = len(shape) == 4 and shape[3] in _CHANNELS and shape[1] not in _CHANNELS
    if looks_last and wanted != tuple(shape[1:]):
        first = (shape[3], shape[1], shape[2])
        # Whoever gives a data set sees its items one by one, without the count in front.
        found, expected = (f"{shape}", (shape[0], *first)) if whole else (f"{tuple(shape[1:])} each", first)
        what, order, where = (
            ("inputs", "0, 3, 1, 2", "") if whole else ("image", "2, 0, 1", " where the data set makes it")
        )
        raise DataError(
            f"The float inputs of {name} have shape {found}: the channels come last, expected first, {expected}. "
            f"Use {what}.transpose({order}) (numpy) or {what}.permute({order}) (torch){where}. "
            "(Floats are never rearranged; uint8 images are.)"
        )
    return Layout(tuple(shape[1:]))


def _of_images(inputs: NDArray[Any], name: str, divisor: float, wanted: tuple[int, ...] | None, whole: bool) -> Layout:
    _check_pixels(inputs, name, whole)
    shape = inputs.shape
    if len(shape) == 3:
        return Layout((1, *shape[1:]), divisor, "add")
    if len(shape) != 4:
        raise DataError(
            f"The integer inputs of {name} have shape {shape}; images are (N, H, W), (N, H, W, C) or (N, C, H, W). "
            "Give other shapes as float32, which is taken as it is."
        )
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first and last:
        raise DataError(
            f"The images of {name} have shape {shape}: channels may come first or last. Give float32 (N, C, H, W)."
        )
    if first:
        return Layout(tuple(shape[1:]), divisor)
    if last and wanted == tuple(shape[1:]):
        return Layout(tuple(shape[1:]), divisor)
    if last:
        return Layout((shape[3], shape[1], shape[2]), divisor, "last")
    hint = " Drop the alpha channel: images[..., :3]." if shape[3] == 4 else ""
    raise DataError(
        f"The images of {name} have shape {shape}, but neither dimension 1 nor the last is 1 or 3 channels.{hint} "
        "Give images with other channels as float32 (N, C, H, W)."
    )


def _check_pixels(inputs: NDArray[Any], name: str, whole: bool) -> None:
    low, high = int(inputs.min()), int(inputs.max())
    if inputs.dtype == np.uint16:
        raise DataError(
            f"The images of {name} are uint16 ({low} to {high}): it does not say which value is white. Give float32 "
            "in [0, 1], divided by your camera's maximum (65535, 4095, ...), or uint8."
        )
    if low < 0 or high > 255:
        raise DataError(
            f"The integer images of {name} go from {low} to {high}, expected 0 to 255. Give float32 pixels in [0, 1]; "
            "integers that are no pixels belong in feature vectors (N, d) or in float32."
        )
    if high == 1 and whole:
        raise DataError(
            f"The integer images of {name} hold only 0 and 1, which as 8-bit pixels would be black and nearly black. "
            "Give images.astype('float32') if 1 means white."
        )
