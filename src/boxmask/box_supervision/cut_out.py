"""Objects cut out of a batch by their masks, kept small and on the CPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.ops.masks import aligned_upsample, boxes_of_masks
from boxmask.structures import Batch
from boxmask.waitless import Fetched


@dataclass(frozen=True, kw_only=True)
class CutOut:
    """One object, on the CPU, no larger than its box.

    Attributes:
        picture: (3, h, w) uint8 RGB.
        mask: (h, w) bool.
        corner: (x, y) of its top left pixel in the picture it came from, or is pasted into.
        label: class.
        score: in 0..1, mean score of its mask.
    """

    picture: Tensor
    mask: Tensor
    corner: tuple[int, int]
    label: int
    score: float


class CuttingOut:
    """Objects that are being cut out of a batch: asked for in one step, taken in a later one.

    What the device must tell is on its way to the host meanwhile, and pictures are there already,
    so nobody waits.

    Args:
        batch: the pictures, and N objects in all.
        masks: (N, h, w) bool, in cells of a whole number of pixels.
        scores: (N, h, w) in 0..1, how sure each cell is.
        wanted: (N,) bool, the objects to cut out.
    """

    def __init__(self, batch: Batch, masks: Tensor, scores: Tensor, wanted: Tensor) -> None:
        self.batch = batch.host
        cells = (batch.images.shape[-1] // masks.shape[-1]) ** 2
        total = (scores * masks).sum(dim=(1, 2)) * cells
        quality = total / (masks.sum(dim=(1, 2)) * cells + 1)
        self._fetched = Fetched(masks, quality, wanted)

    def objects(self) -> list[tuple[CutOut, ...]]:
        """The objects of each image, in their order; those with an empty mask are left out."""
        masks, quality, wanted = self._fetched.get()
        found: list[tuple[CutOut, ...]] = []
        first = 0
        for image, targets in zip(self.batch.images, self.batch.targets, strict=True):
            rows = range(first, first + len(targets))
            taken = [row for row in rows if wanted[row] and masks[row].any()]
            labels = targets.labels.tolist()
            found.append(
                tuple(
                    _cut(image, masks[row], labels[row - first], float(quality[row]))
                    for row in taken
                )
            )
            first += len(targets)
        return found


def _cut(image: Tensor, cells: Tensor, label: int, score: float) -> CutOut:
    """One object of a picture (3, H, W) in 0..1 by its mask (h, w), which has some cell."""
    stride = image.shape[-1] // cells.shape[-1]
    left, top, right, bottom = boxes_of_masks(cells[None])[0].int().tolist()
    # Of cells around them, the outermost are those of the picture's rim or are not in the mask.
    rows = slice(max(top - 1, 0), min(bottom + 1, cells.shape[0]))
    columns = slice(max(left - 1, 0), min(right + 1, cells.shape[1]))
    mask = aligned_upsample(cells[None, None, rows, columns].float(), stride)[0, 0] > 0.5
    x1, y1, x2, y2 = boxes_of_masks(mask[None])[0].int().tolist()
    x, y = columns.start * stride + x1, rows.start * stride + y1
    picture = image[:, y : y + y2 - y1, x : x + x2 - x1]
    return CutOut(
        picture=(picture * 255).round().to(torch.uint8),
        mask=mask[y1:y2, x1:x2].clone(),
        corner=(x, y),
        label=label,
        score=score,
    )
