"""Looks at one picture with a model that corrects itself: tensors in, arrays to draw out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from boxmask.box_supervision.copy_paste_bank import CopyPasteBank
from boxmask.box_supervision.correction import Correction
from boxmask.box_supervision.correction_steps import (
    CorrectionSteps,
    correction_steps,
    prototype_maps,
)
from boxmask.box_supervision.neighbors_alone import masks_of_neighbors
from boxmask.box_supervision.pasting import paste_objects
from boxmask.box_supervision.self_correction_loss import SelfCorrectionLoss
from boxmask.data.dataset import record_targets
from boxmask.data.loader import collate
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import Sample, resize_short_side
from boxmask.detectors.detector import Detector
from boxmask.structures import Batch
from boxmask.visualization.correction_panels import (
    BACKGROUND,
    FOREGROUND,
    IGNORED,
    PastedPicture,
    States,
)
from boxmask.visualization.explained import ClassPrototypes, Map, ObjectStages, SampleMask
from boxmask.visualization.views import View, view_of_image

Mask = NDArray[np.bool_]

SURE = 0.5
"""Score, in 0..1, from which a cell counts as found where masks are compared."""


@dataclass(frozen=True, kw_only=True)
class LearnedPicture:
    """One picture as a batch, and what the loss makes of it.

    Attributes:
        batch: of this picture alone.
        steps: see `CorrectionSteps`.
        states: (N, h, w) `OUTSIDE`, `FOREGROUND`, `BACKGROUND` or `IGNORED`.
    """

    batch: Batch
    steps: CorrectionSteps
    states: States

    def pixels(self) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of the network's input, without padding."""
        return image_pixels(self.batch)

    def view(self, cell: tuple[int, int]) -> View:
        """The whole picture in a cell of (height, width)."""
        height, width = self.batch.images.shape[-2:]
        return view_of_image(self.batch.image_sizes[0], (height, width), cell)

    def masks_of_neighbors(self, indices: Sequence[int]) -> NDArray[np.float32]:
        """(n, h, w) in 0..1, what like neighbours alone make of some objects."""
        correction = self.steps.correction
        chosen = torch.tensor(indices, device=correction.inside.device)
        inside, image_index = correction.inside[chosen], correction.image_index[chosen]
        return masks_of_neighbors(self.batch, inside, image_index).cpu().numpy()


