"""CondInst's heads in training beside stored values of the published code, up to SIM's losses.

M positive points of a batch, K of them kept for masks, N objects.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from boxmask.benchmark import published_forms
from boxmask.benchmark.reference_comparison import (
    STANDARD,
    WHOLE,
    Comparison,
    StoredValues,
    Tolerance,
    compared,
)
from boxmask.benchmark.reference_correction import published_correction, published_loss
from boxmask.benchmark.reference_heads import (
    LEVELS,
    OF_LARGEST,
    WEIGHTS,
    beside,
    compare_masks,
    image_size,
    load_heads,
)
from boxmask.benchmark.reference_terms import DILATION
from boxmask.box_supervision.projection_loss import projection_distances
from boxmask.detectors.condinst import CondInstHeads, CondInstOutputs
from boxmask.detectors.detector import SampleAssignment
from boxmask.detectors.fcos import PointTargets, detection_losses
from boxmask.ops.affinity import feature_similarity
from boxmask.ops.pairwise import pairwise_sum
from boxmask.prototypes.prototype_bank import PrototypeBank, PrototypeSettings
from boxmask.structures import MaskSamples, Targets

DETECTION_LOSSES = {"class": "cls", "box": "loc", "centerness": "ctr"}  # ours: theirs

# What tells a positive point from all others: image, object of the batch, x, y, level.
PointKey = tuple[int, int, float, float, int]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A forward pass in training mode.

    Attributes:
        heads: with the stored weights.
        outputs: of the stored features.
        assignment: of points to the stored boxes.
        positives: each positive point and its place in `assignment.detection`.
        kept: each kept point and its place in `assignment`.
    """

    heads: CondInstHeads
    outputs: CondInstOutputs
    assignment: SampleAssignment
    positives: dict[PointKey, int]
    kept: dict[PointKey, int]


def condinst_heads_train(values: StoredValues) -> list[Comparison]:
    """Targets, detection losses, mask features, kept points, their masks, box losses, pseudo loss.

    Points are compared as sets, and what belongs to them point by point. Where the kept points
    differ, masks and their losses cannot be compared.
    """
    run = _forward(values)
    positives, kept = _stored_points(values, "pos"), _stored_points(values, "kept")
    comparisons = [
        values.compare("out.num_positives", torch.tensor(len(run.positives)), WHOLE),
        _points_alone("out.pos", run.positives, positives),
        *_detection_losses(values, run),
        values.compare("out.mask_feats", run.outputs.features),
        values.compare("out.kept_count", torch.tensor(len(run.kept)), WHOLE),
        _points_alone("out.kept", run.kept, kept),
    ]
    if not all(one.ok for one in comparisons):
        return comparisons
    order = torch.tensor([run.positives[one] for one in positives], dtype=torch.int64)
    comparisons += _targets(values, run, order)
    order = torch.tensor([run.kept[one] for one in kept], dtype=torch.int64)
    samples = run.heads.mask_samples(run.outputs, run.assignment).select(order)
    return comparisons + _masks_and_losses(values, samples)


def _forward(values: StoredValues) -> Trained:
    weights = beside(values, WEIGHTS)
    heads = load_heads(weights, samples_per_image=_samples_per_image(values)).train()
    counts = values["in.boxes_per_image"].tolist()
    boxes, classes = values["in.boxes_xyxy"].split(counts), values["in.classes"].split(counts)
    targets = [Targets.from_boxes(b, c) for b, c in zip(boxes, classes, strict=True)]
    with torch.no_grad():
        outputs = heads([values[f"in.p{level}"] for level in LEVELS])
        assignment = heads.assign(outputs, targets)
    assert assignment.detection is not None
    return Trained(
        heads=heads,
        outputs=outputs,
        assignment=assignment,
        positives=_our_points(outputs, assignment.detection),
        kept=_our_points(outputs, assignment),
    )


