"""Many pictures on one page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from boxmask.errors import UserError
from boxmask.visualization.fonts import load_font

Picture = NDArray[np.uint8]


def contact_sheet(
    pictures: Sequence[Picture],
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    cell: tuple[int, int] = (320, 400),
    background: tuple[int, int, int] = (250, 250, 250),
) -> Picture:
    """Lays pictures out on a grid, each shrunk or enlarged to fit its cell, with a title below.

    Args:
        pictures: (h, w, 3) uint8 RGB each, of any size.
        titles: one line per picture, Latin, Greek or Cyrillic; cut with an ellipsis where too long.
        columns: pictures in a row; None for about as many columns as rows.
        cell: (height, width) of a picture's place, in pixels.
        background: RGB of the page, each 0..255.

    Returns:
        The page, (H, W, 3) uint8 RGB; a blank cell if there are no pictures.

    Raises:
        ValueError: If the numbers of titles and pictures differ, or `columns` is below 1.
    """
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"titles: got {len(titles)} for {len(pictures)} pictures")
    columns = _num_columns(max(1, len(pictures)), columns)
    gap, font_size = max(4, cell[1] // 40), max(11, cell[1] // 34)
    title_height = 0 if titles is None else round(1.6 * font_size)
    step_x, step_y = cell[1] + gap, cell[0] + title_height + gap
    rows = math.ceil(max(1, len(pictures)) / columns)
    page = Image.new("RGB", (columns * step_x + gap, rows * step_y + gap), background)
    for index, picture in enumerate(pictures):
        left, top = gap + index % columns * step_x, gap + index // columns * step_y
        small = _fit(picture, cell)
        offset = ((cell[1] - small.width) // 2, (cell[0] - small.height) // 2)
        page.paste(small, (left + offset[0], top + offset[1]))
        if titles is not None:
            middle = (left + cell[1] // 2, top + cell[0] + title_height // 2)
            _write(page, titles[index], middle, (cell[1], font_size))
    return np.array(page)


def save_picture(path: Path, picture: Picture) -> Path:
    """Writes a picture in the format that its name ends in, making the folder if need be.

    Args:
        path: ends in `.png`, `.jpg` or any other ending that Pillow writes.
        picture: (H, W, 3) uint8 RGB.

    Returns:
        `path`.

    Raises:
        UserError: If the ending is unknown or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, quality=92)
    except (OSError, ValueError) as error:
        raise UserError(
            f"picture cannot be written: {error}",
            where=str(path),
            fix="Choose a folder you may write to, and a name that ends in .png or .jpg.",
        ) from error
    return path


def _num_columns(count: int, columns: int | None) -> int:
    if columns is not None and columns < 1:
        raise ValueError(f"columns: must be at least 1, got {columns}")
    return min(columns or math.ceil(math.sqrt(count)), count)


def _fit(picture: Picture, cell: tuple[int, int]) -> Image.Image:
    """The picture at the largest size that fits the cell."""
    image = Image.fromarray(picture)
    scale = min(cell[0] / image.height, cell[1] / image.width)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _write(page: Image.Image, title: str, middle: tuple[int, int], limits: tuple[int, int]) -> None:
    """Writes a centred line no wider than limits[0], with letters limits[1] pixels high."""
    draw, font = ImageDraw.Draw(page), load_font(limits[1])
    text = " ".join(title.split())
    while text and draw.textlength(text, font=font) > limits[0]:
        text = text.removesuffix("…")[:-1].rstrip()
        text = f"{text}…" if text else ""
    color = page.getpixel((0, 0))
    dark = isinstance(color, tuple) and sum(color[:3]) < 3 * 128
    draw.text(middle, text, fill="#f2f2f2" if dark else "#22262e", font=font, anchor="mm")
