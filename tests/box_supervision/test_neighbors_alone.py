"""Masks of like neighbours alone: right where colours tell, wrong where they do not."""

import pytest
import torch

from boxmask.box_supervision.neighbors_alone import masks_of_neighbors
from boxmask.ops.boxes import cells_in_boxes
from small_pictures import batch_of, boxes_only

BOX = (24.0, 16.0, 72.0, 80.0)
COLORS = {"grass": (0.25, 0.6, 0.25), "animal": (0.5, 0.3, 0.15), "ground": (0.5, 0.3, 0.15)}


def cross():
    """(96, 96) bool: a cross that touches all sides of the box."""
    pixels = torch.zeros(96, 96, dtype=torch.bool)
    pixels[16:80, 40:56] = pixels[40:56, 24:72] = True
    return pixels


def found(surroundings):
    """The mask of a cross on some ground, the box's cells, and the true cells."""
    truth = cross()
    colors = {name: torch.tensor(one)[:, None, None] for name, one in COLORS.items()}
    batch = batch_of([boxes_only(BOX)], 96, 96)
    batch.images[0] = torch.where(truth, colors["animal"], colors[surroundings])
    inside = cells_in_boxes([batch.targets[0].boxes], 4, (24, 24))
    mask = masks_of_neighbors(batch, inside, torch.zeros(1, dtype=torch.int64))
    return mask[0] > 0.5, inside[0], truth[2::4, 2::4]


def test_an_object_of_its_own_colour_is_found():
    mask, inside, truth = found("grass")
    assert torch.equal(mask & inside, truth)
    assert not mask[~inside].any()


def test_neighbours_of_like_colour_are_taken_for_the_object():
    mask, inside, truth = found("ground")
    assert (mask & inside).sum() > 1.3 * truth.sum()


@pytest.mark.parametrize("count", [0, 3])
def test_objects_do_not_change_each_other(count):
    random = torch.Generator().manual_seed(0)
    boxes = [(8.0, 8.0, 40.0, 60.0), (30.0, 20.0, 90.0, 90.0), (50.0, 4.0, 60.0, 12.0)][:count]
    batch = batch_of([boxes_only(*boxes)], 96, 96)
    batch.images[:] = torch.rand(batch.images.shape, generator=random)
    cells = [cells_in_boxes([one[None]], 4, (24, 24)) for one in batch.targets[0].boxes]
    inside = torch.cat([torch.zeros(0, 24, 24, dtype=torch.bool), *cells])
    index = torch.zeros(count, dtype=torch.int64)
    together = masks_of_neighbors(batch, inside, index)
    assert together.shape == (count, 24, 24)
    assert not together.requires_grad
    for number in range(count):
        alone = masks_of_neighbors(batch, inside[number : number + 1], index[:1])
        assert ((alone[0] > 0.5) == (together[number] > 0.5)).float().mean() > 0.98
