"""Exact composition, and what is left of originals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.box_supervision.cut_out import CuttingOut
from boxmask.box_supervision.pasting import (
    LeastVisible,
    covered_originals,
    paste_objects,
    sent_with_pieces,
    visible_pieces,
    with_pieces,
)
from boxmask.ops.masks import boxes_of_masks
from boxmask.structures import Targets
from references.pasting import what_is_left
from small_pictures import batch_of, block, boxes_only

LEAST = LeastVisible()
ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "copy_paste.npz"


def test_composition_is_exact():
    image = torch.rand(3, 20, 24)
    painted = paste_objects(image, boxes_only((0, 0, 24, 20)), [block(3, 4)], (20, 24), LEAST)
    assert painted is not None
    out, targets = painted
    inside = torch.zeros(20, 24, dtype=torch.bool)
    inside[4:10, 3:9] = True
    assert torch.equal(out[:, ~inside], image[:, ~inside])
    assert torch.all(out[:, inside] == 200 / 255)
    assert torch.equal(targets.masks[-1], inside)
    assert targets.boxes[-1].tolist() == [3, 4, 9, 10]
    assert targets.trusted.tolist() == [False, True]


def test_pasted_objects_are_tight_on_both_axes():
    """Beside an object that is not, also where another one covers a part or the rim cuts off."""
    targets = replace(boxes_only((0, 12, 9, 20)), tight=torch.tensor([[False, False]]))
    objects = [block(2, 1, 10, 9), block(8, 1, 8, 8), block(19, 14, 10, 10)]
    size = (20, 24)
    pieces = visible_pieces(objects, size, LEAST)
    left = with_pieces(targets, pieces, size, LEAST)
    assert left.tight.tolist() == [[False, False], [True, True], [True, True], [True, True]]
    assert left.trusted.tolist() == [False, True, True, True]
    torch.testing.assert_close(left.boxes[1:], boxes_of_masks(left.masks[1:]).to(left.boxes.dtype))


def test_boxes_are_made_after_the_crop_and_objects_outside_are_dropped():
    partly, outside = block(90, 5, width=20), block(105, 5)
    painted = paste_objects(
        torch.zeros(3, 40, 120), boxes_only(), [partly, outside], (40, 100), LEAST
    )
    assert painted is not None
    _, targets = painted
    assert len(targets) == len(targets.labels) == len(targets.masks) == 1
    assert targets.boxes[0].tolist() == [90, 5, 100, 11]
    assert not targets.masks[0, :, 100:].any()
    alone = paste_objects(torch.zeros(3, 40, 120), boxes_only(), [outside], (40, 100), LEAST)
    assert alone is None


def test_later_pastes_cover_earlier_ones():
    objects = [block(2, 2, 10, 10, color=10), block(6, 2, 10, 10, color=20)]
    painted = paste_objects(torch.zeros(3, 20, 24), boxes_only(), objects, (20, 24), LEAST)
    assert painted is not None
    _, targets = painted
    assert not (targets.masks[0] & targets.masks[1]).any()
    assert targets.boxes[0].tolist() == [2, 2, 6, 12]


def test_what_is_left_of_originals():
    targets = boxes_only((2, 2, 12, 12), (2, 2, 12, 12), (14.5, 2, 20.25, 12))
    paste = torch.zeros(20, 24, dtype=torch.bool)
    paste[2:12, 2:7] = True  # the left half
    left = covered_originals(targets, paste, LEAST)
    assert left.boxes.tolist()[0] == [7, 2, 12, 12]
    # Covered at its left end, and along half of its first and last row: neither axis is sure.
    assert left.tight.tolist() == [[False, False], [False, False], [True, True]]
    assert left.boxes.tolist()[2] == [14.5, 2, 20.25, 12]  # untouched boxes keep their corners
    paste[2:12, 2:12] = True
    assert covered_originals(targets, paste, LEAST).boxes.tolist() == [[14.5, 2, 20.25, 12]]


def test_an_axis_that_the_paste_does_not_reach_stays_tight():
    paste = torch.zeros(20, 24, dtype=torch.bool)
    paste[5:9, 2:5] = True  # in the middle of the left side: top and bottom are to be seen
    left = covered_originals(boxes_only((2, 2, 12, 12)), paste, LEAST)
    assert left.tight.tolist() == [[False, True]]
    assert left.boxes.tolist() == [[2, 2, 12, 12]]


def test_an_axis_with_a_hidden_line_is_not_tight():
    """What the projection looks for in columns 5 and 6 lies under the paste."""
    paste = torch.zeros(20, 24, dtype=torch.bool)
    paste[:, 5:7] = True
    targets = boxes_only((2, 4, 12, 12))
    left = covered_originals(targets, paste, LEAST)
    assert left.boxes.tolist() == targets.boxes.tolist()
    assert left.tight.tolist() == [[False, False]]  # nor along y, whose ends are reached
    paste[8] = False  # one row stays free: columns are seen, and so is the row
    left = covered_originals(targets, paste, LEAST)
    assert left.tight.tolist() == [[True, False]]


@given(
    st.lists(st.tuples(st.floats(-3, 23), st.floats(-3, 19), st.floats(0, 26), st.floats(0, 22))),
    st.integers(0, 2**16),
)
def test_what_is_left_equals_a_look_at_every_pixel(corners, seed):
    """Boxes between pixels and over the rim, and a paste with holes."""
    random = torch.Generator().manual_seed(seed)
    x, y, w, h = torch.randint(1, 14, (4,), generator=random).tolist()
    paste = torch.zeros(20, 24, dtype=torch.bool)
    paste[y : y + h, x : x + w] = (torch.rand(20, 24, generator=random) < 0.9)[y : y + h, x : x + w]
    boxes = [(x, y, x + w, y + h) for x, y, w, h in corners]
    targets = boxes_only(*boxes)
    targets = replace(targets, tight=torch.rand(len(targets), 2, generator=random) < 0.8)
    expected = [
        (index, *found)
        for index, box in enumerate(targets.boxes.tolist())
        if (found := what_is_left(box, targets.tight[index].tolist(), paste.tolist())) is not None
    ]
    left = covered_originals(targets, paste, LEAST)
    numbered = replace(targets, labels=torch.arange(len(targets)))
    kept = covered_originals(numbered, paste, LEAST).labels.tolist()
    assert kept == [index for index, _, _ in expected]
    assert left.boxes.tolist() == [list(box) for _, box, _ in expected]
    assert left.tight.tolist() == [list(tight) for _, _, tight in expected]


def test_what_is_sent_is_what_the_host_has():
    size, device = (20, 24), torch.device("cpu")
    pieces = visible_pieces([block(2, 2, 10, 10), block(6, 2, 10, 10)], size, LEAST)
    found = with_pieces(boxes_only((0, 0, 9, 9), (15, 10, 24, 20)), pieces, size, LEAST)
    sent = sent_with_pieces(found, pieces, device)
    for name in ("boxes", "labels", "tight", "trusted", "masks"):
        assert torch.equal(getattr(sent, name), getattr(found, name))
    assert found.masks.flatten(1).sum(dim=1).tolist()[:-2] == [0] * (len(found) - 2)


def test_visible_pieces_are_no_larger_than_what_is_seen():
    objects = [block(2, 2, 10, 10), block(6, 2, 10, 10), block(0, 0, 3, 3)]
    first, second = visible_pieces(objects, (20, 24), LEAST)  # the last is too small
    assert (first.corner, tuple(first.mask.shape)) == ((2, 2), (10, 4))
    assert (second.corner, tuple(second.mask.shape)) == ((6, 2), (10, 10))
    assert first.picture.shape == (3, 10, 4)
    assert not first.mask[0, 0]  # the object that was left out lay here
    assert first.mask.sum() == 39


@pytest.mark.skipif(not ORACLE.is_file(), reason="reference values are not beside the project")
def test_composition_equals_the_published_one():
    """Pixels, boxes, labels, and the mask of the pasted object."""
    values = {k: torch.from_numpy(np.asarray(v)) for k, v in np.load(ORACLE).items()}
    chosen = int(values["chosen"][0])
    scale = 255.0 if values["image"].max() > 1 else 1.0
    mask = values["source_masks"][chosen] > 0
    label = values["source_classes"][chosen : chosen + 1].long()
    of_source = Targets.from_boxes(boxes_of_masks(mask[None]), label)
    source = replace(
        batch_of([of_source], *mask.shape), images=values["source_image"][None] / scale
    )
    masks, sure = mask[None], torch.ones(1, *mask.shape)
    every = CuttingOut(source, masks, boxes_of_masks(masks), sure, label >= 0).objects()
    one = every[0][0].cut()
    targets = Targets.from_boxes(values["boxes_xyxy"], values["classes"])
    size = tuple(mask.shape)
    painted = paste_objects(values["image"] / scale, targets, [one], size, LEAST)
    assert painted is not None
    image, found = painted
    torch.testing.assert_close(image, values["out_image"] / scale, atol=0.5 / 255 + 1e-4, rtol=0)
    expected = values["out_boxes_xyxy"].clone()
    expected[: len(targets), 2:] -= 1  # there, filled boxes hold one more row and column
    torch.testing.assert_close(found.boxes, expected)
    assert found.labels.tolist() == values["out_classes"].tolist()
    assert found.trusted.float().tolist() == values["out_is_pasted"].tolist()
    assert torch.equal(found.masks[-1], values["out_masks"][-1] > 0)
