"""Copy-paste: first in, first out; weighted draws; content that survives."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from boxmask.box_supervision.copy_paste_bank import CopyPasteBank, CopyPasteSettings
from boxmask.box_supervision.cut_out import CuttingOut
from boxmask.box_supervision.placing import PlacingSettings
from boxmask.ops.masks import boxes_of_masks
from boxmask.structures import Targets
from small_pictures import batch_of, block, boxes_only


def test_first_in_first_out():
    bank = CopyPasteBank(CopyPasteSettings(capacity=3))
    for color in (1, 2, 3, 4):
        bank.remember((block(0, 0, color=color),))
        assert len(bank) <= 3
    assert [int(p[0].picture[0, 0, 0]) for p in bank.pictures] == [2, 3, 4]
    bank.remember(())
    assert len(bank) == 3


def test_entries_are_copies():
    image, mask = torch.full((3, 8, 8), 0.5), torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 1:4] = True
    batch = batch_of([boxes_only(*[(0, 0, 8, 8)] * count) for count in (2, 1, 1)], 8, 8)
    batch.images[0], batch.images[2] = image, image * 0.5
    masks, sure = mask.repeat(4, 1, 1), torch.full((4, 8, 8), 0.8)
    masks[1] = False
    wanted = torch.tensor([True, True, False, True])
    every = CuttingOut(batch, masks, boxes_of_masks(masks), sure, wanted).objects()
    (first,), none, (second,) = every
    assert none == ()
    assert first.picture.untyped_storage().nbytes() == 3 * 5 * 5  # not those of the whole batch
    batch.images.zero_()
    masks.zero_()
    first, second = first.cut(), second.cut()
    assert int(first.picture[0, 0, 0]) == 128
    assert int(second.picture[0, 0, 0]) == 64
    assert first.corner == (1, 2)
    assert first.mask.shape == (3, 3)
    assert first.score == pytest.approx(0.8 * 9 / 10)
    assert first.picture.untyped_storage().nbytes() == 3 * 3 * 3


def test_coarse_masks_are_cut_out_at_full_size():
    """As upsampling the whole map and looking at one object after another finds it."""
    torch.manual_seed(0)
    images, masks = torch.rand(2, 3, 24, 32), torch.rand(5, 6, 8) > 0.8
    scores, index = torch.rand(5, 6, 8), torch.tensor([0, 0, 1, 1, 1])
    labels = torch.arange(5)
    boxes = torch.tensor([[0.0, 0.0, 32.0, 24.0]]).repeat(5, 1)
    targets = [Targets.from_boxes(boxes[index == i], labels[index == i]) for i in range(2)]
    batch = replace(batch_of(targets, 24, 32), images=images)
    every = CuttingOut(batch, masks, boxes_of_masks(masks), scores, labels >= 0).objects()
    found = [one.cut() for objects in every for one in objects]
    assert [one.label for one in found] == [0, 1, 2, 3, 4]
    for row, one in enumerate(found):
        whole = F.interpolate(  # coarse cell i lies on pixel 4 i + 2
            F.pad(masks[row, None, None].float(), (1, 1, 1, 1), mode="replicate"),
            size=(7 * 4 + 1, 9 * 4 + 1), mode="bilinear", align_corners=True,
        )[0, 0, 2:26, 2:34] > 0.5  # fmt: skip
        y, x = whole.nonzero().T
        assert one.corner == (int(x.min()), int(y.min()))
        area = (slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1))
        assert torch.equal(one.mask, whole[area])
        expected = (images[index[row]][:, area[0], area[1]] * 255).round()
        assert torch.equal(one.picture.float(), expected)
        total, cells = float((scores[row] * masks[row]).sum()), int(masks[row].sum())
        assert one.score == pytest.approx(16 * total / (16 * cells + 1))


def test_no_objects_to_cut_out():
    batch, maps = batch_of([boxes_only(), boxes_only()], 8, 8), torch.zeros(0, 4, 4)
    hulls = torch.zeros(0, 4)
    assert CuttingOut(batch, maps > 0, hulls, maps, torch.zeros(0) > 0).objects() == [(), ()]


def test_objects_come_in_with_the_next_ones_also_after_a_checkpoint():
    def cutting(label):
        targets = Targets.from_boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([label]))
        batch, masks = batch_of([targets], 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
        hulls = boxes_of_masks(masks)
        return CuttingOut(batch, masks, hulls, masks.float(), torch.ones(1, dtype=torch.bool))

    def labels(bank):
        return [[one.label for one in objects] for objects in bank.pictures]

    bank, resumed = (CopyPasteBank(CopyPasteSettings(capacity=3)) for _ in range(2))
    bank.await_objects(cutting(1))
    assert labels(bank) == []
    resumed.load_state_dict(bank.state_dict())
    for one in (bank, resumed):
        assert labels(one) == []
        one.await_objects(cutting(2))
        assert labels(one) == [[1]]
        one.await_objects(cutting(3))
        assert labels(one) == [[1], [2]]


def test_draws_follow_the_cubed_scores():
    bank = CopyPasteBank(CopyPasteSettings(fraction=0.01))
    source = tuple(block(0, 0, score=score) for score in (0.9, 0.6, 0.0))
    torch.manual_seed(0)
    counts = np.bincount([bank.draw(source)[0] for _ in range(10_000)], minlength=3) / 10_000
    spread = 3 * (0.771429 * 0.228571 / 10_000) ** 0.5
    assert counts[0] == pytest.approx(0.771429, abs=spread)
    assert counts[2] == 0


@pytest.mark.parametrize("number", range(1, 21))
def test_how_many_are_drawn(number):
    bank = CopyPasteBank(CopyPasteSettings())
    drawn = bank.draw(tuple(block(0, 0) for _ in range(number)))
    assert len(drawn) == min(max(round(number / 4), 1), 3)
    assert len(set(drawn)) == len(drawn)


def test_objects_without_score_are_never_drawn():
    bank = CopyPasteBank(CopyPasteSettings(fraction=1.0))
    assert bank.draw(tuple(block(0, 0, score=0.0) for _ in range(4))) == []
    assert bank.draw((block(0, 0, score=0.0), block(0, 0, score=0.5))) == [1]


@pytest.mark.parametrize(("probability", "changed"), [(0.0, 0), (1.0, 2)])
def test_pastes_once_the_bank_is_full(probability, changed):
    bank = CopyPasteBank(CopyPasteSettings(capacity=2, probability=probability))
    batch = batch_of([boxes_only((1, 1, 20, 18)), boxes_only()])
    bank.remember((block(3, 4),))
    assert bank.paste(batch)[1] == ()
    bank.remember((block(3, 4),))
    pasted, positions = bank.paste(batch)
    assert len(positions) == changed
    assert batch.images.abs().sum() == 0  # the given batch is left alone
    assert pasted.num_instances == batch.num_instances + changed


@pytest.mark.parametrize(("passes", "expected"), [(math.inf, 0.3), (4, 0.12)])
def test_so_many_pictures_get_objects(passes, expected):
    bank = CopyPasteBank(CopyPasteSettings(capacity=1, probability=0.3, passes=10.0))
    bank.remember((block(3, 4),))
    bank.passes = passes
    torch.manual_seed(0)
    count = 1000
    _, positions = bank.paste(batch_of([boxes_only()] * count))
    spread = (expected * (1 - expected) / count) ** 0.5
    assert len(positions) / count == pytest.approx(expected, abs=4 * spread)


def test_all_remembered_pictures_are_pasted_alike():
    bank = CopyPasteBank(CopyPasteSettings(capacity=4, probability=1.0))
    for label in range(4):
        bank.remember((block(3, 4, label=label),))
    torch.manual_seed(0)
    pasted, positions = bank.paste(batch_of([boxes_only()] * 1000))
    assert len(positions) == 1000
    labels = torch.cat([one.labels for one in pasted.targets])
    spread = (0.25 * 0.75 / 1000) ** 0.5
    shares = labels.bincount(minlength=4) / 1000
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=4 * spread)


def test_a_new_place_leaves_the_others_in_sight():
    where_it_was = CopyPasteSettings(capacity=1, probability=1.0)
    below = boxes_only((4, 5, 14, 15))  # under the block
    left = []
    for settings in (where_it_was, replace(where_it_was, placing=PlacingSettings())):
        bank = CopyPasteBank(settings)
        bank.remember((block(3, 4, width=12, height=12),))
        counts = []
        for seed in range(8):
            torch.manual_seed(seed)
            pasted, positions = bank.paste(batch_of([below]))
            assert positions == (0,)
            counts.append(int((~pasted.targets[0].trusted).sum()))
        left.append(counts)
    assert left == [[0] * 8, [1] * 8]


def test_runs_that_look_at_pictures_rarely_paste_less():
    bank = CopyPasteBank(CopyPasteSettings(probability=0.5, passes=20.0))
    found = []
    for passes in (5, 20, 100, math.inf):
        bank.passes = passes
        found.append(bank.probability)
    assert found == [0.125, 0.5, 0.5, 0.5]
    always = CopyPasteBank(CopyPasteSettings(probability=0.5))
    always.passes = 1
    assert always.probability == 0.5


def test_content_is_part_of_the_state():
    bank = CopyPasteBank(CopyPasteSettings(capacity=2))
    bank.remember((block(3, 4), block(5, 6, label=2)))
    other = CopyPasteBank(CopyPasteSettings(capacity=2))
    other.load_state_dict(bank.state_dict())
    assert len(other) == 1
    assert torch.equal(other.pictures[0][1].mask, bank.pictures[0][1].mask)
    assert other.pictures[0][1].label == 2
    first_form = CopyPasteBank(CopyPasteSettings(capacity=2))
    first_form.set_extra_state(bank.get_extra_state()["pictures"])
    assert first_form.pictures[0][1].label == 2
