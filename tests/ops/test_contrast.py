import pytest
import torch

from boxmask.ops.contrast import color_contrast


def contrast(lab, boxes, *, outside=None):
    outside = torch.ones(lab[:, 0].shape, dtype=torch.bool) if outside is None else outside
    image_index = torch.zeros(len(boxes), dtype=torch.long)
    return color_contrast(lab, outside, torch.tensor(boxes).reshape(-1, 4), image_index, 4)


def ground(value=50.0):
    return torch.full((1, 3, 20, 20), value)


def test_distance_of_a_plain_object_from_a_plain_ground():
    lab = ground()
    lab[0, :, 5:15, 5:15] += torch.tensor([3.0, 4.0, 12.0])[:, None, None]
    assert contrast(lab, [[20.0, 20, 60, 60]]).tolist() == [13.0]
    assert contrast(lab, [[28.0, 28, 52, 52]]).tolist() == [0.0]  # its frame is on the object


def test_the_likest_colour_around_counts():
    lab = ground()
    lab[0, 0, 5:15, 5:15] = 70
    lab[0, 0, :, 15:] = 68  # like the object, on one side alone
    assert contrast(lab, [[20.0, 20, 60, 60]]).tolist() == [2.0]


def test_stripes_on_stripes_have_little_contrast():
    lab = ground()
    lab[0, 0, ::2] = 10
    assert contrast(lab, [[16.0, 16, 64, 64]]).tolist() == [0.0]


def test_cells_of_other_boxes_and_beyond_the_picture_do_not_count():
    lab = ground()
    lab[0, 0, 5:15, 5:15] = 80
    lab[0, 0, 15:, :] = 80  # a neighbour of the same colour
    outside = torch.ones(1, 20, 20, dtype=torch.bool)
    outside[:, 15:] = False
    assert contrast(lab, [[20.0, 20, 60, 60]], outside=outside).tolist() == [30.0]
    everything = [[0.0, 0, 80, 80]]
    assert contrast(lab, everything).tolist() == [torch.inf]
    assert contrast(lab, [[20.0, 20, 60, 60]], outside=~outside & False).tolist() == [torch.inf]


def test_a_box_smaller_than_a_cell_looks_one_cell_away():
    lab = ground()
    lab[0, 0, 7, 7] = 90
    assert contrast(lab, [[28.5, 28.5, 31.5, 31.5]]).tolist() == [40.0]


@pytest.mark.parametrize("count", [0, 3])
def test_one_number_a_box(count):
    assert contrast(ground(), [[0.0, 0, 8, 8]] * count).shape == (count,)


def test_each_box_looks_at_its_own_picture():
    lab = torch.cat([ground(), ground()])
    lab[1, 0, 5:15, 5:15] = 60
    found = color_contrast(
        lab,
        torch.ones(2, 20, 20, dtype=torch.bool),
        torch.tensor([[20.0, 20, 60, 60]] * 2),
        torch.tensor([1, 0]),
        4,
    )
    assert found.tolist() == [10.0, 0.0]
