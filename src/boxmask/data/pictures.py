"""Reads picture files of any common kind into 8-bit RGB, turned as every viewer shows them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from boxmask.data.picture_ends import ends_early
from boxmask.errors import UserError

PICTURE_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "png", "bmp", "tif", "tiff", "webp"),
        *("gif", "ppm", "pgm", "pbm", "jp2", "avif", "mpo"),
    )
)
"""Lower-case endings of files that count as pictures when a folder is searched."""

HEADER_THREADS = 8
"""Files whose headers are read at the same time."""

MAX_PIXELS = 1_000_000_000
"""Pixels of the largest picture that is read, 3 GB as RGB. Pillow alone stops at 179 million, which
satellite pictures pass."""

RANGE_PERCENTILES = (0.1, 99.9)
"""Share of pixels, in percent, that 16-bit and float pictures map to 0 and to 255."""

_PILLOW_LIMIT = Lock()
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


def open_picture(file: Path | BinaryIO) -> Image.Image:
    """Opens a picture, or another picture file of its size, of up to `MAX_PIXELS`.

    A limit of Pillow that the user has set higher stays as it is.
    """
    try:
        return Image.open(file)
    except Image.DecompressionBombError:
        with _PILLOW_LIMIT:  # it belongs to the whole process
            given = Image.MAX_IMAGE_PIXELS
            Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice as many
            try:
                return Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = given


def read_picture(path: Path | str) -> NDArray[np.uint8]:
    """Reads a picture file.

    - The EXIF rotation is applied, so the size is the one that viewers show.
    - Grey, palette, bilevel and CMYK pictures become RGB.
    - See-through pixels are laid over white, as most viewers and labelling pages show them.
    - Deep grey pictures (16 or 32 bits, float) are stretched from their own range, between
      the 0.1 and 99.9 percentiles, to 0..255: microscopes often use a small part of the range,
      and a division by 257 would leave them black. A picture of one value is divided by 257.
      Colour pictures of 16 bits a channel are cut to their upper 8 bits by the decoder.
    - Of several frames the first is taken.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        UserError: If the file is missing, cut short, no picture, or has over `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_picture(path) as image:
                return image_pixels(image)
    except Exception as error:  # a broken file can raise nearly anything from its decoder
        raise _unreadable(path, error) from error


def image_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of an opened picture, turned and converted as `read_picture` does."""
    orientation = _orientation(image)
    image.load()
    turned = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
    return _to_rgb(turned)


def picture_size(path: Path | str) -> tuple[int, int]:
    """Reads (height, width) of a picture, as shown, from its file's first and last bytes.

    Only a file that does not end as its kind should is decoded, to tell one that was cut short
    from a whole one with something behind the picture.

    Raises:
        UserError: If the file is missing, cut short, or no picture.
    """
    (height, width), orientation = _header(Path(path), whole=True)
    return (width, height) if orientation in _SIDEWAYS else (height, width)


def is_turned(path: Path | str) -> bool:
    """Whether the file's EXIF entry turns the picture by a quarter, which swaps its sides.

    Raises:
        UserError: If the file is missing or no picture.
    """
    return _header(Path(path))[1] in _SIDEWAYS


def picture_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | UserError]:
    """`picture_size` of many files, several at a time; an unreadable one gives its error."""

    def size_or_error(path: Path) -> tuple[int, int] | UserError:
        try:
            return picture_size(path)
        except UserError as error:
            return error

    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        return list(pool.map(size_or_error, paths))


def is_picture(path: Path) -> bool:
    """Whether the file's ending is one of a picture, and it is no hidden file."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def _header(path: Path, *, whole: bool = False) -> tuple[tuple[int, int], int]:
    """The stored (height, width) and the EXIF orientation; `whole` fails for a cut file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with path.open("rb") as stream, open_picture(stream) as image:
                header = (image.height, image.width), _orientation(image)
                if whole and ends_early(image, stream):
                    image.load()  # raises where pixels are missing
                return header
    except Exception as error:  # a broken file can raise nearly anything from its decoder
        raise _unreadable(path, error) from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8, that is still to be applied to the opened file."""
    # Pillow turns TIFF by itself. For PNG it would decode the pixels to look for a late entry.
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block is no reason to refuse the pixels
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The opened picture as (H, W, 3) uint8."""
    if image.mode in _DEEP_MODES:
        grey = _stretch(np.asarray(image))  # (H, W)
        return np.repeat(grey[:, :, None], 3, axis=2)  # (H, W, 3)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        colored = image.convert("RGBA")
        white = Image.new("RGBA", colored.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, colored)
    return np.array(image.convert("RGB"), dtype=np.uint8)  # (H, W, 3)


def _stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Deep grey values as 8 bits, by the picture's own range."""
    values = np.nan_to_num(values.astype(np.float32))
    low, high = np.percentile(values, RANGE_PERCENTILES)
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.clip(values / 257, 0, 255).astype(np.uint8)
    return np.clip((values - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)


def _unreadable(path: Path, error: Exception) -> UserError:
    if not path.is_file():
        return UserError("picture file is missing", where=str(path))
    if isinstance(error, Image.DecompressionBombError):
        return UserError(
            f"picture has more than {MAX_PIXELS / 1e6:,.0f} million pixels",
            where=str(path),
            fix="Cut it into tiles.",
        )
    return UserError(
        f"picture cannot be read ({type(error).__name__}: {error})",
        where=str(path),
        fix="Replace the file, or leave it out of the data set.",
    )
