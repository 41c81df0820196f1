import torch

from boxmask.ops.points import in_center_region, map_points, point_grid

CPU = torch.device("cpu")


def test_points_are_the_middles_of_cells():
    expected = [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    assert map_points((2, 3), 8, CPU).tolist() == expected


def test_grid_of_a_pyramid():
    grid = point_grid([(2, 3), (1, 2)], [8, 16], CPU)
    assert grid.points.shape == (8, 2)
    assert grid.points[6:].tolist() == [[8, 8], [24, 8]]
    assert grid.levels.tolist() == [0] * 6 + [1] * 2
    assert grid.strides.tolist() == [8] * 6 + [16] * 2
    assert grid.sizes == ((2, 3), (1, 2))


def test_center_region():
    boxes = torch.tensor([[0.0, 0, 100, 100], [45, 0, 55, 100]])
    points = torch.tensor([[50.0, 50], [61.9, 50], [62, 50], [63, 50], [54.9, 50], [55, 50]])
    inside = in_center_region(points[:, None], boxes, torch.full((6, 1), 12.0))
    # A point 13 pixels from the middle is negative although it lies in the large box.
    assert inside[:, 0].tolist() == [True, True, False, False, True, True]
    assert inside[:, 1].tolist() == [True, False, False, False, True, False]


def test_no_boxes():
    points = torch.rand(7, 2)
    assert in_center_region(points[:, None], torch.zeros(0, 4), torch.ones(7, 1)).shape == (7, 0)
