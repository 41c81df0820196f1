"""The font of all labels and titles."""

from pathlib import Path

import matplotlib as mpl
from PIL import ImageFont


def font_path() -> Path:
    """A font for Latin, Greek, Cyrillic and symbols; it comes with matplotlib.

    Pillow's own font lacks everything beyond ASCII.
    """
    return Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The font with letters about `size` pixels high."""
    return ImageFont.truetype(str(font_path()), size)
