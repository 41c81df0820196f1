"""Objects of earlier pictures, cut out by their pseudo masks, pasted into later ones."""

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from boxmask.box_supervision.cut_out import CutOut, CuttingOut
from boxmask.ops.masks import boxes_of_masks
from boxmask.structures import Batch, Targets
from boxmask.waitless import send


@dataclass(frozen=True, kw_only=True)
class CopyPasteSettings:
    """Settings of the online copy-paste.

    Attributes:
        capacity: pictures that the bank remembers. Paper: 100; published code: 50.
        probability: of pasting into a picture, in 0..1, once the bank is full. Code: 0.5.
        passes: over the training pictures that a run makes for this probability; one that makes
            fewer pastes less, in proportion. 0: no matter how many.
        fraction: share of a remembered picture's objects that are pasted. Paper: 0.25.
        most: objects pasted into a picture at most. Paper: 3.
        score_power: objects are drawn with weights score to this power. Code: 3.
        least_fit: IoU, in 0..1, of the pseudo mask's own box with the given one from which an
            object is remembered: others would teach wrong boxes. Paper: 0.
        least_visible: share of an object, in 0..1, that must stay visible, else it is dropped.
        least_side: pixels of the shorter side that a visible object must have.
    """

    capacity: int = 100
    probability: float = 0.5
    passes: float = 0.0
    fraction: float = 0.25
    most: int = 3
    score_power: float = 3.0
    least_fit: float = 0.75
    least_visible: float = 0.25
    least_side: float = 4.0

    def build(self) -> "CopyPasteBank":
        """An empty bank."""
        return CopyPasteBank(self)


class CopyPasteBank(nn.Module):
    """First in, first out: the objects of the last pictures; pastes some of them into new ones.

    Objects of one step come in with the next, when the device has long told what they are. All is
    part of the state dict, so that an interrupted run goes on with the same objects.

    Args:
        settings: see `CopyPasteSettings`.

    Source: SIM (CVPR 2023), section 3.3.
    """

    def __init__(self, settings: CopyPasteSettings) -> None:
        super().__init__()
        self.settings = settings
        self.passes = math.inf  # how often the run looks at each picture
        self.pictures: deque[tuple[CutOut, ...]] = deque(maxlen=settings.capacity)
        self._awaited: CuttingOut | None = None
        self._arrived: list[tuple[CutOut, ...]] = []  # of an earlier part of the run

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def probability(self) -> float:
        """Of pasting into a picture, in 0..1.

        Pictures that are seen again and again need variants, or they are learned by heart; others
        teach more as they are.
        """
        share = self.passes / self.settings.passes if self.settings.passes else 1.0
        return self.settings.probability * min(share, 1.0)

    def remember(self, objects: tuple[CutOut, ...]) -> None:
        """Adds the objects of one picture; the oldest picture goes when the bank is full."""
        if objects:
            self.pictures.append(objects)

    def await_objects(self, objects: CuttingOut) -> None:
        """Remembers those that were awaited before; these ones follow when the next come."""
        for picture in self._take():
            self.remember(picture)
        self._awaited = objects

    def _take(self) -> list[tuple[CutOut, ...]]:
        """The awaited objects; they are awaited no longer."""
        taken = self._arrived
        if self._awaited is not None:
            taken = self._awaited.objects()
        self._awaited, self._arrived = None, []
        return taken

    def paste(self, batch: Batch) -> tuple[Batch, tuple[int, ...]]:
        """Pastes objects into some pictures, once the bank is full.

        Args:
            batch: images and boxes.

        Returns:
            The batch, and the positions of the pictures that were changed. Pasted objects come
            last among their picture's, with a trusted mask.
        """
        if len(self) < self.settings.capacity:
            return batch, ()
        pasted, changed = self._paste_on_host(batch.host)
        device = batch.images.device
        if not changed:
            return batch, ()
        if device.type == "cpu":
            return pasted, changed
        images, targets = batch.images.clone(), list(batch.targets)
        for position in changed:
            images[position] = send(pasted.images[position], device)
            targets[position] = pasted.targets[position].to(device, non_blocking=True)
        sent = replace(batch, images=images, targets=tuple(targets))
        sent.remember(pasted)
        return sent, changed

    def _paste_on_host(self, batch: Batch) -> tuple[Batch, tuple[int, ...]]:
        images, targets, changed = batch.images.clone(), list(batch.targets), []
        for position, size in enumerate(batch.image_sizes):
            if float(torch.rand(())) >= self.probability:
                continue
            source = self.pictures[int(torch.randint(len(self), ()))]
            objects = [source[index] for index in self.draw(source)]
            painted = paste_objects(
                images[position], targets[position], objects, size, self.settings
            )
            if painted is not None:
                images[position], targets[position] = painted
                changed.append(position)
        return replace(batch, images=images, targets=tuple(targets)), tuple(changed)

    def draw(self, source: tuple[CutOut, ...]) -> list[int]:
        """Which objects of a remembered picture to paste: no object twice, none of score 0."""
        settings = self.settings
        count = min(max(round(settings.fraction * len(source)), 1), settings.most)
        weights = torch.tensor([one.score for one in source]).clamp(min=0) ** settings.score_power
        count = min(count, int((weights > 0).sum()))
        if count == 0:
            return []
        return torch.multinomial(weights, count, replacement=False).tolist()

    def get_extra_state(self) -> dict[str, Any]:
        """The bank's content and what it awaits, for the state dict; this waits for the device."""
        self._arrived = self._take()
        return {
            name: [[vars(one) for one in objects] for objects in pictures]
            for name, pictures in (("pictures", self.pictures), ("arrived", self._arrived))
        }

    def set_extra_state(self, state: dict[str, Any] | list[Any]) -> None:
        """Takes the content back, also from the first form of saved runs, pictures alone."""
        if isinstance(state, list):
            state = {"pictures": state, "arrived": []}
        pictures, arrived = (
            [tuple(CutOut(**one) for one in objects) for objects in state[name]]
            for name in ("pictures", "arrived")
        )
        self.pictures.clear()
        self.pictures.extend(pictures)
        self._awaited, self._arrived = None, arrived


