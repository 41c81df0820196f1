"""Cells are asked for their colours: by hand, and against a loop over cells."""

import math

import pytest
import torch

from boxmask.ops import color_model
from boxmask.ops.affinity import lab_at_stride
from boxmask.ops.color_model import scores_by_colors

BROWN, GREEN = (120, 80, 40), (60, 140, 60)
BOX = (4.0, 4.0, 12.0, 12.0)


def animal():
    """A brown animal on grass: a body, two legs, grass between them that the mask covers.

    True cells, LAB colours (1, 3, 16, 16), and cells of the box.
    """
    truth = torch.zeros((16, 16), dtype=torch.bool)
    truth[4:8, 4:12] = True
    truth[8:12, 4:6] = truth[8:12, 10:12] = True
    brown, green = (torch.tensor(one).view(3, 1, 1) / 255 for one in (BROWN, GREEN))
    inside = torch.zeros_like(truth)
    inside[4:12, 4:12] = True
    return truth, lab_at_stride(torch.where(truth, brown, green)[None], 1), inside


def asked(scores, lab, inside, outside, box=BOX):
    """One object in one picture."""
    return scores_by_colors(
        scores[None],
        lab,
        torch.zeros(1, dtype=torch.int64),
        torch.tensor([box]),
        inside[None],
        outside[None],
    )[0]


def test_grass_between_the_legs_is_known_by_the_grass_outside():
    truth, lab, inside = animal()
    scores = torch.where(inside, 0.7, 0.1)
    found = asked(scores, lab, inside, ~inside)
    assert torch.equal(found > 0.5, truth)
    assert torch.equal(found[~inside], scores[~inside])


def test_a_part_that_the_mask_lacks_is_known_by_the_rest():
    truth, lab, inside = animal()
    scores = torch.where(truth, 0.9, 0.1)
    scores[8:12, 10:12] = 0.3
    assert torch.equal(asked(scores, lab, inside, ~inside) > 0.5, truth)


def test_one_colour_everywhere_changes_no_side():
    truth, lab, inside = animal()
    scores = torch.where(truth, 0.95, 0.05)
    found = asked(scores, torch.full_like(lab, 40.0), inside, ~inside)
    assert ((found > 0.5) == truth).float().mean() > 0.97


def test_cells_of_another_object_neither_change_nor_tell_colours():
    truth, lab, inside = animal()
    scores = torch.where(inside, 0.7, 0.1)
    own = inside.clone()
    own[:, :8] = False
    found = asked(scores, lab, own, ~inside)
    assert torch.equal(found[~own], scores[~own])
    assert torch.equal((found > 0.5)[own], truth[own])


@pytest.mark.parametrize("case", ["no object", "nothing outside", "no box"])
def test_without_both_kinds_of_cells_scores_stay(case):
    truth, lab, inside = animal()
    scores, outside = torch.where(truth, 0.9, 0.1), ~inside
    if case == "no object":
        scores = scores * 0.5
    elif case == "nothing outside":
        outside = torch.zeros_like(inside)
    else:
        inside = torch.zeros_like(inside)
    assert torch.equal(asked(scores, lab, inside, outside), scores)


def test_no_objects_give_none():
    _, lab, inside = animal()
    none = torch.zeros(0, dtype=torch.int64)
    empty = torch.zeros((0, 16, 16))
    boxes = torch.zeros((0, 4))
    assert scores_by_colors(empty, lab, none, boxes, empty > 0, inside[None]).shape == (0, 16, 16)


