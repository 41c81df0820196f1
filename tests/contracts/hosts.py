"""Every architecture with small weights, found by itself, and pictures for it."""

import torch

from boxmask.recipes.models import ARCHITECTURES, build_recipe
from boxmask.structures import Batch, Targets

NAMES = sorted(ARCHITECTURES)
NUM_CLASSES = 3
HEIGHT, WIDTH = 64, 96


def recipe_of(name, method="boxinst"):
    return build_recipe(f"{name}-lite0", method, NUM_CLASSES, pretrained=False)


def targets_of(*boxes, labels=None, masks=False):
    """Targets of boxes given as [x1, y1, x2, y2]; with masks, random ones that may be trusted."""
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    if labels is None:
        labels = [row % NUM_CLASSES for row in range(len(tensor))]
    targets = Targets.from_boxes(tensor, torch.tensor(labels, dtype=torch.int64))
    if not masks:
        return targets
    return Targets(
        boxes=targets.boxes,
        labels=targets.labels,
        tight=targets.tight,
        masks=torch.rand(len(tensor), HEIGHT, WIDTH) < 0.5,
        trusted=torch.ones(len(tensor), dtype=torch.bool),
    )


def pictures():
    """Two pictures, the second one 37 x 53 pixels and padded."""
    images = torch.rand(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
    valid[1, 37:] = False
    valid[1, :, 53:] = False
    return images * valid[:, None], valid


def batch_of(targets):
    images, valid = pictures()
    return Batch(
        images=images,
        valid=valid,
        targets=tuple(targets),
        image_sizes=((HEIGHT, WIDTH), (37, 53)),
        scales=torch.ones(2, 2),
        indices=(0, 1),
        names=("first", "second"),
    )
