"""Pastes objects into a picture, and finds what is left of those that were there."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from boxmask.box_supervision.cut_out import CutOut
from boxmask.ops.masks import boxes_of_masks
from boxmask.structures import Targets


@dataclass(frozen=True, kw_only=True)
class LeastVisible:
    """What must be seen of an object that is covered by others or cut off.

    Attributes:
        share: of its pixels, in 0..1.
        side: pixels of the shorter side of what is seen.
    """

    share: float = 0.25
    side: float = 4.0


def paste_objects(
    image: Tensor,
    targets: Targets,
    objects: list[CutOut],
    image_size: tuple[int, int],
    least: LeastVisible,
) -> tuple[Tensor, Targets] | None:
    """Composes objects over an image, each at its own corner.

    Args:
        image: (3, H, W) RGB in 0..1, padded.
        targets: its objects.
        objects: what to paste; later ones cover earlier ones.
        image_size: (height, width) without padding; what lies beyond is cut off.
        least: what must stay visible.

    Returns:
        The new image and targets, or None where nothing visible was pasted.
    """
    layers = [_layer(one, image_size) for one in objects]
    visible = [  # pixels that no later object covers
        mask & ~torch.stack([m for m, _ in layers[index + 1 :]] or [torch.zeros_like(mask)]).any(0)
        for index, (mask, _) in enumerate(layers)
    ]
    kept = [
        index for index, one in enumerate(objects) if _stays(visible[index], one.mask.sum(), least)
    ]
    if not kept:
        return None
    height, width = image.shape[-2:]
    image = image.clone()
    masks = torch.zeros((len(kept), height, width), dtype=torch.bool, device=image.device)
    for row, index in enumerate(kept):
        mask = visible[index].to(image.device)
        masks[row, : image_size[0], : image_size[1]] = mask
        region = image[:, : image_size[0], : image_size[1]]
        region[:, mask] = layers[index][1].to(image.device)[:, mask].to(image.dtype) / 255
    covered = covered_originals(targets, masks.any(dim=0), least)
    labels = torch.tensor([objects[index].label for index in kept], device=image.device)
    return image, _with_pasted(covered, masks, labels)


def covered_originals(targets: Targets, paste: Tensor, least: LeastVisible) -> Targets:
    """What is left of the objects under a paste.

    Where an object really ends inside its box is not known. Its box shrinks to what is not
    covered; an axis on which the paste reaches an end of the old box is no longer tight.

    Args:
        targets: N objects.
        paste: (H, W) bool, pasted pixels.
        least: what must stay visible.
    """
    if len(targets) == 0:
        return targets
    filled = _filled_boxes(targets.boxes, paste.shape)  # (N, H, W)
    left = filled & ~paste
    share = left.flatten(1).sum(dim=1) / filled.flatten(1).sum(dim=1).clamp(min=1)
    touched = (filled & paste).flatten(1).any(dim=1)
    shrunken = boxes_of_masks(left).to(targets.boxes.dtype)
    # A box that is not touched keeps its exact corners.
    boxes = torch.where(touched[:, None], _within(shrunken, targets.boxes), targets.boxes)
    tight = targets.tight & ~(_reaches_ends(filled, paste) & touched[:, None])
    sides = (boxes[:, 2:] - boxes[:, :2]).amin(dim=-1)
    keep = (share >= least.share) & (sides >= least.side)
    masks = None if targets.masks is None else targets.masks & ~paste
    kept = replace(targets, boxes=boxes, tight=tight, masks=masks)
    return kept.select(keep | ~touched)


def _layer(one: CutOut, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """An object on a canvas of (height, width): its mask and its colours."""
    height, width = image_size
    mask = torch.zeros((height, width), dtype=torch.bool)
    colors = torch.zeros((3, height, width), dtype=torch.uint8)
    x, y = one.corner
    rows, columns = min(one.mask.shape[0], height - y), min(one.mask.shape[1], width - x)
    if rows > 0 and columns > 0:
        mask[y : y + rows, x : x + columns] = one.mask[:rows, :columns]
        colors[:, y : y + rows, x : x + columns] = one.picture[:, :rows, :columns]
    return mask, colors


def _stays(visible: Tensor, whole: Tensor, least: LeastVisible) -> bool:
    """Whether enough of a pasted object is to be seen."""
    if not bool(visible.any()):
        return False
    box = boxes_of_masks(visible[None])[0]
    enough = float(visible.sum()) >= least.share * float(whole)
    return enough and float((box[2:] - box[:2]).min()) >= least.side


def _filled_boxes(boxes: Tensor, size: tuple[int, ...]) -> Tensor:
    """(N, H, W) bool, pixels whose centres lie in each box."""
    height, width = size
    x = torch.arange(width, device=boxes.device) + 0.5
    y = torch.arange(height, device=boxes.device) + 0.5
    columns = (x >= boxes[:, :1]) & (x < boxes[:, 2:3])  # (N, W)
    rows = (y >= boxes[:, 1:2]) & (y < boxes[:, 3:])  # (N, H)
    return rows[:, :, None] & columns[:, None, :]


def _within(boxes: Tensor, limits: Tensor) -> Tensor:
    """Boxes cut to their old ones, whose corners may lie between pixels."""
    return torch.cat(
        [
            torch.maximum(boxes[:, :2], limits[:, :2]),
            torch.minimum(boxes[:, 2:], limits[:, 2:]),
        ],
        dim=-1,
    )


def _reaches_ends(filled: Tensor, paste: Tensor) -> Tensor:
    """(N, 2) whether the paste covers part of the first or last column, or row, of each box."""
    covered = filled & paste
    ends = []
    for axis in (1, 2):  # columns are found by looking along rows, and the other way round
        occupied, hit = filled.any(dim=axis), covered.any(dim=axis)  # (N, n)
        first = occupied & ~torch.nn.functional.pad(occupied, (1, 0))[:, :-1]
        last = occupied & ~torch.nn.functional.pad(occupied, (0, 1))[:, 1:]
        ends.append(((first | last) & hit).any(dim=1))
    return torch.stack(ends, dim=-1)


def _with_pasted(targets: Targets, masks: Tensor, labels: Tensor) -> Targets:
    """Adds pasted objects behind the others; the others' masks stay what they were."""
    count = len(masks)
    others = targets.masks
    if others is None:
        others = masks.new_zeros((len(targets), *masks.shape[1:]))
    pasted_boxes = boxes_of_masks(masks).to(targets.boxes.dtype)
    return Targets(
        boxes=torch.cat([targets.boxes, pasted_boxes]),
        labels=torch.cat([targets.labels, labels.to(targets.labels.dtype)]),
        tight=torch.cat([targets.tight, targets.tight.new_ones((count, 2))]),
        masks=torch.cat([others, masks]),
        trusted=torch.cat([targets.trusted, targets.trusted.new_ones(count)]),
    )
