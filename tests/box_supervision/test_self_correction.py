"""Pseudo masks: hand-computed weights, thresholds, fusion and loss (SIM, section 3.2)."""

from dataclasses import replace

import pytest
import torch

from boxmask.box_supervision.self_correction import (
    PseudoMaskSettings,
    adaptive_thresholds,
    ask_colors,
    fuse,
    open_cells,
    positive_weights,
    pseudo_masks,
    refine,
    weighted_masks,
)
from boxmask.ops.affinity import lab_at_stride
from correction_batches import CELL, HEIGHT, WIDTH, batch_with

LONG = PseudoMaskSettings(lowest_high=0.7, highest_high=0.8)


def nobody(inside):
    return torch.zeros_like(inside)


def boxes_with_iou(iou):
    return torch.tensor([[0.0, 0.0, 100.0 * iou, 100.0]])


def test_weights_by_hand():
    predicted = torch.cat([boxes_with_iou(0.9), boxes_with_iou(0.5)])
    given = boxes_with_iou(1.0).expand(2, 4)
    same = torch.zeros(2, dtype=torch.int64)
    found = positive_weights(predicted, given, same, 1, sharpness=5.0)
    assert found.tolist() == pytest.approx([0.880797, 0.119203], abs=1e-5)
    assert positive_weights(predicted, given, same, 1, sharpness=0.0).tolist() == [0.5, 0.5]
    apart = positive_weights(predicted, given, torch.tensor([0, 1]), 2, sharpness=5.0)
    assert apart.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("constant", [-0.4, -0.1, 0.1])
def test_weights_depend_on_differences_of_fits_alone(constant):
    predicted = [boxes_with_iou(fit + constant) for fit in (0.9, 0.5, 0.6)]
    given = boxes_with_iou(1.0).expand(3, 4)
    index = torch.tensor([0, 0, 1])
    found = positive_weights(torch.cat(predicted), given, index, 2, sharpness=5.0)
    assert found.tolist() == pytest.approx([0.880797, 0.119203, 1.0], abs=1e-5)


def test_joined_masks_do_not_depend_on_the_order_of_samples():
    scores, index = torch.rand(7, 3, 4), torch.tensor([0, 2, 0, 2, 2, 0, 3])
    weights = torch.rand(7)
    order = torch.randperm(7)
    first, known = weighted_masks(scores, weights, index, 5)
    second, _ = weighted_masks(scores[order], weights[order], index[order], 5)
    torch.testing.assert_close(first, second)
    assert known.tolist() == [True, False, True, True, False]
    torch.testing.assert_close(first[3], scores[6] * weights[6])


def test_fusion_and_temperature():
    cosines = torch.tensor([0.2, 0.0, -0.3, 1.0])[None, None]
    seen = torch.tensor([True])
    only_semantic = PseudoMaskSettings(instance_share=0.0)
    found = fuse(cosines, torch.zeros(1, 1, 4), seen, only_semantic)[0, 0]
    assert found.tolist() == pytest.approx([0.880797, 0.5, 0.047426, 0.999955], abs=1e-6)
    instance = torch.full((1, 1, 4), 0.4)
    only_instance = fuse(cosines, instance, seen, PseudoMaskSettings(instance_share=1.0))
    torch.testing.assert_close(only_instance, instance)
    half = fuse(torch.logit(torch.tensor([[[0.8]]])) * 0.1, torch.tensor([[[0.4]]]), seen, LONG)
    assert half.item() == pytest.approx(0.6, abs=1e-6)
    unseen = fuse(cosines, instance, torch.tensor([False]), LONG)
    torch.testing.assert_close(unseen, instance)


@pytest.mark.parametrize(
    ("confident", "threshold", "foreground", "ignored"), [(2, 0.72, 2, 2), (3, 0.7, 3, 1)]
)
def test_thresholds_by_hand(confident, threshold, foreground, ignored):
    fused = torch.tensor([[[0.9, 0.78, 0.72, 0.6, 0.3, 0.0]]])
    instance = torch.zeros(1, 1, 6)
    instance[..., :confident] = 0.75
    inside = torch.ones(1, 1, 6, dtype=torch.bool)
    found = adaptive_thresholds(fused, instance, inside, LONG)
    assert found.item() == pytest.approx(threshold)
    masks = pseudo_masks(fused, instance, inside, nobody(inside), LONG)
    assert int(masks.foreground.sum()) == foreground
    assert int((inside & ~masks.certain).sum()) == ignored


