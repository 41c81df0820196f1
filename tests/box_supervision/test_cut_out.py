"""Objects are cut out of what a picture shows, and not of its padding."""

import pytest
import torch

from boxmask.box_supervision.cut_out import CuttingOut
from boxmask.ops.masks import boxes_of_masks
from boxmask.structures import Batch, Targets


def cut_out(size, cells):
    """The object of a picture in a batch of 32 x 48 pixels, its mask given by 8 x 12 cells."""
    height, width = size
    valid = torch.zeros(1, 32, 48, dtype=torch.bool)
    valid[:, :height, :width] = True
    batch = Batch(
        images=0.5 * valid[:, None].expand(1, 3, 32, 48),
        valid=valid,
        targets=(Targets.from_boxes(torch.tensor([[0.0, 0, width, height]]), torch.tensor([3])),),
        image_sizes=(size,),
        scales=torch.ones(1, 2),
        indices=(0,),
    )
    mask = torch.zeros(1, 8, 12, dtype=torch.bool)
    mask[0, cells[0], cells[1]] = True
    wanted = torch.ones(1, dtype=torch.bool)
    cutting = CuttingOut(batch, mask, boxes_of_masks(mask), mask.float(), wanted)
    (found,) = cutting.objects()
    return tuple(one.cut() for one in found)


@pytest.mark.parametrize("width", range(37, 42))
@pytest.mark.parametrize("height", [29, 30, 31, 32])
def test_an_object_at_the_rim_ends_with_the_picture(height, width):
    last_row, last_column = (height - 1) // 4, (width - 1) // 4
    (one,) = cut_out((height, width), (slice(2, last_row + 1), slice(3, last_column + 1)))
    (x, y), (rows, columns) = one.corner, one.mask.shape
    assert y + rows <= height
    assert x + columns <= width
    assert y + rows >= height - 2
    assert x + columns >= width - 2
    assert (one.picture[:, one.mask] == 128).all()
    assert one.label == 3


def test_an_object_in_the_padding_is_none():
    assert cut_out((20, 20), (slice(6, 8), slice(6, 8))) == ()


@pytest.mark.parametrize(("height", "found"), [(29, 0), (31, 0), (32, 1)])
def test_an_object_of_no_whole_cell_in_the_picture_is_none(height, found):
    assert len(cut_out((height, 48), (slice(7, 8), slice(3, 4)))) == found
