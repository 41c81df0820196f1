"""A trained model on a device: pictures in, objects at the pictures' size out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from boxmask.api.device import pick_device
from boxmask.data.loader import collate
from boxmask.data.transforms import Sample, resize_short_side
from boxmask.evaluation.coco_ap import FoundObjects
from boxmask.evaluation.scorer import found_objects
from boxmask.recipes.saved_model import SavedModel
from boxmask.structures import Batch, Targets

Picture = NDArray[np.uint8]


class Clock:
    """Seconds that each kind of work took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def time(self, work: str) -> Iterator[None]:
        """Adds the time of the block to `work`."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[work] = self.seconds.get(work, 0.0) + time.perf_counter() - begin


class Finder:
    """Finds objects with a trained model.

    Args:
        saved: the model; it is moved to the device.
        device: "auto", "cpu", "cuda", ...
        image_size: short side in pixels that pictures are resized to; None for the model's.

    Raises:
        UserError: If there is no such device.
    """

    def __init__(self, saved: SavedModel, device: str, image_size: int | None = None) -> None:
        self.saved = saved
        self.device = pick_device(device)
        self.image_size = image_size or saved.image_size
        self.detector = saved.detector.to(self.device).eval()
        self.clock = Clock()

    def batch(self, pictures: Sequence[Picture], targets: Sequence[Targets] | None = None) -> Batch:
        """Pads resized pictures, (H, W, 3) uint8 RGB each, with given boxes if any."""
        if targets is None:
            nothing = Targets.from_boxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
            targets = [nothing] * len(pictures)
        samples = [
            Sample(
                image=torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))),
                targets=target,
            )
            for picture, target in zip(pictures, targets, strict=True)
        ]
        return collate(
            [
                (index, "", resize_short_side(sample, self.image_size))
                for index, sample in enumerate(samples)
            ]
        )

    @torch.no_grad()
    def find(
        self,
        batch: Batch,
        image_sizes: Sequence[tuple[int, int]],
        threshold: float,
        *,
        refine: bool = True,
    ) -> list[FoundObjects]:
        """What the model finds in each picture, best score first, in pixels of the picture.

        Args:
            batch: resized pictures.
            image_sizes: (height, width) of the pictures as they were.
            threshold: least score, in 0..1.
            refine: draw borders of masks to borders of colours.
        """
        with self.clock.time("model"):
            moved = batch.to(self.device)
            outputs = self.detector(moved.images, moved.valid)
            found = self.detector.detections(outputs, batch.image_sizes)
            kept = [one.select(one.scores >= threshold).to("cpu") for one in found]
        with self.clock.time("post-processing"):
            pictures = batch.pixels() if refine else [None] * len(batch)
            scales = [(float(x), float(y)) for x, y in batch.scales.tolist()]
            return [
                found_objects(one, scale, size, picture)
                for one, scale, size, picture in zip(
                    kept, scales, image_sizes, pictures, strict=True
                )
            ]
