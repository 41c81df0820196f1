"""Objects cut out of a batch by their masks, kept small and on the CPU."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from boxmask.ops.masks import aligned_upsample, extent_of_mask
from boxmask.structures import Batch
from boxmask.waitless import Fetched, send


@dataclass(frozen=True, kw_only=True)
class CutOut:
    """One object, no larger than its box; on the CPU while it is kept.

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

    def to(self, device: torch.device) -> "CutOut":
        """A copy on `device`, without a wait for it; the same where it is there already."""
        picture, mask = send(self.picture, device), send(self.mask, device)
        return replace(self, picture=picture, mask=mask)


class CuttingOut:
    """Objects that are being cut out of a batch: asked for in one step, taken in a later one.

    What the device must tell is on its way to the host meanwhile, and pictures are there already,
    so nobody waits.

    Args:
        batch: the pictures, and N objects in all.
        masks: (N, h, w) bool, in cells of a whole number of pixels.
        scores: (N, h, w) in 0..1, how sure each cell is.
        wanted: (N,) bool, the objects to cut out; none of a picture into which some were pasted.
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
        batch = self.batch
        for image, targets, size in zip(
            batch.images, batch.targets, batch.image_sizes, strict=True
        ):
            rows = range(first, first + len(targets))
            taken = [row for row in rows if wanted[row] and masks[row].any()]
            labels = targets.labels.tolist()
            pieces = (
                _cut(image, size, masks[row], labels[row - first], float(quality[row]))
                for row in taken
            )
            found.append(tuple(piece for piece in pieces if piece is not None))
            first += len(targets)
        return found


def _cut(
    image: Tensor, size: tuple[int, int], cells: Tensor, label: int, score: float
) -> CutOut | None:
    """One object of a picture (3, H, W) in 0..1 by its mask (h, w), which has some cell.

    Args:
        image: with its padding.
        size: (height, width) of the picture without it, which a cell of the rim may pass.
        cells: the mask.
        label: the object's class.
        score: how good the mask is.

    Returns:
        None where all of the mask lies in the padding.
    """
    stride = image.shape[-1] // cells.shape[-1]
    # Of cells around them, the outermost are those of the picture's rim or are not in the mask.
    around = tuple(
        slice(max(cell.start - 1, 0), min(cell.stop + 1, length))
        for cell, length in zip(_extent(cells), cells.shape, strict=True)
    )
    mask = aligned_upsample(cells[None, None, *around].float(), stride)[0, 0] > 0.5
    for axis in (0, 1):
        length = size[axis] - around[axis].start * stride
        mask = mask.narrow(axis, 0, min(length, mask.shape[axis]))
    inside = extent_of_mask(mask.numpy())
    if inside is None:
        return None
    y, x = (cell.start * stride + pixel.start for cell, pixel in zip(around, inside, strict=True))
    mask = mask[inside].clone()
    picture = image[:, y : y + mask.shape[0], x : x + mask.shape[1]]
    return CutOut(
        picture=(picture * 255).round().to(torch.uint8),
        mask=mask,
        corner=(x, y),
        label=label,
        score=score,
    )


def _extent(mask: Tensor) -> tuple[slice, slice]:
    """Of a mask on the CPU that has some cell."""
    extent = extent_of_mask(mask.numpy())
    assert extent is not None
    return extent
