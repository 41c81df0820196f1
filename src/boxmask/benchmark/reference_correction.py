"""Pseudo masks and pasting beside stored values of the published code.

One function a file, as in `reference_terms`. K mask samples, N objects.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from boxmask.benchmark import published_forms
from boxmask.benchmark.reference_comparison import (
    WHOLE,
    Comparison,
    StoredValues,
    Tolerance,
    compared,
)
from boxmask.benchmark.reference_terms import maps_of
from boxmask.box_supervision.cut_out import CutOut, CuttingOut
from boxmask.box_supervision.pasting import LeastVisible, paste_objects
from boxmask.box_supervision.self_correction import (
    PseudoMasks,
    adaptive_thresholds,
    fuse,
    positive_weights,
    pseudo_masks,
    weighted_masks,
)
from boxmask.ops.masks import boxes_of_masks
from boxmask.structures import Batch, Targets

# Cells nearer to a threshold than this may fall on either side of it by rounding.
ROUNDING = 1e-5
# Objects to paste are remembered in whole grey levels.
GREY_LEVEL = Tolerance(relative=0.0, absolute=0.5 + 1e-3)
# The published code drops an object only when nothing of it is left.
PASTE = LeastVisible(share=0.0, side=1.0)


@dataclass(frozen=True, kw_only=True)
class PublishedCorrection:
    """Pseudo masks as the published code makes them, of N objects.

    Attributes:
        instance: (N, h, w) in 0..1, mean of the teacher's masks.
        thresholds: (N,) of the foreground.
        masks: the pseudo masks.
    """

    instance: Tensor
    thresholds: Tensor
    masks: PseudoMasks


def published_correction(
    scores: Tensor, semantic: Tensor, inside: Tensor, index: Tensor
) -> PublishedCorrection:
    """Pseudo masks at mu = 0 and temperature 1.

    Args:
        scores: (K, h, w) in 0..1, the teacher's masks.
        semantic: (K, h, w) cosines to the nearest prototype of the class.
        inside: (N, h, w) bool, cells of the boxes.
        index: (K,) object of each sample.
    """
    settings = published_forms.PSEUDO_MASKS
    boxes = boxes_of_masks(inside)[index]  # at mu = 0 all weigh the same, whatever the boxes
    weights = positive_weights(boxes, boxes, index, len(inside), sharpness=settings.sharpness)
    instance, known = weighted_masks(scores, weights, index, len(inside))
    of_objects = torch.zeros_like(instance)
    of_objects[index] = semantic
    fused = fuse(of_objects, instance, torch.ones_like(known), settings)
    return PublishedCorrection(
        instance=instance,
        thresholds=adaptive_thresholds(fused, instance, inside, settings),
        masks=pseudo_masks(fused, instance, inside, torch.zeros_like(inside), settings),
    )


def published_loss(scores: Tensor, masks: PseudoMasks, index: Tensor) -> Tensor:
    """The published loss of the student's scores, (K, h, w), without weight and ramp."""
    return published_forms.double_sigmoid_focal_loss(
        scores, masks.foreground[index].float(), masks.certain[index].float()
    )


def self_correction(values: StoredValues) -> list[Comparison]:
    """Pseudo masks, and the published loss towards them.

    `loss_before_ramp` is `published_forms.double_sigmoid_focal_loss` of the student's scores with
    the pseudo masks as targets and the certain cells as weight, over all samples together:
    neither times 0.3 nor ramped.
    """
    index = values["gt_inds"]
    found = published_correction(
        maps_of(values["teacher_probs"]),
        values["prototype_similarity"].amax(dim=1),
        maps_of(values["box_masks_per_gt"]) > 0,
        index,
    )
    fused, masks = found.masks.scores, found.masks
    high, low = found.thresholds[:, None, None], published_forms.PSEUDO_MASKS.low
    clear = ((fused - high).abs() > ROUNDING) & ((fused - low).abs() > ROUNDING)
    loss = published_loss(maps_of(values["student_probs"]), masks, index)
    return [
        values.compare("teacher_mean", found.instance[index]),
        values.compare("fused_map", fused[index]),
        values.compare("threshold", found.thresholds[index]),
        values.compare("pseudo_mask", masks.foreground[index].float(), WHOLE, where=clear[index]),
        values.compare("weight", masks.certain[index].float(), WHOLE, where=clear[index]),
        values.compare("loss_before_ramp", loss),
    ]


def copy_paste(values: StoredValues) -> list[Comparison]:
    """Picture, boxes, classes and masks after pasting.

    The published code draws boxes one row and column too large, and keeps each pasted mask whole,
    also where another one covers it. So originals are compared below all pasted objects, and each
    pasted object as if it were alone.
    """
    scale = 255.0 if float(values["image"].max()) > 1 else 1.0  # grey levels, or 0..1
    image, expected = values["image"] / scale, values["out_image"] / scale
    objects = _chosen_objects(values, scale)
    originals = _drawn_targets(values)
    picture, below = _pasted(image, originals, objects)
    none = originals.select(torch.arange(0))
    alone = [_pasted(image, none, [one])[1] for one in objects]
    found = [below.select(~below.trusted), *alone]
    masks = torch.cat([_masks(targets) for targets in found])
    is_pasted = torch.cat([targets.trusted for targets in found])
    covered = masks[is_pasted].any(dim=0).expand_as(image)
    return [
        compared("out_image, not pasted", (picture * 255)[~covered], (expected * 255)[~covered]),
        compared(
            "out_image, pasted", (picture * 255)[covered], (expected * 255)[covered], GREY_LEVEL
        ),
        values.compare("out_boxes_xyxy", torch.cat([targets.boxes for targets in found])),
        values.compare("out_classes", torch.cat([targets.labels for targets in found]), WHOLE),
        values.compare("out_masks", masks.float(), WHOLE),
        values.compare("out_is_pasted", is_pasted.float(), WHOLE),
    ]


def _chosen_objects(values: StoredValues, scale: float) -> list[CutOut]:
    """The objects to paste, as the package remembers them; empty ones are left out."""
    source, masks, labels = (values[f"source_{key}"] for key in ("image", "masks", "classes"))
    chosen = values["chosen"].long()
    masks = masks[chosen] > 0
    sure = torch.ones_like(masks, dtype=torch.float32)
    targets = Targets.from_boxes(boxes_of_masks(masks), labels[chosen].long())
    height, width = source.shape[-2:]
    batch = Batch(
        images=source[None] / scale,
        valid=torch.ones((1, height, width), dtype=torch.bool),
        targets=(targets,),
        image_sizes=((height, width),),
        scales=torch.ones(1, 2),
        indices=(0,),
    )
    wanted = torch.ones_like(chosen, dtype=torch.bool)
    (found,) = CuttingOut(batch, masks, boxes_of_masks(masks), sure, wanted).objects()
    return [one.cut() for one in found]


def _drawn_targets(values: StoredValues) -> Targets:
    """The boxes as the published code draws them, with their filled masks."""
    image = values["image"]
    drawn = published_forms.drawn_boxes(values["boxes_xyxy"], (image.shape[-2], image.shape[-1]))
    return replace(Targets.from_boxes(boxes_of_masks(drawn), values["classes"]), masks=drawn)


def _pasted(image: Tensor, targets: Targets, objects: list[CutOut]) -> tuple[Tensor, Targets]:
    """The picture and its objects after pasting; as they were where nothing is pasted."""
    size = (image.shape[-2], image.shape[-1])
    return paste_objects(image, targets, objects, size, PASTE) or (image, targets)


def _masks(targets: Targets) -> Tensor:
    assert targets.masks is not None
    return targets.masks
