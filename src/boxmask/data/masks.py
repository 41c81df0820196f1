"""Turns what a data set says of an object's mask into pixels, and pixels into COCO RLE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as pycocotools_mask

from boxmask.data.pictures import open_picture
from boxmask.errors import UserError

MAX_DIGITS = 8
"""Characters of one packed RLE count; more are a mistake."""

coco_mask: Any = pycocotools_mask  # its type stubs do not know plain dicts


def decode_segmentation(segmentation: Any, image_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Draws the mask of one object.

    Args:
        segmentation: polygons (one flat list, or a list of them) in pixels, a COCO RLE with
            `counts` as a list, str or bytes, or `{"png": path, "index": k}`: the pixels of value
            k in an index picture (Pascal VOC).
        image_size: (height, width) of the picture.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: If there is no segmentation (None, 0 or empty); see `has_mask`.
        UserError: If it cannot be understood or is of another size.
    """
    if not has_mask(segmentation):
        raise ValueError(f"segmentation: expected polygons, RLE or png, got {segmentation!r}")
    if isinstance(segmentation, Mapping) and "png" in segmentation:
        return _from_index_picture(segmentation, image_size)
    if isinstance(segmentation, Mapping):
        return _from_rle(segmentation, image_size)
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes):
        return _from_polygons(segmentation, image_size)
    raise _unusable(f"got {type(segmentation).__name__}, expected polygons or RLE")


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Packs a mask without loss.

    Args:
        mask: (H, W) bool.

    Returns:
        Compressed COCO RLE, ready for JSON: `{"size": [H, W], "counts": str}`.
    """
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def has_mask(segmentation: Any) -> bool:
    """Whether a data set's `segmentation` says anything: not None, 0, empty or empty lists."""
    if isinstance(segmentation, Mapping):
        return bool(segmentation)
    if isinstance(segmentation, Sequence) and not isinstance(segmentation, str | bytes):
        return any(not isinstance(part, Sequence) or len(part) > 0 for part in segmentation)
    return bool(segmentation)


def mask_area(rle: Mapping[str, Any]) -> int:
    """Number of pixels in an RLE, without decoding it."""
    return int(_rle_counts(rle)[1::2].sum())


def mask_box(rle: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 around the pixels of a compressed RLE; four zeros when it is empty."""
    _rle_counts(rle)  # broken counts would crash the next line
    x, y, width, height = (float(value) for value in coco_mask.toBbox(dict(rle)))
    return x, y, x + width, y + height


def _from_rle(rle: Mapping[str, Any], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = image_size
    size = rle.get("size")
    if not isinstance(size, Sequence) or [*size] != [height, width]:
        raise _unusable(f"RLE is of size {size}, the picture of {[height, width]}")
    counts = _rle_counts(rle)
    values = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)  # (H, W)


def _rle_counts(rle: Mapping[str, Any]) -> NDArray[np.int64]:
    """Lengths of an RLE's runs, first of zeros, then of ones, and so on.

    pycocotools writes past its memory when counts do not fit the size, so they are checked here.
    """
    height, width = rle["size"]
    counts = rle.get("counts")
    if isinstance(counts, str):
        counts = counts.encode("utf-8", errors="replace")
    if isinstance(counts, bytes):
        lengths = _unpack_counts(counts)
    elif isinstance(counts, Sequence) and all(_is_length(count) for count in counts):
        lengths = np.array(counts, dtype=np.int64)
    else:
        raise _unusable("RLE counts are no list of whole numbers")
    if (lengths < 0).any() or (lengths > height * width).any():
        raise _unusable("RLE counts are broken")
    if lengths.sum() != height * width:
        raise _unusable(
            f"RLE counts sum to {lengths.sum()}, the picture has {height * width} pixels"
        )
    return lengths


def _unpack_counts(packed: bytes) -> NDArray[np.int64]:
    """Undoes COCO's packing: 5 bits a character, low first, bit 6 says that more follow."""
    digits = np.frombuffer(packed, dtype=np.uint8).astype(np.int64) - 48  # (D,)
    if not len(digits) or (digits < 0).any() or (digits > 63).any() or digits[-1] & 32:
        raise _unusable("RLE counts are broken")
    ends = np.flatnonzero((digits & 32) == 0)  # (R,) last digit of each number
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(digits)) - np.repeat(starts, ends - starts + 1)
    if place.max() > MAX_DIGITS - 1:
        raise _unusable("RLE counts are broken")
    values = np.add.reduceat((digits & 31) << (5 * place), starts)
    negative = (digits[ends] & 16) != 0
    values -= np.where(negative, 1 << (5 * (place[ends] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])  # each is stored as the change since the last but one,
    values[2::2] = np.cumsum(values[2::2])  # but for the first three
    return values


def _is_length(count: Any) -> bool:
    return isinstance(count, int) and 0 <= count < 1 << 40


def _from_polygons(polygons: Sequence[Any], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = image_size
    if all(isinstance(value, Real) for value in polygons):
        polygons = [polygons]
    flat = [_check_polygon(polygon) for polygon in polygons]
    # pycocotools takes four numbers for a box: only three points or more make a polygon.
    flat = [polygon for polygon in flat if len(polygon) >= 6]
    if not flat:
        raise _unusable("no polygon has three points")
    parts = coco_mask.frPyObjects(flat, height, width)
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)  # (H, W)


def _check_polygon(polygon: Any) -> list[float]:
    values = np.asarray(polygon, dtype=object).reshape(-1).tolist()
    if not all(isinstance(value, Real) and np.isfinite(float(value)) for value in values):
        raise _unusable("polygon holds something that is no number")
    if len(values) % 2:
        raise _unusable(f"polygon has an odd number of values, {len(values)}")
    return [float(value) for value in values]


def _from_index_picture(
    reference: Mapping[str, Any], image_size: tuple[int, int]
) -> NDArray[np.bool_]:
    path = Path(reference["png"])
    try:
        values = _index_picture(path, path.stat().st_mtime_ns)  # (H, W)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unusable(f"{path} cannot be read ({error})") from error
    if values.shape != tuple(image_size):
        raise _unusable(f"{path} is of size {values.shape}, the picture of {tuple(image_size)}")
    return values == reference["index"]


@lru_cache(maxsize=4)
def _index_picture(path: Path, modified: int) -> NDArray[Any]:
    """Pixel values, not colours; the objects of one picture are asked for one after another."""
    with open_picture(path) as image:
        return np.array(image)


def _unusable(why: str) -> UserError:
    return UserError(
        f"segmentation cannot be used: {why}",
        fix="Correct it, or remove the key: boxes alone are enough.",
    )