@contextmanager
def own_random_numbers(device: torch.device, seed: int = 0) -> Iterator[None]:
    """Random numbers of the block's own; those of the process stay as they are.

    Args:
        device: where they are drawn, besides the CPU.
        seed: of the block.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def picture_batch(picture: NDArray[np.uint8], record: ImageRecord, image_size: int) -> Batch:
    """A batch of one picture with its boxes, crowds left out, resized only.

    Unlike a loader it draws no random number.

    Args:
        picture: (H, W, 3) RGB, the pixels of `record`.
        record: its boxes.
        image_size: short side in pixels.
    """
    image = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    sample = resize_short_side(Sample(image=image, targets=record_targets(record)), image_size)
    return collate([(0, record.name, sample)])


@torch.no_grad()
def look_at_picture(detector: Detector, loss: SelfCorrectionLoss, batch: Batch) -> LearnedPicture:
    """Makes the pseudo masks of a picture as training does, but that the average chooses samples.

    Training takes those points that the learning model, not its average, is surest of.

    Args:
        detector: the moving average, in evaluation mode.
        loss: with its prototypes.
        batch: of one picture, on the detector's device.
    """
    outputs = detector(batch.images, batch.valid)
    with own_random_numbers(batch.images.device):  # a crowd's samples are drawn
        assignment = detector.assign(outputs, batch.targets)
    samples = detector.mask_samples(outputs, assignment)
    steps = correction_steps(loss, batch, samples)
    return LearnedPicture(batch=batch, steps=steps, states=_states(steps.correction))


def _states(correction: Correction) -> States:
    masks = correction.masks
    certain = torch.where(masks.foreground, FOREGROUND, BACKGROUND)
    states = torch.where(masks.certain, certain, IGNORED) * correction.inside
    return states.byte().cpu().numpy()


def object_stages(
    learned: LearnedPicture,
    index: int,
    name: str,
    neighbors: Map,
    label_mask: Mask,
    true_mask: Mask | None,
) -> ObjectStages:
    """How the pseudo mask of one object came about.

    Args:
        learned: the picture.
        index: position of the object among those of the picture.
        name: what it is called.
        neighbors: (h, w) in 0..1, see `LearnedPicture.masks_of_neighbors`.
        label_mask: (H, W), what labelling gives, at the picture's own size.
        true_mask: (H, W), or None where there is none.
    """
    states = learned.states[index]
    steps = learned.steps
    maps = {
        "mean": steps.mean[index],
        "instance": steps.correction.instance[index],
        "semantic": steps.semantic[index],
        "fused": steps.correction.fused[index],
        "colored": steps.correction.colored[index],
        "refined": steps.correction.masks.scores[index],
    }
    arrays = {key: value.float().cpu().numpy() for key, value in maps.items()}
    arrays["neighbors"] = neighbors
    seen = bool(steps.seen[index])
    ious = {}
    if true_mask is not None:
        found = {key: array > SURE for key, array in arrays.items() if seen or key != "semantic"}
        found["pseudo"] = states == FOREGROUND
        found["label"] = on_cells(label_mask, learned.batch, states.shape)
        inside = steps.correction.inside[index].cpu().numpy()
        truth = on_cells(true_mask, learned.batch, states.shape) & inside
        ious = {key: mask_iou(mask & inside, truth) for key, mask in found.items()}
    return ObjectStages(
        name=name,
        box=learned.batch.targets[0].boxes[index].cpu().numpy(),
        neighbors=neighbors,
        mean=arrays["mean"],
        instance=arrays["instance"],
        semantic=arrays["semantic"] if seen else None,
        fused=arrays["fused"],
        colored=arrays["colored"],
        refined=arrays["refined"],
        states=states,
        high=float(steps.high[index]),
        label_mask=label_mask,
        true_mask=true_mask,
        ious=ious,
        samples=tuple(_samples_of(steps, index)),
    )


def _samples_of(steps: CorrectionSteps, index: int) -> Iterator[SampleMask]:
    """The samples of an object, heaviest first."""
    rows = (steps.samples.instance_index == index).nonzero().squeeze(-1)
    for row in rows[steps.weights[rows].argsort(descending=True, stable=True)].tolist():
        yield SampleMask(
            scores=steps.samples.logits[row].float().sigmoid().cpu().numpy(),
            box=steps.samples.predicted_boxes[row].float().cpu().numpy(),
            fit=float(steps.fits[row]),
            weight=float(steps.weights[row]),
        )


def class_prototypes(
    loss: SelfCorrectionLoss, learned: LearnedPicture, class_names: Sequence[str]
) -> list[ClassPrototypes]:
    """What prototypes see in a picture, for each class in it that has some."""
    targets = learned.batch.targets[0]
    return [
        ClassPrototypes(
            name=class_names[one.label],
            boxes=targets.boxes[targets.labels == one.label].cpu().numpy(),
            nearest=one.nearest.cpu().numpy(),
            inside=one.inside.cpu().numpy(),
            cosine=one.cosine.cpu().numpy(),
            counts=one.counts.cpu().numpy(),
        )
        for one in prototype_maps(loss, learned.steps)
    ]


def pasted_picture(batch: Batch, class_names: Sequence[str]) -> PastedPicture:
    """A picture with pasted objects.

    Args:
        batch: of one picture.
        class_names: names in the order of labels.
    """
    targets = batch.targets[0].to("cpu")
    height, width = batch.image_sizes[0]
    masks = targets.masks
    if masks is None:
        masks = torch.zeros((len(targets), *batch.images.shape[-2:]), dtype=torch.bool)
    none = torch.zeros(len(targets), dtype=torch.bool)
    return PastedPicture(
        picture=image_pixels(batch),
        boxes=targets.boxes.numpy(),
        tight=targets.tight.numpy(),
        masks=masks[:, :height, :width].numpy(),
        pasted=(none if targets.pasted is None else targets.pasted).numpy(),
        names=tuple(class_names[label] for label in targets.labels.tolist()),
    )


def pasted_variants(bank: CopyPasteBank, batch: Batch, count: int, seed: int = 0) -> list[Batch]:
    """A picture with objects of the bank, drawn as training draws them, several times.

    Args:
        bank: with any number of pictures; it need not be full.
        batch: of one picture, on the CPU.
        count: variants that are wanted; fewer where objects find no place.
        seed: of the draws; the random numbers of the process stay as they are.
    """
    variants: list[Batch] = []
    with own_random_numbers(batch.images.device, seed):
        for position in torch.randperm(len(bank)).tolist():
            source = bank.pictures[position]
            objects = bank.draw_placed(source, batch.targets[0].boxes, batch.image_sizes[0])
            visible = bank.settings.visible
            painted = paste_objects(
                batch.images[0], batch.targets[0], objects, batch.image_sizes[0], visible
            )
            if painted is not None:
                image, targets = painted
                variants.append(replace(batch, images=image[None], targets=(targets,)))
            if len(variants) == count:
                break
    return variants


def image_pixels(batch: Batch) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a batch of one picture, without padding."""
    height, width = batch.image_sizes[0]
    image = batch.images[0, :, :height, :width]
    return (image * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def mask_iou(first: Mask, second: Mask) -> float:
    """IoU of two masks of one size; 0 where both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 0.0


def on_cells(mask: Mask, batch: Batch, size: tuple[int, ...]) -> Mask:
    """A mask of a picture's size on the (h, w) grid of its maps: what most of each cell is.

    Args:
        mask: (H, W), at any resolution of the picture.
        batch: of this picture alone.
        size: (h, w) of the grid.
    """
    shares = torch.from_numpy(mask).float()[None, None]
    shares = F.interpolate(shares, size=batch.image_sizes[0], mode="area")
    height, width = batch.images.shape[-2:]
    shares = F.pad(shares, (0, width - shares.shape[-1], 0, height - shares.shape[-2]))
    return (F.adaptive_avg_pool2d(shares, (size[0], size[1]))[0, 0] >= SURE).numpy()
