"""Where pasted objects go in their new picture."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from boxmask.box_supervision.cut_out import CutOut
from boxmask.ops.boxes import covered_shares


@dataclass(frozen=True, kw_only=True)
class PlacingSettings:
    """How places for pasted objects are drawn.

    A paste over the middle of a large object costs the run that object; beside or half over it,
    the picture has one more.

    Attributes:
        smallest: size of a pasted object relative to its own, above 0 and at most 1; it is drawn
            from here to 1.
        most_covered: share of any box of the picture, in 0..1, that the box of a pasted object may
            cover.
        tries: places that are drawn before an object is left out.

    Source: sizes and places drawn anew, Simple Copy-Paste (CVPR 2021).
    """

    smallest: float = 0.5
    most_covered: float = 0.5
    tries: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.smallest <= 1:
            raise ValueError(f"smallest: expected more than 0, at most 1, got {self.smallest:g}")
        if not 0 <= self.most_covered <= 1:
            raise ValueError(f"most_covered: expected 0 to 1, got {self.most_covered:g}")
        if self.tries < 1:
            raise ValueError(f"tries: expected 1 or more, got {self.tries}")


def place_objects(
    objects: list[CutOut], boxes: Tensor, size: tuple[int, int], settings: PlacingSettings
) -> list[CutOut]:
    """Objects at new places and sizes; those that find none are left out.

    Args:
        objects: what to paste.
        boxes: (N, 4) x1, y1, x2, y2 of the objects of the picture, in pixels, on the CPU.
        size: (height, width) of the picture.
        settings: see `PlacingSettings`.
    """
    placed = []
    for one in objects:
        found = _find_place(one.mask.shape, boxes, size, settings)
        if found is not None:
            x1, y1, x2, y2 = found
            placed.append(replace(_resized(one, (y2 - y1, x2 - x1)), corner=(x1, y1)))
            boxes = torch.cat([boxes, boxes.new_tensor([found])])
    return placed


def _find_place(
    shape: tuple[int, ...], boxes: Tensor, size: tuple[int, int], settings: PlacingSettings
) -> tuple[int, int, int, int] | None:
    """x1, y1, x2, y2 for a cut-out of `shape` (height, width); None where none was found."""
    height, width = shape
    largest = min(1.0, size[0] / height, size[1] / width)
    smallest = min(settings.smallest, largest)
    for draw in torch.rand(settings.tries, 3).tolist():
        scale = smallest + (largest - smallest) * draw[0]
        h, w = (max(int(side * scale), 1) for side in shape)
        x, y = int(draw[1] * (size[1] - w + 1)), int(draw[2] * (size[0] - h + 1))
        place = (x, y, x + w, y + h)
        if bool((covered_shares(boxes, boxes.new_tensor([place])) <= settings.most_covered).all()):
            return place
    return None


def _resized(one: CutOut, size: tuple[int, int]) -> CutOut:
    """The cut-out at (height, width) pixels."""
    if size == tuple(one.mask.shape):
        return one
    mask = F.interpolate(one.mask[None, None].float(), size, mode="bilinear", align_corners=False)
    picture = tvf.resize(one.picture, list(size), antialias=True)
    return replace(one, picture=picture, mask=mask[0, 0] > 0.5)