def test_threshold_without_confident_cells_and_with_nothing_else():
    fused = torch.tensor([[[0.9, 0.5]]])
    inside = torch.ones(1, 1, 2, dtype=torch.bool)
    none = adaptive_thresholds(fused, torch.zeros(1, 1, 2), inside, LONG)
    assert none.item() == pytest.approx(0.8)  # the largest value, clamped
    wider = torch.cat([fused, torch.zeros(1, 1, 1)], dim=-1)
    where = torch.tensor([[[True, True, False]]])
    every = adaptive_thresholds(wider, torch.ones(1, 1, 3), where, LONG)
    assert every.item() == pytest.approx(0.7)  # the next value is 0, outside the box


def test_cells_outside_the_box_never_count_and_sets_are_apart():
    torch.manual_seed(1)
    fused, instance = torch.rand(4, 9, 11), torch.rand(4, 9, 11)
    inside = torch.rand(4, 9, 11) > 0.5
    masks = pseudo_masks(fused, instance, inside, nobody(inside), LONG)
    assert not (masks.certain & ~inside).any()
    assert not (masks.foreground & ~masks.certain).any()


def test_bad_thresholds_are_refused():
    with pytest.raises(ValueError, match="low <= lowest_high"):
        PseudoMaskSettings(low=0.8, lowest_high=0.7)


def test_claimed_cells_are_background_and_not_counted():
    fused = torch.tensor([[[0.95, 0.9, 0.85, 0.3]]])
    instance = torch.tensor([[[0.8, 0.8, 0.6, 0.1]]])
    inside = torch.ones(1, 1, 4, dtype=torch.bool)
    claimed = torch.tensor([[[True, False, False, False]]])
    masks = pseudo_masks(fused, instance, inside, claimed, LONG)
    assert masks.foreground.tolist() == [[[False, True, True, False]]]
    assert masks.certain.all()
    outside = pseudo_masks(fused, instance, ~claimed, claimed, LONG)
    assert not outside.certain[0, 0, 0]


def open_one_by_one(scores, foreground, share):
    """Row by row and column by column, cell by cell."""
    found = torch.zeros_like(foreground)
    _, height, width = scores.shape
    for one, (values, mask) in enumerate(zip(scores.tolist(), foreground.tolist(), strict=True)):
        lines = [[(y, x) for x in range(width)] for y in range(height)]
        lines += [[(y, x) for y in range(height)] for x in range(width)]
        for line in lines:
            best = max(values[y][x] for y, x in line)
            for y, x in line:
                lacks = not any(mask[v][u] for v, u in line)
                found[one, y, x] |= lacks and best > 0 and values[y][x] >= share * best
    return found


def test_surest_cells_of_a_row_without_foreground_are_open():
    scores = torch.tensor([[[0.3, 0.2, 0.1], [0.9, 0.8, 0.1]]])
    masks = torch.tensor([[[False, False, False], [True, True, False]]])
    # In the last column, which has no foreground either, both cells are as sure.
    assert open_cells(scores, masks, 0.5).int().tolist() == [[[1, 1, 1], [0, 0, 1]]]
    assert open_cells(scores, masks, 0.9).int().tolist() == [[[1, 0, 1], [0, 0, 1]]]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_open_cells_are_those_found_one_by_one(share):
    scores = torch.rand(4, 7, 5, dtype=torch.float64) * (torch.rand(4, 7, 5) > 0.3)
    foreground = (scores > 0.8) & (torch.rand(4, 7, 5) > 0.4)
    expected = open_one_by_one(scores, foreground, share) & (scores > 0)
    assert expected.any()
    assert torch.equal(open_cells(scores, foreground, share), expected)


def test_open_cells_teach_nothing():
    fused = torch.tensor([[[0.35, 0.1, 0.1], [0.9, 0.8, 0.7]]])
    inside = torch.ones_like(fused, dtype=torch.bool)
    claimed = torch.zeros_like(inside)
    settings = replace(LONG, open_share=0.4)
    masks = pseudo_masks(fused, fused, inside, claimed, settings)
    known = pseudo_masks(fused, fused, inside, claimed, LONG)
    assert known.certain[0, 0].all()
    assert masks.certain[0, 0].tolist() == [False, True, True]
    assert torch.equal(masks.foreground, known.foreground)
    # A cell of another object is background all the same.
    claimed[0, 0, 0] = True
    masks = pseudo_masks(fused, fused, inside, claimed, settings)
    assert masks.certain[0, 0, 0]


