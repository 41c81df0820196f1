"""Objects of earlier pictures, cut out by their pseudo masks, pasted into later ones."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from boxmask.box_supervision.cut_out import CutOut, CuttingOut, RoughCut
from boxmask.box_supervision.pasting import (
    LeastVisible,
    paint,
    sent_with_pieces,
    visible_pieces,
    with_pieces,
)
from boxmask.box_supervision.placing import PlacingSettings, place_objects
from boxmask.structures import Batch

Objects = Sequence[CutOut | RoughCut]  # of one picture


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
        visible: what must stay visible of an object, else it is dropped.
        placing: how new places are drawn; None pastes at the old place and size. Paper: None.
    """

    capacity: int = 100
    probability: float = 0.5
    passes: float = 0.0
    fraction: float = 0.25
    most: int = 3
    score_power: float = 3.0
    least_fit: float = 0.75
    visible: LeastVisible = field(default_factory=LeastVisible)
    placing: PlacingSettings | None = None

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
        self.pictures: deque[Objects] = deque(maxlen=settings.capacity)
        self._awaited: CuttingOut | None = None
        self._arrived: Sequence[Objects] = ()  # of an earlier part of the run

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

    def remember(self, objects: Objects) -> None:
        """Adds the objects of one picture; the oldest picture goes when the bank is full."""
        if objects:
            self.pictures.append(objects)

    def await_objects(self, objects: CuttingOut) -> None:
        """Remembers those that were awaited before; these ones follow when the next come."""
        for picture in self._take():
            self.remember(picture)
        self._awaited = objects

    def _take(self) -> Sequence[Objects]:
        """The awaited objects; they are awaited no longer."""
        taken = self._arrived
        if self._awaited is not None:
            taken = self._awaited.objects()
        self._awaited, self._arrived = None, ()
        return taken

    def paste(self, batch: Batch) -> tuple[Batch, tuple[int, ...]]:
        """Pastes objects into some pictures, once the bank is full.

        Args:
            batch: images and boxes.

        Returns:
            The batch, and the positions of the pictures that were changed. Pasted objects come
            last among their picture's, with a trusted mask. What a batch on a GPU remembers of
            the host has the new objects, and its pictures as they were.
        """
        if len(self) < self.settings.capacity:
            return batch, ()
        host, device = batch.host, batch.images.device
        drawn = self._draw_pieces(host)
        if not drawn:
            return batch, ()
        images, targets = batch.images.clone(), list(batch.targets)
        on_host, size = list(host.targets), (images.shape[-2], images.shape[-1])
        for position, pieces in drawn.items():
            paint(images[position], pieces)
            before = on_host[position]
            after = with_pieces(before, pieces, size, self.settings.visible)
            on_host[position] = targets[position] = after
            if device.type != "cpu" and before.masks is None:
                targets[position] = sent_with_pieces(after, pieces, device)
            elif device.type != "cpu":
                targets[position] = after.to(device, non_blocking=True)
        pasted = replace(batch, images=images, targets=tuple(targets))
        pasted.remember(replace(host, targets=tuple(on_host)))
        return pasted, tuple(drawn)

    def _draw_pieces(self, batch: Batch) -> dict[int, list[CutOut]]:
        """What is pasted into which pictures of a batch on the CPU; all of it can be seen."""
        drawn = {}
        for position, size in enumerate(batch.image_sizes):
            if float(torch.rand(())) >= self.probability:
                continue
            source = self.pictures[int(torch.randint(len(self), ()))]
            objects = self.draw_placed(source, batch.targets[position].boxes, size)
            pieces = visible_pieces(objects, size, self.settings.visible)
            if pieces:
                drawn[position] = pieces
        return drawn

    def draw_placed(self, source: Objects, boxes: Tensor, size: tuple[int, int]) -> list[CutOut]:
        """Objects to paste, each where it goes in a picture.

        Args:
            source: the objects of a remembered picture.
            boxes: (N, 4) of the picture that they go to, on the CPU.
            size: its (height, width).
        """
        objects = [source[index].cut() for index in self.draw(source)]
        if self.settings.placing is None:
            return objects
        return place_objects(objects, boxes, size, self.settings.placing)

    def draw(self, source: Objects) -> list[int]:
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
            name: [[vars(one.cut()) for one in objects] for objects in pictures]
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
