"""Drawn pictures of textured shapes with exact masks: tests, demo, smoke training, no download."""

from __future__ import annotations

import colorsys
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from boxmask.data.masks import encode_mask
from boxmask.data.outlines import CLASS_NAMES, OUTLINES, outline_coverage
from boxmask.data.textures import SLOW_TEXTURES, TEXTURES, Array, draw_surface
from boxmask.ops.masks import extent_of_mask


@dataclass(frozen=True, kw_only=True)
class SyntheticSettings:
    """What `write_synthetic` draws.

    Attributes:
        num_train: pictures in `train.json`.
        num_val: pictures in `val.json`.
        image_size: (height, width) in pixels, each at least 32.
        num_shapes: (least, most) shapes tried per picture; well hidden ones are left out.
        radius: (least, most) radius of a shape, as a share of the picture's shorter side.
        overlap: whether a shape may lie on top of another by chance. If not, shapes that find no
            free place are left out; those that `crowding` puts beside another need none.
        max_hidden: share of a shape's pixels that others may cover before it is left out, 0..1.
        camouflage: 0: objects differ from the background in colour; 1: the mean colour of each
            object's visible part is the background's, nothing casts a shadow or grows slowly
            brighter, and only the texture differs.
        crowding: probability that a shape is put beside an earlier one, so that most touch or
            overlap, and that it then has the other's class, colour and kind of texture. 0: shapes
            lie anywhere; 1: a picture shows a heap of like objects.
        seed: equal seeds give equal files, byte for byte.
    """

    num_train: int = 80
    num_val: int = 20
    image_size: tuple[int, int] = (192, 192)
    num_shapes: tuple[int, int] = (1, 4)
    radius: tuple[float, float] = (0.13, 0.27)
    overlap: bool = True
    max_hidden: float = 0.7
    camouflage: float = 0.0
    crowding: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.image_size) < 32:
            raise ValueError(f"image_size: each side must be at least 32, got {self.image_size}")
        if self.num_train < 0 or self.num_val < 0 or self.seed < 0:
            raise ValueError("num_train, num_val and seed must not be negative")
        if not 1 <= self.num_shapes[0] <= self.num_shapes[1]:
            raise ValueError(f"num_shapes: expected 1 <= least <= most, got {self.num_shapes}")
        if not 0 < self.radius[0] <= self.radius[1] <= 0.5:
            raise ValueError(f"radius: expected 0 < least <= most <= 0.5, got {self.radius}")
        for name in ("max_hidden", "camouflage", "crowding"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must lie in 0..1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """One drawn shape.

    Attributes:
        label: its class.
        center: (x, y) in pixels.
        radius: in pixels.
        coverage: (H, W) share of each pixel that it covers, 0..1.
        look: shapes of one look share colour and kind of texture.
        is_neighbor: whether it was put beside another.
    """

    label: int
    center: tuple[float, float]
    radius: float
    coverage: Array
    look: int
    is_neighbor: bool

    @property
    def mask(self) -> NDArray[np.bool_]:
        return self.coverage >= 0.5


def write_synthetic(out: Path, settings: SyntheticSettings | None = None) -> Path:
    """Draws a small data set: `train.json`, `val.json` (COCO) and `images/`.

    Masks are those of the visible part: an upper shape hides a lower one. Each box is tight to its
    mask. Masks are stored as RLE.

    Args:
        out: folder to write into; made if absent. Files of the same names are replaced.
        settings: what to draw; None for the defaults.

    Returns:
        `out`.
    """
    settings = settings or SyntheticSettings()
    (out / "images").mkdir(parents=True, exist_ok=True)
    for index, (split, count) in enumerate(
        (("train", settings.num_train), ("val", settings.num_val))
    ):
        content = _write_split(out / "images", split, count, (settings, index))
        (out / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return out


def draw_synthetic(
    settings: SyntheticSettings, random: Generator
) -> tuple[NDArray[np.uint8], list[tuple[int, NDArray[np.bool_]]]]:
    """Draws one picture.

    Args:
        settings: what to draw.
        random: the source of every choice.

    Returns:
        The picture, (H, W, 3) RGB, and for each visible shape, lowest first, its label and the
        (H, W) mask of its visible part.
    """
    shapes = _place_shapes(settings, random)
    picture = _paint(shapes, settings, random)
    visible = []
    covered = np.zeros(settings.image_size, dtype=bool)
    for shape in reversed(shapes):
        mask = shape.mask & ~covered
        if mask.sum() >= max(1.0, (1 - settings.max_hidden) * shape.mask.sum()):
            visible.append((shape.label, mask))
        covered |= shape.mask
    return picture, visible[::-1]


def _write_split(
    folder: Path, split: str, count: int, source: tuple[SyntheticSettings, int]
) -> dict[str, Any]:
    """Writes the pictures of a split and returns its COCO content."""
    settings, split_index = source
    height, width = settings.image_size
    images, annotations = [], []
    for index in range(count):
        random = np.random.default_rng([settings.seed, split_index, index])
        picture, visible = draw_synthetic(settings, random)
        name = f"{split}_{index:04d}.png"
        Image.fromarray(picture).save(folder / name)
        images.append({"id": index + 1, "file_name": name, "width": width, "height": height})
        for label, mask in visible:
            ids = {"id": len(annotations) + 1, "image_id": index + 1, "category_id": label + 1}
            annotations.append({**ids, **_mask_fields(mask), "iscrowd": 0})
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(CLASS_NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _mask_fields(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The box, area and RLE of an (H, W) mask as COCO writes them."""
    extent = extent_of_mask(mask)
    assert extent is not None  # objects that nobody sees are left out
    rows, columns = extent
    x, y = columns.start, rows.start
    return {
        "bbox": [x, y, columns.stop - x, rows.stop - y],
        "area": int(mask.sum()),
        "segmentation": encode_mask(mask),
    }


# --- places ----------------------------------------------------------------------------------


def _place_shapes(settings: SyntheticSettings, random: Generator) -> list[_Shape]:
    """Chooses classes, sizes and places; lowest shape first."""
    shapes: list[_Shape] = []
    taken = np.zeros(settings.image_size, dtype=bool)
    for _ in range(int(random.integers(settings.num_shapes[0], settings.num_shapes[1] + 1))):
        for _attempt in range(30):
            shape = _draw_shape(settings, shapes, random)
            free = not (taken & (shape.coverage > 0)).any()
            if shape.mask.any() and (settings.overlap or free or shape.is_neighbor):
                shapes.append(shape)
                taken |= shape.coverage > 0
                break
    return shapes


def _draw_shape(settings: SyntheticSettings, others: list[_Shape], random: Generator) -> _Shape:
    """Draws one shape, beside one of `others` if the crowding says so."""
    height, width = settings.image_size
    radius = random.uniform(*settings.radius) * min(height, width)
    label = int(random.integers(len(CLASS_NAMES)))
    margin = 0.9 * radius
    center = random.uniform((margin, margin), (width - margin, height - margin))
    look = len(others)
    is_neighbor = bool(others) and random.random() < settings.crowding
    if is_neighbor:
        other = others[int(random.integers(len(others)))]
        angle = random.uniform(0, 2 * np.pi)
        reach = (radius + other.radius) * random.uniform(0.55, 0.95)
        center = np.array(other.center) + reach * np.array([np.cos(angle), np.sin(angle)])
        center = np.clip(center, margin, np.array([width, height]) - margin)
        if random.random() < settings.crowding:
            label, look = other.label, other.look
    turn = random.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    outline = OUTLINES[label](random) @ rotation.T * radius + center  # (P, 2)
    return _Shape(
        label=label,
        center=(float(center[0]), float(center[1])),
        radius=float(radius),
        coverage=outline_coverage(outline, settings.image_size),
        look=look,
        is_neighbor=is_neighbor,
    )


# --- colours -----------------------------------------------------------------------------------


def _object_color(background: Array, hue: float, random: Generator) -> Array:
    """A strong colour of about `hue` that stands out from the background."""
    best = background
    for _ in range(8):
        parts = (hue + random.uniform(-0.04, 0.04)) % 1, random.uniform(0.5, 0.78)
        color = np.array(colorsys.hsv_to_rgb(*parts, random.uniform(0.6, 0.92)))
        if np.linalg.norm(color - background) > np.linalg.norm(best - background):
            best = color
    return best


def _paint(
    shapes: list[_Shape], settings: SyntheticSettings, random: Generator
) -> NDArray[np.uint8]:
    """Paints the background and the shapes over it, lowest first: (H, W, 3) RGB."""
    hue, contrast = random.random(), 1 - settings.camouflage
    tone = colorsys.hsv_to_rgb(hue, random.uniform(0.08, 0.28), random.uniform(0.32, 0.8))
    background = np.array(tone)
    kinds = random.permutation(len(TEXTURES))
    picture = _surface(int(kinds[0]), background, 0.045, settings, random)
    colors: dict[int, Array] = {}
    for shape, visible in zip(shapes, _visible_parts(shapes), strict=True):
        # Steps of the golden ratio keep the looks of a picture far apart in hue.
        if shape.look not in colors:
            color = _object_color(background, hue + 0.5 + 0.618 * shape.look, random)
            colors[shape.look] = contrast * color + settings.camouflage * background
        color = colors[shape.look]
        kind = int(kinds[1 + shape.look % (len(kinds) - 1)])
        surface = _surface(kind, color, 0.075, settings, random)
        if settings.camouflage:
            mean = np.average(surface, axis=(0, 1), weights=visible)  # (3,)
            surface = surface + settings.camouflage * (color - mean)
        shadow = cv2.GaussianBlur(shape.coverage, (0, 0), 0.12 * shape.radius)
        shadow = 0.3 * contrast * np.roll(shadow, 2, axis=(0, 1))
        picture = picture * (1 - shadow[..., None])
        alpha = shape.coverage[..., None]
        picture = picture * (1 - alpha) + surface * alpha
    grain = random.normal(0, 0.008, size=picture.shape)
    return np.clip(np.rint((picture + grain) * 255), 0, 255).astype(np.uint8)


def _surface(
    kind: int, color: Array, strength: float, settings: SyntheticSettings, random: Generator
) -> Array:
    """A textured surface; slow changes of brightness are colour too, so camouflage takes them."""
    if kind in SLOW_TEXTURES:
        strength *= 1 - settings.camouflage
    return draw_surface(kind, color, strength, random, settings.image_size)


def _visible_parts(shapes: list[_Shape]) -> list[Array]:
    """Share of each pixel, (H, W) in 0..1, that shows each shape; more than 0 somewhere."""
    parts, free = [], np.ones(())
    for shape in reversed(shapes):
        parts.append(np.maximum(shape.coverage * free, 1e-6 * shape.coverage))
        free = free * (1 - shape.coverage)
    return parts[::-1]
