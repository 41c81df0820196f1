"""Where pasted objects go in their new picture."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from boxmask.box_supervision.cut_out import CutOut


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
        boxes: (N, 4) of the objects of the picture, in pixels, on the CPU.
        size: (height, width) of the picture.
        settings: see `PlacingSettings`.
    """
    placed = []
    for one in objects:
        found = _placed(one, boxes, size, settings)
        if found is not None:
            placed.append(found)
            boxes = torch.cat([boxes, _box_of(found).to(boxes.dtype)])
    return placed


def covered_shares(boxes: Tensor, cover: Tensor) -> Tensor:
    """Share of each box (N, 4) that the box `cover` (1, 4) covers: (N,) in 0..1."""
    corner = torch.maximum(boxes[:, :2], cover[:, :2])
    opposite = torch.minimum(boxes[:, 2:], cover[:, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)
    return (opposite - corner).clamp(min=0).prod(dim=-1) / areas.clamp(min=1e-6)


def _placed(
    one: CutOut, boxes: Tensor, size: tuple[int, int], settings: PlacingSettings
) -> CutOut | None:
    height, width = one.mask.shape
    largest = min(1.0, size[0] / height, size[1] / width)
    smallest = min(settings.smallest, largest)
    for draw in torch.rand(settings.tries, 3).tolist():
        scale = smallest + (largest - smallest) * draw[0]
        h, w = (max(int(side * scale), 1) for side in (height, width))
        corner = (int(draw[1] * (size[1] - w + 1)), int(draw[2] * (size[0] - h + 1)))
        cover = boxes.new_tensor([[*corner, corner[0] + w, corner[1] + h]])
        if bool((covered_shares(boxes, cover) <= settings.most_covered).all()):
            return replace(_resized(one, (h, w)), corner=corner)
    return None


def _resized(one: CutOut, size: tuple[int, int]) -> CutOut:
    if size == tuple(one.mask.shape):
        return one
    mask = F.interpolate(one.mask[None, None].float(), size, mode="bilinear", align_corners=False)
    picture = tvf.resize(one.picture, list(size), antialias=True)
    return replace(one, picture=picture, mask=mask[0, 0] > 0.5)


def _box_of(one: CutOut) -> Tensor:
    """(1, 4) of the whole cut-out, in pixels of the picture it is placed in."""
    x, y = one.corner
    return torch.tensor([[x, y, x + one.mask.shape[1], y + one.mask.shape[0]]])
