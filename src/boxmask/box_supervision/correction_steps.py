"""How pseudo masks come about, step by step: for people who look, not for learning."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from boxmask.box_supervision.correction import Correction
from boxmask.box_supervision.objective import Objective
from boxmask.box_supervision.self_correction import (
    adaptive_thresholds,
    positive_weights,
    weighted_masks,
)
from boxmask.box_supervision.self_correction_loss import SelfCorrectionLoss
from boxmask.box_supervision.weak_loss import LossContext
from boxmask.ops.boxes import paired_iou
from boxmask.ops.masks import aligned_upsample
from boxmask.structures import Batch, MaskSamples


@dataclass(frozen=True, kw_only=True)
class CorrectionSteps:
    """All that lies between the K samples of a batch and the pseudo masks of its N objects.

    Attributes:
        samples: the samples, of the model that makes pseudo masks.
        correction: what the loss makes of them; its `instance` is the weighted mean.
        seen: (N,) bool, objects whose class has prototypes. Others teach nothing yet.
        fits: (K,) in 0..1, IoU of predicted and given box.
        weights: (K,) in 0..1, w of each sample; they sum to 1 within an object.
        mean: (N, h, w) in 0..1, plain mean of an object's samples: mu = 0.
        semantic: (N, h, w) in 0..1, sigmoid(cosine / tau).
        high: (N,) in 0..1, threshold above which a cell is foreground.
    """

    samples: MaskSamples
    correction: Correction
    seen: Tensor
    fits: Tensor
    weights: Tensor
    mean: Tensor
    semantic: Tensor
    high: Tensor


@dataclass(frozen=True, kw_only=True)
class PrototypeMap:
    """Which prototype of a class each cell of an image is nearest to.

    Attributes:
        label: the class.
        nearest: (h, w) int64, prototype in 0..L-1.
        cosine: (h, w) in -1..1, to that prototype.
        inside: (h, w) bool, cells of the boxes of the class.
        counts: (L,) int64, cells of `inside` by prototype.
    """

    label: int
    nearest: Tensor
    cosine: Tensor
    inside: Tensor
    counts: Tensor


def self_correction_of(objective: Objective) -> SelfCorrectionLoss | None:
    """The objective's loss that makes pseudo masks, if it has one."""
    found = (loss for loss in objective.losses.values() if isinstance(loss, SelfCorrectionLoss))
    return next(found, None)


@torch.no_grad()
def correction_steps(
    loss: SelfCorrectionLoss, batch: Batch, samples: MaskSamples
) -> CorrectionSteps:
    """Goes once more through what the loss does with a batch; changes nothing.

    Args:
        loss: with its prototypes.
        batch: images and boxes.
        samples: K samples of its objects, of the moving average.
    """
    context = LossContext(batch=batch, student=samples, teacher=samples, progress=1.0)
    correction = loss.correct(context)
    settings = loss.settings.pseudo
    places = (samples.predicted_boxes, samples.boxes, samples.instance_index)
    num_objects = len(correction.labels)
    equal, weights = (
        positive_weights(*places, num_objects, sharpness=sharpness)
        for sharpness in (0.0, settings.sharpness)
    )
    scores = samples.logits.float().sigmoid()
    mean, _ = weighted_masks(scores, equal, samples.instance_index, num_objects)
    return CorrectionSteps(
        samples=samples,
        correction=correction,
        seen=loss.bank.seen[correction.labels],
        fits=paired_iou(samples.predicted_boxes, samples.boxes),
        weights=weights,
        mean=mean,
        semantic=torch.sigmoid(correction.semantic / settings.temperature),
        high=adaptive_thresholds(
            correction.masks.scores,
            correction.instance,
            correction.inside & ~correction.claimed,
            settings,
        ),
    )


@torch.no_grad()
def prototype_maps(loss: SelfCorrectionLoss, steps: CorrectionSteps) -> list[PrototypeMap]:
    """For each class of a batch of one image: what its prototypes see there.

    Args:
        loss: with its prototypes.
        steps: of one image.

    Returns:
        One for each class with a box and prototypes, in the order of classes.
    """
    correction, features = steps.correction, steps.samples.features
    assert features is not None
    assert len(features) == 1
    size = correction.instance.shape[-2:]
    unit = F.normalize(features.float(), dim=1)[0].flatten(1)  # (D, h' * w')
    maps = []
    for label in correction.labels[steps.seen].unique().tolist():
        cosines = (loss.bank.vectors[label] @ unit).unflatten(-1, features.shape[-2:])
        cosines = aligned_upsample(cosines[None], size[-1] // features.shape[-1])[0]  # (L, h, w)
        cosine, nearest = cosines.max(dim=0)
        inside = correction.inside[correction.labels == label].any(dim=0)
        counts = nearest[inside].bincount(minlength=len(cosines))
        maps.append(
            PrototypeMap(label=label, nearest=nearest, cosine=cosine, inside=inside, counts=counts)
        )
    return maps
