"""From the predictions of points to a short list of boxes."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from boxmask.detectors.fcos import FCOSSettings, PointOutputs
from boxmask.ops.boxes import decode_ltrb


def best_points(
    outputs: PointOutputs, image: int, image_size: tuple[int, int], settings: FCOSSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The detections of one image after non-maximum suppression, best first.

    Args:
        outputs: predictions of all images.
        image: which image.
        image_size: (height, width) without padding; boxes are clipped to it.
        settings: thresholds.

    Returns:
        position (N,) among the points, boxes (N, 4) in input pixels, scores (N,) in 0..1: the
        square root of class score times centre-ness, labels (N,). Boxes without area are kept.
    """
    assert outputs.class_logits is not None
    class_scores = outputs.class_logits[image].float().sigmoid()  # (P, C)
    joint = class_scores * outputs.centerness_logits[image].float().sigmoid()[:, None]
    position, labels = _candidates(joint, outputs.grid.levels, settings)
    scores = joint[position, labels].sqrt()
    boxes = point_boxes(outputs, torch.full_like(position, image), position)
    height, width = image_size
    limit = boxes.new_tensor([width, height, width, height])
    boxes = boxes.clamp(min=0).minimum(limit)
    keep = batched_nms(boxes, scores, labels, settings.nms_threshold)[: settings.max_detections]
    return position[keep], boxes[keep], scores[keep], labels[keep]


def point_boxes(outputs: PointOutputs, image_index: Tensor, position: Tensor) -> Tensor:
    """(K, 4) boxes in input pixels that points predict; `image_index`, `position` are (K,)."""
    ltrb = outputs.ltrb[image_index, position].float() * outputs.grid.strides[position, None]
    return decode_ltrb(outputs.grid.points[position], ltrb)


def _candidates(joint: Tensor, levels: Tensor, settings: FCOSSettings) -> tuple[Tensor, Tensor]:
    """Point and class of all scores above the threshold, the best ones of each level."""
    kept_positions, kept_labels = [], []
    for level in range(int(levels.max()) + 1):
        position, labels = (
            (joint > settings.score_threshold) & (levels == level)[:, None]
        ).nonzero(as_tuple=True)
        scores = joint[position, labels]
        best = scores.topk(min(settings.num_before_nms, len(scores))).indices
        kept_positions.append(position[best])
        kept_labels.append(labels[best])
    return torch.cat(kept_positions), torch.cat(kept_labels)
