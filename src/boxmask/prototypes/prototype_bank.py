"""A few unit vectors a class, moved by the pixels that are assigned to them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boxmask import ranks
from boxmask.prototypes.sinkhorn import sinkhorn
from boxmask.waitless import Fetched, send

NO_PIXEL = 2.0  # larger than every hash
# Where nobody looks whether the assignment is done. Of pixels and prototypes that are spread over
# the whole sphere, one in a thousand is then not where it will be, of others none.
UNSEEN_ITERATIONS = 30


@dataclass(frozen=True, kw_only=True)
class PrototypeSettings:
    """Settings of the prototypes.

    Attributes:
        per_class: prototypes L of a class. Paper: 10.
        momentum: share of the old value at each update, in 0..1, once warm. Paper: 0.999.
        epsilon: weight of the entropy in the assignment. Published code: 0.05.
        tolerance: relative error of the assignment's masses. Published code: 3 iterations.
        max_iterations: of the assignment; a GPU makes so many or 30 if they are fewer, without a
            look at the error.
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
    """Up to N pixels of each of G classes.

    Attributes:
        assigned_by: (G, N, D) unit vectors that decide the assignment (the teacher's).
        averaged: (G, N, D) unit vectors whose means the prototypes follow (the student's).
        valid: (G, N) bool, pixels that exist; a class may have none.
        classes: the G classes, no class twice.
        num_images: (G,) images of this process in which each class has pixels.
    """

    assigned_by: Tensor
    averaged: Tensor
    valid: Tensor
    classes: tuple[int, ...]
    num_images: Tensor