def half_bright(background, foreground):
    """A picture whose right half is of another colour; its two objects are alike."""
    batch = batch_with([[0, 0, WIDTH * CELL, HEIGHT * CELL]] * 2)
    batch.images[:] = background
    batch.images[..., WIDTH * CELL // 2 :] = foreground
    return batch


def test_asked_cells_know_the_colors_outside_all_boxes():
    """A box of 8 x 8 cells whose right half is bright; the scores cover all of it."""
    batch = batch_with([[4 * CELL, 4 * CELL, 12 * CELL, 12 * CELL]])
    batch.images[:] = 0.2
    batch.images[..., 4 * CELL : 12 * CELL, 8 * CELL : 12 * CELL] = 0.7
    own = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    own[:, 4:12, 4:12] = True
    fused = torch.where(own, 0.55, 0.1)
    outside = ~own.repeat(len(batch), 1, 1)
    lab = lab_at_stride(batch.images, CELL)
    found = ask_colors(fused, own, outside, torch.zeros(1, dtype=torch.int64), lab, batch) > 0.5
    truth = torch.zeros_like(own)
    truth[:, 4:12, 8:12] = True
    assert torch.equal(found, truth)


def test_refined_masks_end_where_colors_do():
    fused = torch.full((2, HEIGHT, WIDTH), 0.2)
    fused[:, :, WIDTH // 2 :] = 0.8
    fused[0, ::4, WIDTH // 2 - 1] = 0.8  # one cell too far
    fused[1, ::4, WIDTH // 2] = 0.2  # one cell short
    everywhere = torch.ones_like(fused, dtype=torch.bool)
    image_index = torch.zeros(2, dtype=torch.int64)
    shown = half_bright(0.2, 0.7)
    found = refine(fused, everywhere, image_index, shown, PseudoMaskSettings()) > 0.5
    truth = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    truth[:, WIDTH // 2 :] = True
    assert torch.equal(found[0], truth)
    assert torch.equal(found[1], truth)


def test_narrow_objects_are_not_refined():
    """The filter's windows are five cells wide; boxes of seven and of eight cells."""
    middle = WIDTH * CELL / 2
    sides = [[middle, 0, middle + cells * CELL, HEIGHT * CELL] for cells in (7, 8)]
    batch = replace(half_bright(0.2, 0.7), targets=batch_with(sides).targets)
    fused = torch.full((2, HEIGHT, WIDTH), 0.2)
    fused[:, :, WIDTH // 2 :] = 0.8
    fused[:, ::4, WIDTH // 2 - 1] = 0.8
    everywhere = torch.ones_like(fused, dtype=torch.bool)
    image_index = torch.zeros(2, dtype=torch.int64)
    found = refine(fused, everywhere, image_index, batch, PseudoMaskSettings())
    assert torch.equal(found[0], fused[0])
    assert not (found[1] > 0.5)[:, WIDTH // 2 - 1].any()


def test_objects_that_hide_in_color_are_not_refined():
    fused = torch.rand(2, HEIGHT, WIDTH)
    everywhere = torch.ones_like(fused, dtype=torch.bool)
    image_index = torch.zeros(2, dtype=torch.int64)
    hidden = half_bright(0.4, 0.4)
    assert torch.equal(refine(fused, everywhere, image_index, hidden, LONG), fused)


def test_cells_of_others_are_no_foreground_before_refining():
    fused = torch.full((2, HEIGHT, WIDTH), 0.9)
    own = torch.zeros_like(fused, dtype=torch.bool)
    own[:, :, WIDTH // 2 :] = True
    image_index = torch.zeros(2, dtype=torch.int64)
    found = refine(fused, own, image_index, half_bright(0.2, 0.7), LONG)
    assert torch.equal(found > 0.5, own)


@pytest.mark.parametrize("changed", [{"refine_radius": -1}, {"refine_smoothness": 0.0}])
def test_bad_filters_are_refused(changed):
    with pytest.raises(ValueError, match="refine_radius, refine_smoothness"):
        PseudoMaskSettings(**changed)
