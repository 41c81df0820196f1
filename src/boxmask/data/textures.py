"""Textured surfaces of a given mean colour, for drawn pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def _noise(random: Generator, image_size: tuple[int, int]) -> Array:
    """Soft clouds with fine grain."""
    clouds = random.standard_normal(image_size).astype(np.float32)
    coarse = cv2.GaussianBlur(clouds, (0, 0), random.uniform(3.0, 7.0))
    fine = cv2.GaussianBlur(clouds, (0, 0), 0.8)
    return coarse / coarse.std() + 0.5 * fine / fine.std()


def _stripes(random: Generator, image_size: tuple[int, int]) -> Array:
    """Parallel stripes of any direction."""
    return np.tanh(3 * np.sin(_ramp(random, image_size, random.uniform(7.0, 13.0))))


def _checks(random: Generator, image_size: tuple[int, int]) -> Array:
    """A chess board, turned."""
    turn, period = random.uniform(0, np.pi), random.uniform(11.0, 17.0)
    rows, columns = np.mgrid[: image_size[0], : image_size[1]].astype(np.float32)
    u = np.sin((columns * np.cos(turn) + rows * np.sin(turn)) * 2 * np.pi / period)
    v = np.sin((rows * np.cos(turn) - columns * np.sin(turn)) * 2 * np.pi / period)
    return np.tanh(6 * u * v)


def _gradient(random: Generator, image_size: tuple[int, int]) -> Array:
    """A slow rise and fall of brightness."""
    return np.sin(_ramp(random, image_size, 0.6 * max(image_size)))


TEXTURES: tuple[Callable[[Generator, tuple[int, int]], Array], ...] = (
    _noise,
    _stripes,
    _checks,
    _gradient,
)
SLOW_TEXTURES = frozenset({TEXTURES.index(_gradient)})
"""Kinds that change over as many pixels as a shape has: patches of them differ in mean colour."""


def _ramp(random: Generator, image_size: tuple[int, int], period: float) -> Array:
    """Phase of a plane wave of random direction, (H, W) in radians; `period` in pixels."""
    turn, start = random.uniform(0, 2 * np.pi, size=2)
    rows, columns = np.mgrid[: image_size[0], : image_size[1]].astype(np.float32)
    return (columns * np.cos(turn) + rows * np.sin(turn)) * 2 * np.pi / period + start


def draw_surface(
    kind: int, color: Array, strength: float, random: Generator, image_size: tuple[int, int]
) -> Array:
    """Draws a surface whose mean is `color` and whose texture swings by `strength` around it.

    Args:
        kind: index into `TEXTURES`.
        color: (3,) RGB in 0..1.
        strength: one standard deviation of the texture, in 0..1.
        random: the source of every choice.
        image_size: (height, width) in pixels.

    Returns:
        (H, W, 3) float32, about 0..1; not clipped.
    """
    texture = TEXTURES[kind](random, image_size)
    texture = np.clip((texture - texture.mean()) / (texture.std() + 1e-6), -2, 2)
    # Texture is more than brightness: a little of it turns the colour as well.
    swing = 1.0 + random.uniform(-0.3, 0.3, size=3)
    return (color + strength * texture[..., None] * swing).astype(np.float32)
