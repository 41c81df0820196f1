"""Objects cut out of a batch by their masks, kept small and on the CPU."""

from dataclasses import dataclass, replace

import numpy as np
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

    def cut(self) -> "CutOut":
        """Itself."""
        return self

    def to(self, device: torch.device) -> "CutOut":
        """A copy on `device`, without a wait for it; the same where it is there already."""
        picture, mask = send(self.picture, device), send(self.mask, device)
        return replace(self, picture=picture, mask=mask)


@dataclass(frozen=True, kw_only=True)
class RoughCut:
    """The window of a picture that an object's cells fill, and one cell around them.

    Few objects are ever pasted: borders are made when one is.

    Attributes:
        picture: (3, H, W) uint8 RGB, on the CPU.
        cells: (h, w) bool, of `stride` pixels; at least one of them lies in the picture as a whole.
        stride: H / h = W / w.
        corner: (x, y) of the window in the picture, in pixels.
        size: (height, width) in pixels from the corner to the picture's end, which may lie in the
            window or beyond it.
        label: class.
        score: in 0..1, mean score of its mask.
    """

    picture: Tensor
    cells: Tensor
    stride: int
    corner: tuple[int, int]
    size: tuple[int, int]
    label: int
    score: float

    def cut(self) -> CutOut:
        """The object, no larger than its mask."""
        mask = aligned_upsample(self.cells[None, None].float(), self.stride)[0, 0] > 0.5
        mask = mask[: self.size[0], : self.size[1]]
        extent = extent_of_mask(mask.numpy())
        assert extent is not None  # a whole cell never vanishes
        rows, columns = extent
        return CutOut(
            picture=self.picture[:, rows, columns].clone(),
            mask=mask[extent].clone(),
            corner=(self.corner[0] + columns.start, self.corner[1] + rows.start),
            label=self.label,
            score=self.score,
        )


class CuttingOut:
    """Objects that are being cut out of a batch: asked for in one step, taken in a later one.

    What the device must tell is on its way to the host meanwhile, and pictures are there already,
    so nobody waits.

    Args:
        batch: the pictures, and N objects in all.
        masks: (N, h, w) bool, in cells of a whole number of pixels.
        hulls: (N, 4) tight boxes of the masks, in cells.
        scores: (N, h, w) in 0..1, how sure each cell is.
        wanted: (N,) bool, the objects to cut out; none of a picture into which some were pasted.
    """

    def __init__(
        self, batch: Batch, masks: Tensor, hulls: Tensor, scores: Tensor, wanted: Tensor
    ) -> None:
        self.batch = batch.host
        self.stride = batch.images.shape[-1] // masks.shape[-1]
        cells = self.stride**2
        total = (scores * masks).sum(dim=(1, 2)) * cells
        quality = total / (masks.sum(dim=(1, 2)) * cells + 1)
        self._fetched = Fetched(masks, hulls, quality, wanted)

    def objects(self) -> list[tuple[RoughCut, ...]]:
        """The objects of each image, in their order; without those of no cell in the picture."""
        masks, *fetched = self._fetched.get()
        hulls, quality, wanted = (values.tolist() for values in fetched)
        found: list[tuple[RoughCut, ...]] = []
        first = 0
        batch = self.batch
        for image, targets, size in zip(
            batch.images, batch.targets, batch.image_sizes, strict=True
        ):
            labels = targets.labels.tolist()
            pieces = (
                self._cut_roughly(image, size, masks[row], hulls[row], label, quality[row])
                for row, label in enumerate(labels, start=first)
                if wanted[row]
            )
            found.append(tuple(piece for piece in pieces if piece is not None))
            first += len(labels)
        return found

    def _cut_roughly(
        self,
        image: Tensor,
        size: tuple[int, int],
        cells: Tensor,
        hull: list[float],
        label: int,
        score: float,
    ) -> RoughCut | None:
        """One object of a padded picture (3, H, W) in 0..1, by its mask (h, w)."""
        x1, y1, x2, y2 = (int(end) for end in hull)
        # Of cells around them, the outermost are those of the picture's rim or are not in the mask.
        top, left = max(y1 - 1, 0), max(x1 - 1, 0)
        window = cells.numpy()[top : y2 + 1, left : x2 + 1].copy()  # half the time of torch
        rows, columns = (
            max(length // self.stride - start, 0)
            for length, start in zip(size, (top, left), strict=True)
        )  # whole cells
        if not window[:rows, :columns].any():
            return None
        y, x = top * self.stride, left * self.stride
        height, width = (length * self.stride for length in window.shape)
        picture = image.numpy()[:, y : y + height, x : x + width]
        return RoughCut(
            picture=torch.from_numpy((picture * np.float32(255)).round().astype(np.uint8)),
            cells=torch.from_numpy(window),
            stride=self.stride,
            corner=(x, y),
            size=(size[0] - y, size[1] - x),
            label=label,
            score=score,
        )
