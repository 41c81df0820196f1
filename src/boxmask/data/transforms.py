"""Flip, resize, crop and colour: image, boxes and masks move together."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from boxmask.structures import Targets

MAX_ASPECT = 5 / 3  # long side over short side, as 1333 over 800
# Of a box's area. Less of it, and the object itself may be out of sight: only its box is known.
LEAST_VISIBLE = 0.2


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture on its way into a batch.

    Attributes:
        image: (3, H, W) uint8 RGB.
        targets: its objects in pixels of `image`.
        scale: (x, y) pixels of `image` for each pixel of the picture file.
    """

    image: Tensor
    targets: Targets
    scale: tuple[float, float] = (1.0, 1.0)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[-2], self.image.shape[-1]


@dataclass(frozen=True, kw_only=True)
class AugmentationSettings:
    """How training pictures vary.

    Attributes:
        image_size: short side in pixels that scoring uses; the long side is at most 5/3 of it.
        smallest_scale: training draws its short side from `image_size` times this up to
            `image_size` times `largest_scale`. Paper: 640 to 800, a factor of 0.8 to 1.
        largest_scale: see `smallest_scale`.
        crop: with more than 0, training pictures are scaled to fit a square of `image_size` times
            this, times a scale drawn between the two above, and a window of the square's size is
            cut from them. 0: whole pictures. Mask2Former: 1024 / 800, with scales of 0.1 to 2.
        flip: probability, in 0..1, of a horizontal flip.
        brightness: largest relative change, in 0..1, of brightness, contrast and saturation.
    """

    image_size: int = 256
    smallest_scale: float = 0.8
    largest_scale: float = 1.0
    crop: float = 0.0
    flip: float = 0.5
    brightness: float = 0.0

    def __post_init__(self) -> None:
        if self.image_size < 32:
            raise ValueError(f"image_size: expected at least 32 pixels, got {self.image_size}")
        if not 0 < self.smallest_scale <= self.largest_scale:
            raise ValueError(
                "smallest_scale: expected more than 0 and at most largest_scale, "
                f"got {self.smallest_scale} and {self.largest_scale}"
            )
        if self.crop < 0:
            raise ValueError(f"crop: expected 0 or more, got {self.crop}")

    @property
    def crop_side(self) -> int:
        """Side of the square that is cut, in pixels; 0 for whole pictures."""
        return round(self.image_size * self.crop)


def augment(sample: Sample, settings: AugmentationSettings, generator: torch.Generator) -> Sample:
    """A random variant of a training picture; boxes and masks stay right."""
    side = settings.crop_side or settings.image_size
    low, high = (round(side * scale) for scale in (settings.smallest_scale, settings.largest_scale))
    length = int(torch.randint(low, high + 1, (), generator=generator))
    flips = float(torch.rand((), generator=generator)) < settings.flip
    changes = 1 + settings.brightness * (torch.rand(3, generator=generator) * 2 - 1)
    if settings.crop_side:
        sample = random_crop(resize_to_fit(sample, length), settings.crop_side, generator)
    else:
        sample = resize_short_side(sample, length)
    if flips:
        sample = flip_horizontally(sample)
    if settings.brightness:
        image = tvf.adjust_brightness(sample.image, float(changes[0]))
        image = tvf.adjust_contrast(image, float(changes[1]))
        sample = replace(sample, image=tvf.adjust_saturation(image, float(changes[2])))
    return sample


def resize_short_side(sample: Sample, short_side: int) -> Sample:
    """Scales so that the short side is `short_side` pixels, or less where the long side limits.

    Boxes scale with the picture; masks are resampled to the nearest pixel.
    """
    height, width = sample.image_size
    return _resized(
        sample, min(short_side / min(height, width), short_side * MAX_ASPECT / max(height, width))
    )


def resize_to_fit(sample: Sample, side: int) -> Sample:
    """Scales so that the long side is `side` pixels."""
    return _resized(sample, side / max(sample.image_size))


def _resized(sample: Sample, factor: float) -> Sample:
    height, width = sample.image_size
    size = [max(round(height * factor), 1), max(round(width * factor), 1)]
    x, y = size[1] / width, size[0] / height
    targets = sample.targets
    masks = targets.masks
    if masks is not None:
        masks = tvf.resize(masks, size, interpolation=tvf.InterpolationMode.NEAREST_EXACT)
    return Sample(
        image=tvf.resize(sample.image, size, antialias=True),
        targets=replace(
            targets, boxes=targets.boxes * targets.boxes.new_tensor([x, y, x, y]), masks=masks
        ),
        scale=(sample.scale[0] * x, sample.scale[1] * y),
    )


def random_crop(sample: Sample, side: int, generator: torch.Generator) -> Sample:
    """Cuts a window of at most `side` x `side` pixels from anywhere in the picture."""
    top, left = (
        int(torch.randint(0, max(length - side, 0) + 1, (), generator=generator))
        for length in sample.image_size
    )
    return crop(sample, top, left, side)


def crop(sample: Sample, top: int, left: int, side: int) -> Sample:
    """The picture's part from row `top` and column `left` on, at most `side` x `side` pixels.

    A box that is cut at its left or right is no longer tight from top to bottom: what reached
    there may be gone. The same holds the other way round. Objects of which too little is left of
    their box are left out.
    """
    image = sample.image[:, top : top + side, left : left + side]
    height, width = image.shape[-2:]
    targets = sample.targets
    shifted = targets.boxes - targets.boxes.new_tensor([left, top, left, top])
    limits = targets.boxes.new_tensor([width, height, width, height])
    boxes = torch.minimum(shifted.clamp(min=0), limits)
    cut_ends = boxes != shifted  # (N, 4)
    cut_axes = cut_ends[:, :2] | cut_ends[:, 2:]  # (N, 2), along x and along y
    masks = targets.masks
    trusted = targets.trusted
    if masks is not None:
        masks = masks[:, top : top + side, left : left + side]
        trusted = trusted & masks.flatten(1).any(dim=1)
    visible = _areas(boxes) / _areas(shifted).clamp(min=1e-6)
    kept = replace(
        targets, boxes=boxes, tight=targets.tight & ~cut_axes.flip(1), masks=masks, trusted=trusted
    ).select(visible >= LEAST_VISIBLE)
    return replace(sample, image=image, targets=kept)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def flip_horizontally(sample: Sample) -> Sample:
    """Mirrors left and right."""
    targets = sample.targets
    width = sample.image_size[1]
    x1, y1, x2, y2 = targets.boxes.unbind(-1)
    return replace(
        sample,
        image=sample.image.flip(-1),
        targets=replace(
            targets,
            boxes=torch.stack([width - x2, y1, width - x1, y2], dim=-1),
            masks=None if targets.masks is None else targets.masks.flip(-1),
        ),
    )
