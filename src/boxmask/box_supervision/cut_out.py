"""Objects cut out of a batch by their masks, kept small and on the CPU."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.ops.masks import aligned_upsample, boxes_of_masks


@dataclass(frozen=True, kw_only=True)
class CutOut:
    """One object, on the CPU, no larger than its box.

    Attributes:
        picture: (3, h, w) uint8 RGB.
        mask: (h, w) bool.
        corner: (x, y) of its top left pixel in the picture it came from.
        label: class.
        score: in 0..1, mean score of its mask.
    """

    picture: Tensor
    mask: Tensor
    corner: tuple[int, int]
    label: int
    score: float


def cut_out(
    images: Tensor,
    masks: Tensor,
    scores: Tensor,
    image_index: Tensor,
    labels: Tensor,
    wanted: Tensor,
) -> list[tuple[CutOut, ...]]:
    """Cuts objects out of a batch; the host waits twice, however many there are.

    Args:
        images: (B, 3, H, W) RGB in 0..1.
        masks: (N, h, w) bool, in cells of a whole number of pixels.
        scores: (N, h, w) in 0..1, how sure each cell is.
        image_index: (N,) image of each object, not decreasing.
        labels: (N,) class of each.
        wanted: (N,) bool, the objects to cut out.

    Returns:
        The objects of each image, in their order; those with an empty mask are left out.
    """
    found: list[list[CutOut]] = [[] for _ in images]
    stride = images.shape[-1] // masks.shape[-1]
    hulls = boxes_of_masks(masks).long() * stride
    columns = [wanted[:, None].long(), image_index[:, None], labels[:, None], hulls]
    table = torch.cat(columns, dim=1).tolist()
    rows = [row for row, (taken, *_) in enumerate(table) if taken]
    if not rows:
        return [()] * len(images)
    pieces: list[Tensor] = []
    means: list[Tensor] = []
    for image, group in itertools.groupby(rows, key=lambda row: table[row][1]):
        here = list(group)
        cells, sure = (torch.stack([one[row] for row in here]).float() for one in (masks, scores))
        fine = aligned_upsample(cells[:, None], stride)[:, 0] > 0.5  # (n, H, W)
        sure = aligned_upsample(sure[:, None], stride)[:, 0]
        means.append((sure * fine).sum(dim=(1, 2)) / (fine.sum(dim=(1, 2)) + 1))
        colors = (images[image] * 255).round().to(torch.uint8)
        for mask, row in zip(fine, here, strict=True):
            x1, y1, x2, y2 = table[row][3:]
            pieces += [mask[None, y1:y2, x1:x2].to(torch.uint8), colors[:, y1:y2, x1:x2]]
    pieces.append(torch.cat(means).view(torch.uint8))  # the bytes of these numbers
    flat = torch.cat([piece.flatten() for piece in pieces]).cpu()
    *crops, sums = flat.split([piece.numel() for piece in pieces])
    crops_and_quality = zip(rows, crops[::2], crops[1::2], _numbers(sums), strict=True)
    for row, mask, picture, score in crops_and_quality:
        _, image, label, x1, y1, x2, y2 = table[row]
        if mask.numel():
            size = (y2 - y1, x2 - x1)
            found[image].append(
                _trimmed(mask.view(size).bool(), picture.view(3, *size), (x1, y1), label, score)
            )
    return [tuple(objects) for objects in found]


def _numbers(raw: Tensor) -> list[float]:
    """Of their bytes, which are on the host; a copy begins where a number may begin."""
    return raw.clone().view(torch.float32).tolist()


def _trimmed(
    mask: Tensor, picture: Tensor, corner: tuple[int, int], label: int, score: float
) -> CutOut:
    """The object in the smallest rectangle; a copy, which does not hold on to its batch."""
    x1, y1, x2, y2 = boxes_of_masks(mask[None])[0].int().tolist()
    return CutOut(
        picture=picture[:, y1:y2, x1:x2].clone(),
        mask=mask[y1:y2, x1:x2].clone(),
        corner=(corner[0] + x1, corner[1] + y1),
        label=label,
        score=score,
    )
