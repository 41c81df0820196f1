"""CIE-LAB colours, in which like distances look alike.

Written out in plain products of whole maps: no constant is copied to the device, which would make
the host wait, and mixed precision, which rounds what matrix products take, touches nothing.
"""

import torch
from torch import Tensor

# Rows of the matrix from linear RGB to XYZ, and XYZ of white (D65).
_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)


def rgb_to_lab(colors: Tensor) -> Tensor:
    """Colours of sRGB as CIE-LAB.

    Args:
        colors: (..., 3, h, w) RGB in 0..1, float32 or float64.

    Returns:
        (..., 3, h, w) of the same type; L in 0..100, a and b around -128..127.

    Source: IEC 61966-2-1 (sRGB) and CIE 15 (LAB), illuminant D65, observer of 2 degrees.
    """
    linear = torch.where(colors > 0.04045, ((colors + 0.055) / 1.055) ** 2.4, colors / 12.92)
    red, green, blue = linear.unbind(-3)
    x, y, z = (
        _bent((r * red + g * green + b * blue) / white)
        for (r, g, b), white in zip(_TO_XYZ, _WHITE, strict=True)
    )
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def _bent(share: Tensor) -> Tensor:
    """A cube root with a straight part near 0."""
    root = share.clamp(min=0.008856) ** (1 / 3)
    return torch.where(share > 0.008856, root, 7.787 * share + 16 / 116)