def paste_objects(
    image: Tensor,
    targets: Targets,
    objects: list[CutOut],
    image_size: tuple[int, int],
    settings: CopyPasteSettings,
) -> tuple[Tensor, Targets] | None:
    """Composes objects over an image, at the place they had in their own.

    Args:
        image: (3, H, W) RGB in 0..1, padded.
        targets: its objects.
        objects: what to paste; later ones cover earlier ones.
        image_size: (height, width) without padding; what lies beyond is cut off.
        settings: what must stay visible.

    Returns:
        The new image and targets, or None where nothing visible was pasted.
    """
    layers = [_layer(one, image_size) for one in objects]
    visible = [  # pixels that no later object covers
        mask & ~torch.stack([m for m, _ in layers[index + 1 :]] or [torch.zeros_like(mask)]).any(0)
        for index, (mask, _) in enumerate(layers)
    ]
    kept = [
        index
        for index, one in enumerate(objects)
        if _stays(visible[index], one.mask.sum(), settings)
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
    covered = covered_originals(targets, masks.any(dim=0), settings)
    labels = torch.tensor([objects[index].label for index in kept], device=image.device)
    return image, _with_pasted(covered, masks, labels)


def covered_originals(targets: Targets, paste: Tensor, settings: CopyPasteSettings) -> Targets:
    """What is left of the objects under a paste.

    Where an object really ends inside its box is not known. Its box shrinks to what is not
    covered; an axis on which the paste reaches an end of the old box is no longer tight.

    Args:
        targets: N objects.
        paste: (H, W) bool, pasted pixels.
        settings: what must stay visible.
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
    keep = (share >= settings.least_visible) & (sides >= settings.least_side)
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


def _stays(visible: Tensor, whole: Tensor, settings: CopyPasteSettings) -> bool:
    """Whether enough of a pasted object is to be seen."""
    if not bool(visible.any()):
        return False
    box = boxes_of_masks(visible[None])[0]
    enough = float(visible.sum()) >= settings.least_visible * float(whole)
    return enough and float((box[2:] - box[:2]).min()) >= settings.least_side


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
