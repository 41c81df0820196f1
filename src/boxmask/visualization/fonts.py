"""The font of all labels and titles."""

from pathlib import Path

import matplotlib as mpl
from PIL import ImageFont


def font_path(*, bold: bool = False) -> Path:
    """A font for Latin, Greek, Cyrillic and symbols; it comes with matplotlib.

    Pillow's own font lacks everything beyond ASCII.
    """
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(mpl.get_data_path()) / "fonts" / "ttf" / name


def load_font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font with letters about `size` pixels high."""
    return ImageFont.truetype(str(font_path(bold=bold)), size)