def _samples_per_image(values: StoredValues) -> int:
    """The least number a picture that, shared out over its objects, keeps as many as are stored.

    The published code never keeps less than one point of an object.
    """
    objects, counts = values["out.pos_gt_inds"].unique(return_counts=True)
    if len(objects) == 0:
        return 1
    owned = values["in.boxes_per_image"]
    image = torch.arange(len(owned)).repeat_interleave(owned)[objects]
    in_image = torch.bincount(image, minlength=len(owned))[image]  # objects of each one's picture
    wanted, most = int(values["out.kept_count"]), int(in_image.max() * counts.max())
    for number in range(int(in_image.max()), most):
        if int(torch.minimum(number // in_image, counts).sum()) >= wanted:
            return number
    return most


def _our_points(
    outputs: CondInstOutputs, found: PointTargets | SampleAssignment
) -> dict[PointKey, int]:
    grid = outputs.points.grid
    return {
        key: place
        for place, key in enumerate(
            _point_keys(
                found.image_index,
                found.instance_index,
                grid.points[found.position],
                grid.levels[found.position],
            )
        )
    }


def _stored_points(values: StoredValues, group: str) -> list[PointKey]:
    names = ("im_inds", "gt_inds", "locations", "levels")
    return _point_keys(*(values[f"out.{group}_{name}"] for name in names))


def _point_keys(images: Tensor, objects: Tensor, places: Tensor, levels: Tensor) -> list[PointKey]:
    rows = zip(images.tolist(), objects.tolist(), places.tolist(), levels.tolist(), strict=True)
    return [(image, one, x, y, level) for image, one, (x, y), level in rows]


def _points_alone(name: str, ours: dict[PointKey, int], stored: list[PointKey]) -> Comparison:
    """Which points are ours alone, or theirs alone: none should be."""
    known = set(stored)
    alone = [key not in known for key in ours] + [key not in ours for key in stored]
    found = torch.tensor(alone, dtype=torch.float32)
    return compared(f"{name}, points", found, torch.zeros_like(found), WHOLE)


def _targets(values: StoredValues, run: Trained, order: Tensor) -> list[Comparison]:
    """What the positive points should predict, in the order of the stored ones."""
    found = run.assignment.detection
    assert found is not None
    labels = found.labels[found.image_index, found.position]
    return [
        values.compare("out.pos_labels", labels[order], WHOLE),
        values.compare("out.pos_reg_targets", found.ltrb[order]),
        values.compare("out.pos_ctr_targets", found.centerness[order]),
    ]


def _detection_losses(values: StoredValues, run: Trained) -> list[Comparison]:
    found = run.assignment.detection
    assert found is not None
    losses = detection_losses(run.outputs.points, found, run.heads.settings.fcos)
    return [
        values.compare(
            f"out.loss_fcos_{theirs}", losses[f"loss_{ours}"].total / losses[f"loss_{ours}"].count
        )
        for ours, theirs in DETECTION_LOSSES.items()
    ]


@torch.no_grad()
def _masks_and_losses(values: StoredValues, samples: MaskSamples) -> list[Comparison]:
    """Masks, and the losses on them; samples are in the order of the stored ones."""
    stored = values["out.mask_logits_stride4"]
    largest = float(samples.logits.abs().max())
    boxes = published_forms.box_masks(samples.boxes, image_size(values), CondInstHeads.mask_stride)
    axes = projection_distances(samples.logits, boxes.any(dim=1), boxes.any(dim=2))
    projection = axes.sum(dim=1).mean()
    return [
        *compare_masks(
            values, "out.mask_logits_stride4", samples.logits[: len(stored)],
            absolute=OF_LARGEST * largest,
        ),
        values.compare("out.boxinst_loss_projection", projection),
        values.compare("out.sim_loss_projection", projection),
        *_pairwise_losses(values, samples, boxes),
        *_pseudo_losses(values, samples, boxes),
    ]  # fmt: skip


def _pairwise_losses(values: StoredValues, samples: MaskSamples, boxes: Tensor) -> list[Comparison]:
    """BoxInst's pairwise term, by colours; SIM's, by colours and features, ramped."""
    images, valid = values["in.image_rgb_u8"].float() / 255, values["in.valid_mask"] > 0
    by_color = published_forms.color_similarity(images, valid, CondInstHeads.mask_stride, DILATION)
    # Unlike ours, the features are neither of unit length nor on the masks' own grid.
    features = _published_features(samples)
    by_both = by_color * feature_similarity(features, DILATION)

    def loss(similar: Tensor) -> Tensor:
        total, count = pairwise_sum(
            samples.logits, similar, boxes, samples.image_index, dilation=DILATION
        )
        return total / count.clamp(min=1)

    boxinst = values.matching(r"out\.boxinst_loss_pairwise_thr([\d.]+)")
    sim = values.matching(r"out\.sim_loss_pairwise_thr([\d.]+)_iter(\d+)")
    return [
        *(
            values.compare(key, loss(by_color >= float(key_of[1])))
            for key, key_of in boxinst.items()
        ),
        *(
            values.compare(
                key,
                loss(by_both >= float(key_of[1])) * published_forms.pairwise_ramp(int(key_of[2])),
            )
            for key, key_of in sim.items()
        ),
    ]


def _pseudo_losses(values: StoredValues, samples: MaskSamples, boxes: Tensor) -> list[Comparison]:
    """SIM's pseudo mask loss of a teacher that equals the student, with its weight and ramp."""
    prototypes = values["in.prototypes"]
    num_classes, per_class, channels = prototypes.shape
    bank = PrototypeBank(num_classes, channels, PrototypeSettings(per_class=per_class))
    bank.vectors.copy_(published_forms.unit_over_prototypes(prototypes))
    semantic = bank.similarity(_published_features(samples), samples.image_index, samples.labels)
    index, scores = samples.instance_index, samples.logits.sigmoid()
    inside = torch.zeros((len(values["in.classes"]), *scores.shape[1:]), dtype=torch.bool)
    inside[index] = boxes
    correction = published_correction(scores, semantic, inside, index)
    loss = published_loss(scores, correction.masks, index)
    comparisons = []
    for key, key_of in values.matching(r"out\.sim_loss_pseudo_iter(\d+)").items():
        weight = published_forms.pseudo_ramp(int(key_of[1]))
        # As strict as without the weight, which makes the loss small.
        tolerance = Tolerance(absolute=STANDARD.absolute * weight)
        comparisons.append(values.compare(key, loss * weight, tolerance))
    return comparisons


def _published_features(samples: MaskSamples) -> Tensor:
    """Mask features on a grid as fine as the masks', (B, D, h, w)."""
    assert samples.features is not None
    factor = samples.logits.shape[-1] // samples.features.shape[-1]
    return published_forms.half_pixel_upsample(samples.features, factor)
