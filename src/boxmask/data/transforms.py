"""Flip, resize and colour: image, boxes and masks move together."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from boxmask.structures import Targets

MAX_ASPECT = 5 / 3  # long side over short side, as 1333 over 800


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
        flip: probability, in 0..1, of a horizontal flip.
        brightness: largest relative change, in 0..1, of brightness, contrast and saturation.
    """

    image_size: int = 256
    smallest_scale: float = 0.8
    largest_scale: float = 1.0
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


def augment(sample: Sample, settings: AugmentationSettings, generator: torch.Generator) -> Sample:
    """A random variant of a training picture; boxes and masks stay right."""
    low, high = (
        round(settings.image_size * scale)
        for scale in (settings.smallest_scale, settings.largest_scale)
    )
    short_side = int(torch.randint(low, high + 1, (), generator=generator))
    flips = float(torch.rand((), generator=generator)) < settings.flip
    changes = 1 + settings.brightness * (torch.rand(3, generator=generator) * 2 - 1)
    sample = resize_short_side(sample, short_side)
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
    factor = min(short_side / min(height, width), short_side * MAX_ASPECT / max(height, width))
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
