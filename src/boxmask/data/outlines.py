"""Outlines of drawn shapes, and the pixels that they cover."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from boxmask.data.textures import Array

SUPERSAMPLING = 8  # coverage is averaged over this many points along each axis of a pixel


def _disc(random: Generator) -> Array:
    """A circle, or an ellipse near it, of radius 1 around the origin: (P, 2)."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle) * random.uniform(0.75, 1.0)], axis=1)


def _star(random: Generator) -> Array:
    """A star of five or six points, (P, 2), outer radius 1."""
    points = int(random.integers(5, 7))
    angle = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2 == 0, 1.0, random.uniform(0.42, 0.52))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _crescent(random: Generator) -> Array:
    """A moon's crescent, (P, 2), outer radius 1: an arc out and a flatter arc back."""
    tip, depth = random.uniform(0.7, 1.1), random.uniform(-0.35, -0.05)
    outer = np.linspace(tip, 2 * np.pi - tip, 72)
    inner = np.linspace(-np.pi / 2, np.pi / 2, 48)
    x = np.cos(tip) - (np.cos(tip) - depth) * np.cos(inner)
    outward = np.stack([np.cos(outer), np.sin(outer)], axis=1)
    return np.concatenate([outward, np.stack([x, np.sin(tip) * np.sin(inner)], axis=1)])


CLASS_NAMES = ("disc", "star", "crescent")
OUTLINES: tuple[Callable[[Generator], Array], ...] = (_disc, _star, _crescent)
"""One for each class: a (P, 2) polygon around the origin, about 1 in radius."""


def outline_coverage(outline: Array, image_size: tuple[int, int]) -> Array:
    """Share of each pixel inside a closed (P, 2) outline: (H, W) in 0..1."""
    height, width = image_size
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), dtype=np.uint8)
    cv2.fillPoly(fine, [np.rint(outline * SUPERSAMPLING - 0.5).astype(np.int32)], 1)
    blocks = fine.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING)
    return blocks.mean(axis=(1, 3), dtype=np.float32)
