"""A few unit vectors a class, moved by the pixels that are assigned to them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boxmask import ranks
from boxmask.prototypes.sinkhorn import sinkhorn


@dataclass(frozen=True, kw_only=True)
class PrototypeSettings:
    """Settings of the prototypes.

    Attributes:
        per_class: prototypes L of a class. Paper: 10.
        momentum: share of the old value at each update, in 0..1, once warm. Paper: 0.999.
        epsilon: weight of the entropy in the assignment. Published code: 0.05.
        tolerance: relative error of the assignment's masses. Published code: 3 iterations.
        max_iterations: of the assignment.
        max_pixels: pixels of a class that an update looks at, all processes together.
    """

    per_class: int = 10
    momentum: float = 0.999
    epsilon: float = 0.05
    tolerance: float = 1e-3
    max_iterations: int = 100
    max_pixels: int = 1024


@dataclass(frozen=True, kw_only=True)
class ClassPixels:
    """P pixels that belong to known classes.

    Attributes:
        assigned_by: (P, D) unit vectors that decide the assignment (the teacher's).
        averaged: (P, D) unit vectors whose means the prototypes follow (the student's).
        labels: (P,) int64 class of each pixel.
        num_images: (C,) images of this process in which each class has pixels.
    """

    assigned_by: Tensor
    averaged: Tensor
    labels: Tensor
    num_images: Tensor


class PrototypeBank(nn.Module):
    """Prototypes of all classes.

    A class is unseen until its first pixels come; then its prototypes are pixels of its own. The
    momentum warms up, so that the first ones are soon forgotten. An update gives the same result
    for any number of processes and any order of pictures: pixels are gathered, and thinned out by
    a hash of their values.

    Args:
        num_classes: classes C.
        channels: channels D of the features.
        settings: see `PrototypeSettings`.

    Source: SIM (CVPR 2023), section 3.2.1.
    """

    vectors: Tensor
    updates: Tensor

    def __init__(self, num_classes: int, channels: int, settings: PrototypeSettings) -> None:
        super().__init__()
        self.settings = settings
        shape = (num_classes, settings.per_class, channels)
        self.register_buffer("vectors", torch.zeros(shape))
        self.register_buffer("updates", torch.zeros(num_classes))

    @property
    def seen(self) -> Tensor:
        """(C,) bool, classes that have had pixels."""
        return self.updates > 0

    def similarity(self, features: Tensor, image_index: Tensor, labels: Tensor) -> Tensor:
        """Cosine of each cell to the nearest prototype of a class.

        Args:
            features: (B, D, h, w), of any length.
            image_index: (M,) image of each wanted map.
            labels: (M,) its class.

        Returns:
            (M, h, w) in -1..1, 0 for unseen classes.

        Source: SIM (CVPR 2023), equation 1 before temperature and sigmoid.
        """
        unit = F.normalize(features, dim=1).flatten(2)  # (B, D, h * w)
        with torch.autocast(features.device.type, enabled=False):
            cosines = self.vectors[labels] @ unit[image_index]  # (M, L, h * w)
        return cosines.amax(dim=1).unflatten(-1, features.shape[-2:])

    @torch.no_grad()
    def update(self, pixels: ClassPixels) -> None:
        """Moves the prototypes of all classes that have pixels; others stay as they are.

        Every process must call it, also without pixels of its own.
        """
        gathered = gather_pixels(pixels)
        num_images = ranks.sum_over_ranks(pixels.num_images.float())
        counts = self.updates.new_zeros(len(self.updates))
        counts.index_add_(0, gathered.labels, torch.ones_like(gathered.labels).to(counts))
        has = counts > 0
        numbers = torch.stack([has.sum(), counts.max().long(), (has & ~self.seen).sum()])
        here, most, fresh = numbers.tolist()  # all that the host must know, in one wait
        if not here:
            return
        present = torch.argsort((~has).int(), stable=True)[:here]  # by class
        by, averaged, valid = self._by_class(gathered, present, most)
        if fresh:
            self._start(present, by, valid)
        assignment = self._assign(present, by, valid)  # (G, N) prototype, -1 where no pixel
        numbers = torch.arange(self.settings.per_class, device=assignment.device)
        chosen = (assignment[..., None] == numbers).to(averaged.dtype)  # (G, N, L)
        centroids = F.normalize(chosen.transpose(1, 2) @ averaged, dim=-1)  # (G, L, D)
        self._move(present, centroids, chosen.sum(dim=1), num_images[present])

    def _assign(self, present: Tensor, by: Tensor, valid: Tensor) -> Tensor:
        settings = self.settings
        shares = sinkhorn(
            by @ self.vectors[present].transpose(1, 2),
            epsilon=settings.epsilon,
            valid=valid,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
        )
        return torch.where(valid, shares.argmax(dim=-1), -1)

    def _by_class(
        self, pixels: ClassPixels, present: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels as padded (G, N, D), thinned out, and which of them exist, (G, N) bool.

        `most` is the largest number of pixels of a class.
        """
        of_class = pixels.labels == present[:, None]  # (G, P)
        keys = torch.where(of_class, content_hash(pixels.assigned_by), 2.0)
        width = min(most, self.settings.max_pixels)
        smallest = keys.topk(width, dim=1, largest=False)
        valid = smallest.values < 2.0
        return pixels.assigned_by[smallest.indices], pixels.averaged[smallest.indices], valid

    def _start(self, present: Tensor, by: Tensor, valid: Tensor) -> None:
        """Gives unseen classes pixels of their own, each far from those chosen before."""
        fresh = ~self.seen[present]
        by, valid = by[fresh], valid[fresh]
        nearest = torch.full(valid.shape, -2.0, device=by.device)
        for index in range(self.settings.per_class):
            farthest = nearest.masked_fill(~valid, 3.0).argmin(dim=1)  # (G,)
            chosen = by[torch.arange(len(by), device=by.device), farthest]  # (G, D)
            self.vectors[present[fresh], index] = chosen
            nearest = torch.maximum(nearest, (by @ chosen[..., None]).squeeze(-1))

    def _move(self, present: Tensor, centroids: Tensor, counts: Tensor, num_images: Tensor) -> None:
        """One step of the moving average, as many as images had the class rolled into one."""
        updates = self.updates[present]
        momentum = ((1 + updates) / (10 + updates)).clamp(max=self.settings.momentum)
        momentum = (momentum ** num_images.clamp(min=1))[:, None, None]
        old = self.vectors[present]
        moved = F.normalize(momentum * old + (1 - momentum) * centroids, dim=-1)
        self.vectors[present] = torch.where((counts > 0)[..., None], moved, old)
        self.updates[present] = updates + num_images.clamp(min=1)


def gather_pixels(pixels: ClassPixels) -> ClassPixels:
    """The pixels of all processes together; `num_images` stays this process's own."""
    if ranks.num_ranks() == 1:
        return pixels
    return ClassPixels(
        assigned_by=ranks.gather_rows(pixels.assigned_by),
        averaged=ranks.gather_rows(pixels.averaged),
        labels=ranks.gather_rows(pixels.labels),
        num_images=pixels.num_images,
    )


def content_hash(rows: Tensor) -> Tensor:
    """A number in 0..1 for each row of (P, D), spread evenly, decided by its values alone."""
    steps = torch.arange(1, rows.shape[-1] + 1, device=rows.device, dtype=torch.float64)
    mixed = (rows.double() * (12.9898 * steps.sqrt())).sum(dim=-1).sin() * 43758.5453
    return (mixed - mixed.floor()).float()
