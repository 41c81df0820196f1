"""From the classes and masks of SOLOv2's cells to a short list of objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.detectors.picture_masks import MASK_STRIDE, whole_image_frames
from boxmask.ops.masks import boxes_of_masks, mean_foreground_score
from boxmask.ops.matrix_nms import matrix_nms
from boxmask.structures import Detections


@dataclass(frozen=True, kw_only=True)
class CellChoiceSettings:
    """Which cells and masks count as found. Values are the published ones.

    Attributes:
        score_threshold: class score, in 0..1, above which a cell is asked for its mask.
        num_before_nms: best cells of an image whose masks are compared.
        sigma: how steeply scores fall where masks overlap, see `matrix_nms`.
        final_threshold: score, in 0..1, above which a mask is kept after that.
        max_detections: masks kept of an image.
    """

    score_threshold: float = 0.1
    num_before_nms: int = 500
    sigma: float = 2.0
    final_threshold: float = 0.05
    max_detections: int = 100


def best_cells(
    class_scores: Tensor, sides: Sequence[int], settings: CellChoiceSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Cells whose class score is a peak above the threshold, best first.

    Args:
        class_scores: (P, classes) in 0..1 of one image.
        sides: cells along each side of a level's grid.
        settings: thresholds.

    Returns:
        position (N,) among the cells, labels (N,), scores (N,).
    """
    peaks = peak_scores(class_scores, sides)
    position, labels = (peaks > settings.score_threshold).nonzero(as_tuple=True)
    scores = peaks[position, labels]
    best = scores.argsort(descending=True, stable=True)[: settings.num_before_nms]
    return position[best], labels[best], scores[best]


def peak_scores(class_scores: Tensor, sides: Sequence[int]) -> Tensor:
    """Scores of cells that no neighbour above or to the left beats, in their class; else 0.

    Args:
        class_scores: (P, classes) in 0..1.
        sides: cells along each side of a level's grid.

    Returns:
        (P, classes).

    Source: SOLOv2 (NeurIPS 2020), point suppression in windows of 2 x 2 cells.
    """
    parts = []
    for level in class_scores.split([side * side for side in sides]):
        side = round(len(level) ** 0.5)
        maps = level.T.unflatten(-1, (side, side))[None]  # (1, classes, side, side)
        best = F.max_pool2d(F.pad(maps, (1, 0, 1, 0)), kernel_size=2, stride=1)
        parts.append((maps * (maps == best))[0].flatten(1).T)
    return torch.cat(parts)


def found_objects(
    mask_scores: Tensor,
    class_scores: Tensor,
    labels: Tensor,
    image_size: tuple[int, int],
    settings: CellChoiceSettings,
) -> Detections:
    """The objects of one image.

    Args:
        mask_scores: (N, h, w) in 0..1 at stride 4.
        class_scores: (N,) in 0..1.
        labels: (N,) class.
        image_size: (height, width) without padding; what masks have beyond does not count.
        settings: thresholds.

    Returns:
        Best first. Scores are class score times mean score of the mask's foreground, lowered
        where a better mask overlaps.

    Source: SOLOv2 (NeurIPS 2020), maskness and Matrix NMS.
    """
    height, width = (-(-side // MASK_STRIDE) for side in image_size)  # cells that start inside
    seen = mask_scores[:, :height, :width]
    masks = seen > 0.5
    scores = class_scores * mean_foreground_score(seen)
    order = scores.argsort(descending=True, stable=True)
    order = order[masks.flatten(1).any(dim=-1)[order]]
    masks, labels = masks[order], labels[order]
    scores = matrix_nms(masks, scores[order], labels, sigma=settings.sigma)
    kept = scores.argsort(descending=True, stable=True)[: settings.max_detections]
    kept = kept[scores[kept] > settings.final_threshold]
    limit = scores.new_tensor([image_size[1], image_size[0]] * 2)
    return Detections(
        boxes=(boxes_of_masks(masks[kept]) * MASK_STRIDE).minimum(limit),
        scores=scores[kept],
        labels=labels[kept],
        mask_scores=mask_scores[order[kept]],
        frames=whole_image_frames(mask_scores[order[kept]]),
        image_size=image_size,
    )
