"""Pictures as 8-bit pixels, through Pillow: few formats, guarded against decompression bombs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from potemkin.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF")
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif"}
MAX_PIXELS = 1 << 26  # 67 million: no camera's picture, but 200 MB once decoded

_GREY_MODES = {"1", "L", "LA"}
_COLOUR_MODES = {"RGB", "RGBA", "P", "PA", "CMYK", "YCbCr"}


@dataclass(frozen=True)
class Picture:
    """What a header says: (width, height), and whether the pixels are grey."""

    size: tuple[int, int]
    grey: bool


def measure(path: Path | IO[bytes], file: str) -> Picture:
    """Read the header only; `file` is the name used in errors."""
    with _opened(path, file) as image:
        return Picture(image.size, image.mode in _GREY_MODES)


def decode(path: Path | IO[bytes], file: str, *, grey: bool, size: int | None = None) -> NDArray[np.uint8]:
    """The (1 or 3, H, W) uint8 pixels; with `size`, the short side resized to it (bilinear) and the centre cropped.

    Grey pictures become RGB by repetition; palettes and CMYK are converted by Pillow; EXIF rotation is not applied,
    as in the field's training pipelines. A transparent picture is refused, an opaque alpha channel dropped.
    """
    with _opened(path, file) as image:
        if grey and image.mode not in _GREY_MODES:
            raise DataError(
                f"{file} is a colour picture ({image.mode}), but those looked at first are grey: convert all to one."
            )
        if _is_transparent(image):
            raise DataError(f"{file} has transparent pixels: lay the picture on a background first.")
        plain = image.convert("L" if grey else "RGB")
        if size is not None:
            plain = _fit(plain, size, file)
        pixels = np.asarray(plain, dtype=np.uint8)
    return pixels[None] if grey else np.moveaxis(pixels, -1, 0)


def other_size(
    where: str, found: tuple[int, int], expected: tuple[int, int], *, of: str = "The pictures", first: str = "the first"
) -> DataError:
    """What to say of a picture whose (width, height) is not the first one's."""
    return DataError(
        f"{of} have different sizes: {where} is {found[0]}x{found[1]} (width x height), {first} is "
        f"{expected[0]}x{expected[1]}. Give image_size=S to resize the short side to S and crop the centre."
    )


@contextmanager
def _opened(path: Path | IO[bytes], file: str) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                _check_header(image, file)
                yield image
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{file} is too large a picture: {error} Shrink it.") from error
    except Exception as error:  # a damaged file makes Pillow raise almost anything
        raise DataError(
            f"{file} cannot be read as a picture ({type(error).__name__}: {error}). It is damaged, truncated, or no "
            f"{', '.join(FORMATS)}: replace it or move it away."
        ) from error


def _check_header(image: Image.Image, file: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{file} has {width}x{height} pixels, at most {MAX_PIXELS} are allowed: shrink it.")
    if image.mode not in _GREY_MODES | _COLOUR_MODES:
        raise DataError(
            f"{file} has pixels of mode {image.mode}, expected 8 bits (grey or RGB): 16-bit pictures do not say which "
            "value is white. Convert it."
        )


def _is_transparent(image: Image.Image) -> bool:
    if image.mode in {"RGBA", "LA", "PA"}:
        low, _ = image.getchannel("A").getextrema()
        return float(low) < 255  # type: ignore[arg-type]
    if "transparency" not in image.info:
        return False
    low, _ = image.convert("RGBA").getchannel("A").getextrema()
    return float(low) < 255  # type: ignore[arg-type]


def _fit(image: Image.Image, size: int, file: str) -> Image.Image:
    width, height = image.size
    if width <= height:
        wide, high = size, int(size * height / width)
    else:
        wide, high = int(size * width / height), size
    if wide * high > MAX_PIXELS:
        raise DataError(f"{file} is {width}x{height}; with image_size={size} it would be {wide}x{high}: too large.")
    if (wide, high) != (width, height):
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return image.crop((left, top, left + size, top + size))