def class_pixels(
    assigned_by: Tensor, averaged: Tensor, maps: Tensor, classes: Sequence[int], most: int
) -> ClassPixels:
    """At most so many pixels of each class, thinned out by a hash of their values.

    How many there are stays on the device, so that the host does not wait.

    Args:
        assigned_by: (B, D, h, w) unit vectors.
        averaged: (B, D, h, w) unit vectors.
        maps: (B, G, h, w) bool, pixels of each class.
        classes: the G classes.
        most: pixels of a class to keep.
    """
    by, of = (one.permute(0, 2, 3, 1).flatten(0, 2) for one in (assigned_by, averaged))
    of_class = maps.transpose(0, 1).flatten(1)  # (G, B * h * w)
    keys = torch.where(of_class, content_hash(by), NO_PIXEL)
    smallest = keys.topk(min(most, len(by)), dim=1, largest=False)
    return ClassPixels(
        assigned_by=by[smallest.indices],
        averaged=of[smallest.indices],
        valid=smallest.values < NO_PIXEL,
        classes=tuple(classes),
        num_images=maps.flatten(2).any(dim=-1).sum(dim=0),
    )


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
        self._known: set[int] = set()  # classes that the host knows to be seen
        self._fetched: Fetched | None = None  # `seen`, on its way to the host
        self.register_load_state_dict_post_hook(_forget_known)

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

        Every process must call it, also without pixels of its own. A process alone does not make
        the host wait.
        """
        pixels = self._of_all_ranks(pixels)
        if not pixels.classes or not pixels.valid.numel():
            return
        device = self.updates.device
        classes = send(torch.tensor(pixels.classes), device)  # (G,)
        if not self._all_known(pixels.classes):
            self._start(classes, pixels)
        assignment = self._assign(classes, pixels)  # (G, N) prototype, -1 where no pixel
        numbers = torch.arange(self.settings.per_class, device=device)
        chosen = (assignment[..., None] == numbers).to(pixels.averaged.dtype)  # (G, N, L)
        centroids = F.normalize(chosen.transpose(1, 2) @ pixels.averaged, dim=-1)  # (G, L, D)
        self._move(classes, centroids, chosen.sum(dim=1), pixels)
        if len(self._known) < len(self.updates):
            self._fetched = Fetched(self.seen)

    def _assign(self, classes: Tensor, pixels: ClassPixels) -> Tensor:
        settings, by = self.settings, pixels.assigned_by
        looks = by.device.type == "cpu"  # elsewhere the host would have to wait
        shares = sinkhorn(
            by @ self.vectors[classes].transpose(1, 2),
            epsilon=settings.epsilon,
            valid=pixels.valid,
            tolerance=settings.tolerance if looks else 0.0,
            max_iterations=settings.max_iterations
            if looks
            else min(settings.max_iterations, UNSEEN_ITERATIONS),
        )
        return torch.where(pixels.valid, shares.argmax(dim=-1), -1)

    def _of_all_ranks(self, pixels: ClassPixels) -> ClassPixels:
        """The pixels of all processes together, thinned out again."""
        if ranks.num_ranks() == 1:
            return pixels
        device = pixels.valid.device
        own = torch.tensor(pixels.classes, dtype=torch.int64, device=device)
        by, averaged, labels = (
            ranks.gather_rows(many[pixels.valid])
            for many in (
                pixels.assigned_by,
                pixels.averaged,
                own[:, None].expand(pixels.valid.shape),
            )
        )
        num_images = self.updates.new_zeros(len(self.updates))
        num_images = ranks.sum_over_ranks(num_images.index_add(0, own, pixels.num_images.float()))
        every = labels.unique()
        together = class_pixels(
            by.T[None, :, None],
            averaged.T[None, :, None],
            (labels == every[:, None])[None, :, None],
            every.tolist(),
            self.settings.max_pixels,
        )
        return replace(together, num_images=num_images[every])

    def _all_known(self, classes: Sequence[int]) -> bool:
        """Whether the host knows all of the classes to be seen; it learns it a step later."""
        if self._fetched is not None:
            self._known.update(self._fetched.get()[0].nonzero()[:, 0].tolist())
            self._fetched = None
        return self._known.issuperset(classes)

    def _start(self, classes: Tensor, pixels: ClassPixels) -> None:
        """Gives unseen classes pixels of their own, each far from those chosen before."""
        by, valid = pixels.assigned_by, pixels.valid
        first = torch.zeros_like(self.vectors[classes])  # (G, L, D)
        nearest = torch.full(valid.shape, -2.0, device=by.device)
        rows = torch.arange(len(by), device=by.device)
        for index in range(self.settings.per_class):
            farthest = nearest.masked_fill(~valid, 3.0).argmin(dim=1)  # (G,)
            first[:, index] = chosen = by[rows, farthest]  # (G, D)
            nearest = torch.maximum(nearest, (by @ chosen[..., None]).squeeze(-1))
        fresh = valid.any(dim=1) & ~self.seen[classes]
        self.vectors[classes] = torch.where(fresh[:, None, None], first, self.vectors[classes])

    def _move(
        self, classes: Tensor, centroids: Tensor, counts: Tensor, pixels: ClassPixels
    ) -> None:
        """One step of the moving average, as many as images had the class rolled into one."""
        updates = self.updates[classes]
        images = pixels.num_images.to(updates).clamp(min=1)
        momentum = ((1 + updates) / (10 + updates)).clamp(max=self.settings.momentum)
        momentum = (momentum**images)[:, None, None]
        old = self.vectors[classes]
        moved = F.normalize(momentum * old + (1 - momentum) * centroids, dim=-1)
        self.vectors[classes] = torch.where((counts > 0)[..., None], moved, old)
        self.updates[classes] = updates + images * pixels.valid.any(dim=1)


def _forget_known(bank: PrototypeBank, _: object) -> None:
    """After other prototypes were loaded, which may be of fewer classes."""
    bank._known.clear()
    bank._fetched = None


def content_hash(rows: Tensor) -> Tensor:
    """A number in 0..1 for each row of (P, D), spread evenly, decided by its values alone."""
    steps = torch.arange(1, rows.shape[-1] + 1, device=rows.device, dtype=torch.float64)
    mixed = (rows.double() * (12.9898 * steps.sqrt())).sum(dim=-1).sin() * 43758.5453
    return (mixed - mixed.floor()).float()
