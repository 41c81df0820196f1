from dataclasses import replace

import numpy as np
import pytest
import torch

from boxmask.box_supervision.placing import PlacingSettings
from boxmask.data.pictures import read_picture
from boxmask.evaluation.explained_picture import (
    class_prototypes,
    look_at_picture,
    mask_iou,
    object_stages,
    on_cells,
    own_random_numbers,
    pasted_picture,
    pasted_variants,
    picture_batch,
)
from boxmask.visualization.correction_panels import BACKGROUND, FOREGROUND, IGNORED, OUTSIDE

NAMES = ("disc", "star")


@pytest.fixture
def batch(make_record):
    record = make_record([4, 4, 30, 40], [20, 8, 60, 44], labels=[0, 1])
    return picture_batch(read_picture(record.path), record, 96)


@pytest.fixture
def learned(small_detector, make_loss, batch):
    return look_at_picture(small_detector, make_loss(), batch)


def test_a_batch_of_one_picture(make_record):
    record = make_record([4, 4, 30, 40], [0, 0, 64, 48], crowd=[False, True])
    batch = picture_batch(read_picture(record.path), record, 96)
    assert batch.image_sizes == ((96, 128),)
    assert batch.images.shape == (1, 3, 96, 128)
    assert batch.targets[0].boxes.tolist() == [[8, 8, 60, 80]]  # the crowd is left out


def test_states_say_what_the_loss_does(learned):
    masks, inside = learned.steps.correction.masks, learned.steps.correction.inside.numpy()
    foreground, certain = masks.foreground.numpy(), masks.certain.numpy()
    assert ((learned.states == FOREGROUND) == foreground).all()
    assert ((learned.states == BACKGROUND) == (certain & ~foreground)).all()
    assert ((learned.states == IGNORED) == (inside & ~certain)).all()
    assert ((learned.states == OUTSIDE) == ~inside).all()


def test_looking_touches_no_random_number_and_no_weight(small_detector, make_loss, make_record):
    record = make_record(*[[4, 4, 30, 40]] * 70)  # a crowd, of which samples are drawn
    batch = picture_batch(read_picture(record.path), record, 64)
    before = {name: value.clone() for name, value in small_detector.state_dict().items()}
    numbers = torch.get_rng_state()
    first, second = (look_at_picture(small_detector, make_loss(), batch) for _ in range(2))
    assert torch.equal(numbers, torch.get_rng_state())
    assert (first.states == second.states).all()
    for name, value in small_detector.state_dict().items():
        assert torch.equal(value, before[name])


def test_own_random_numbers_end_with_their_block():
    numbers = torch.get_rng_state()
    with own_random_numbers(torch.device("cpu"), seed=3):
        first = torch.rand(2)
    assert torch.equal(numbers, torch.get_rng_state())
    assert torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(3)))


def test_stages_of_an_object(learned):
    label, truth = np.zeros((48, 64), dtype=bool), np.zeros((48, 64), dtype=bool)
    label[8:24, 8:24] = True
    truth[8:40, 8:24] = True
    first, second = learned.masks_of_neighbors([0, 1])
    one = object_stages(learned, 0, "1  disc", first, label, truth)
    # Input pixels are half a picture pixel; cells are 4 of them, so masks end between cells.
    assert one.ious["label"] == pytest.approx(0.5)
    stages = {
        "neighbors",
        "mean",
        "instance",
        "semantic",
        "fused",
        "colored",
        "refined",
        "pseudo",
        "label",
    }
    assert set(one.ious) == stages
    weights = [sample.weight for sample in one.samples]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(1, abs=1e-5)
    summed = sum(sample.weight * sample.scores for sample in one.samples)
    assert np.allclose(summed, one.instance, atol=1e-5)
    assert sum(one.shares()) == pytest.approx(1)
    other = object_stages(learned, 1, "2  star", second, label, None)
    assert other.semantic is None  # its class has no prototypes
    assert other.ious == {}


def test_prototypes_of_classes_that_have_some(learned, make_loss):
    (only,) = class_prototypes(make_loss(), learned, NAMES)
    assert only.name == "disc"
    assert only.boxes.tolist() == [[8, 8, 60, 80]]
    assert only.counts.sum() == only.inside.sum()


def test_a_mask_on_cells(batch):
    mask = np.zeros((48, 64), dtype=bool)
    mask[0:9, 0:2] = True  # pixels 0..18 by 0..4 of the input
    cells = on_cells(mask, batch, (24, 32))
    expected = np.zeros((24, 32), dtype=bool)
    expected[:5, :1] = True  # the fifth cell is half covered
    assert (cells == expected).all()


def test_iou():
    first, second = np.zeros((2, 4), dtype=bool), np.zeros((2, 4), dtype=bool)
    assert mask_iou(first, second) == 0
    first[0], second[:, :2] = True, True
    assert mask_iou(first, second) == pytest.approx(2 / 6)


def test_pasted_variants_are_the_same_each_time(make_loss, batch):
    bank = make_loss(remembered=3, capacity=100).paste_bank  # far from full
    numbers = torch.get_rng_state()
    variants = pasted_variants(bank, batch, 2)
    assert torch.equal(numbers, torch.get_rng_state())
    assert len(variants) == 2
    again = pasted_variants(bank, batch, 2)
    assert all(torch.equal(a.images, b.images) for a, b in zip(variants, again, strict=True))
    drawn = pasted_picture(variants[0], NAMES)
    assert drawn.pasted.tolist().count(True) == 1
    assert drawn.names[int(drawn.pasted.argmax())] == "star"
    assert (drawn.picture[drawn.masks[drawn.pasted.argmax()]] == 255).all()
    assert not pasted_picture(batch, NAMES).pasted.any()


def test_variants_lie_where_training_would_put_them(make_loss, batch):
    bank = make_loss(remembered=3, capacity=100).paste_bank
    kept = pasted_picture(pasted_variants(bank, batch, 1)[0], NAMES)
    placing = PlacingSettings(smallest=0.5, most_covered=0.1)
    bank.settings = replace(bank.settings, placing=placing)
    places = set()
    for seed in range(8):
        for variant in pasted_variants(bank, batch, 1, seed):
            drawn = pasted_picture(variant, NAMES)
            places.add(tuple(drawn.boxes[drawn.pasted.argmax()].tolist()))
    assert len(places) > 1
    assert places != {tuple(kept.boxes[kept.pasted.argmax()].tolist())}


def test_an_empty_bank_gives_no_variant(make_loss, batch):
    assert pasted_variants(make_loss(remembered=0).paste_bank, batch, 3) == []