def random_case(seed=0):
    """Two pictures of 31 x 27 cells, three objects; the last box reaches out of its picture."""
    generator = torch.Generator().manual_seed(seed)
    lab = (
        torch.rand((2, 3, 31, 27), generator=generator)
        * torch.tensor([60.0, 30, 30])[:, None, None]
    )
    boxes = torch.tensor([[2.0, 3.0, 14.0, 27.0], [11.0, 2.0, 23.0, 14.0], [15.0, 5.0, 27.0, 29.0]])
    index = torch.tensor([0, 1, 1])
    scores = torch.rand((3, 31, 27), generator=generator)
    own = torch.zeros_like(scores, dtype=torch.bool)
    for row, (x1, y1, x2, y2) in enumerate(boxes.long().tolist()):
        own[row, y1:y2, x1:x2] = True
    own &= torch.rand(own.shape, generator=generator) < 0.9
    covered = torch.stack([own[0], own[1] | own[2]])
    outside = ~covered & (torch.rand(covered.shape, generator=generator) < 0.8)
    return scores, lab, index, boxes, own, outside


def looped(scores, lab, box, own, outside):
    """One object, sides of 12 or 24 cells, so that each cell of the box is asked as it is."""
    (x1, y1, x2, y2), (height, width) = box.tolist(), scores.shape
    reach = color_model.PLACE_SPREAD * math.sqrt((x2 - x1) * (y2 - y1))

    def lattice(box, count):
        sides = [
            [math.floor(low + (step + 0.5) / count * (high - low)) for step in range(count)]
            for low, high in ((box[1], box[3]), (box[0], box[2]))
        ]
        cells = [(row, column) for row in sides[0] for column in sides[1]]
        return [(r, c) for r, c in cells if 0 <= r < height and 0 <= c < width]

    def share(cell, known):
        alike = near = 0.0
        for (row, column), weight in known:
            if (row, column) == cell:
                continue
            color = float((lab[:, *cell] - lab[:, row, column]).square().sum()) / 5.0**2
            place = ((row - cell[0]) ** 2 + (column - cell[1]) ** 2) / reach**2
            near += weight * math.exp(-0.5 * place)
            alike += weight * math.exp(-0.5 * (color + place))
        return alike / (near + 1e-3)

    margin = [max((high - low) * 0.25, 3.0) for low, high in ((x1, x2), (y1, y2))]
    around = (x1 - margin[0], y1 - margin[1], x2 + margin[0], y2 + margin[1])
    objects = [
        (cell, float(scores[cell]))
        for cell in lattice((x1, y1, x2, y2), color_model.OF_OBJECT)
        if own[cell] and scores[cell] > 0.5
    ]
    others = [(cell, 1.0) for cell in lattice(around, color_model.OF_OTHERS) if outside[cell]]
    found = scores.clone()
    for row, column in own.nonzero().tolist():
        cell = (row, column)
        ratio = math.log((share(cell, objects) + 1e-3) / (share(cell, others) + 1e-3))
        logit = torch.logit(scores[cell].clamp(0.02, 0.98)) + min(max(ratio, -4.0), 4.0)
        found[cell] = torch.sigmoid(logit)
    return found


def test_it_equals_a_loop_over_cells():
    scores, lab, index, boxes, own, outside = random_case()
    found = scores_by_colors(scores, lab, index, boxes, own, outside)
    for row, image in enumerate(index.tolist()):
        expected = looped(scores[row], lab[image], boxes[row], own[row], outside[image])
        torch.testing.assert_close(found[row], expected, atol=2e-4, rtol=0)
        assert not torch.equal(found[row], scores[row])


def test_mixed_precision_changes_nothing():
    case = random_case()
    expected = scores_by_colors(*case)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scores_by_colors(*case), expected)


def test_large_boxes_are_asked_at_fewer_cells_than_they_have():
    truth, _, inside = animal()
    truth, inside = (one.repeat_interleave(8, 0).repeat_interleave(8, 1) for one in (truth, inside))
    lab = torch.where(truth, 20.0, 60.0).expand(1, 3, -1, -1)
    scores = torch.where(inside, 0.7, 0.1)
    found = asked(scores, lab, inside, ~inside, box=tuple(side * 8 for side in BOX))
    assert ((found > 0.5) == truth)[inside].float().mean() > 0.95
