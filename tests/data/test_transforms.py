from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.data.transforms import (
    MAX_ASPECT,
    AugmentationSettings,
    Sample,
    augment,
    crop,
    flip_horizontally,
    resize_short_side,
)
from boxmask.ops.masks import boxes_of_masks
from boxmask.structures import Targets


def sample_of(size, boxes, *, with_masks=True):
    """A random picture with filled boxes as masks."""
    height, width = size
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    count = len(tensor)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return Sample(
        image=torch.randint(0, 256, (3, height, width), dtype=torch.uint8),
        targets=Targets(
            boxes=tensor,
            labels=torch.arange(count),
            tight=torch.ones(count, 2, dtype=torch.bool),
            masks=masks if with_masks else None,
            trusted=torch.full((count,), with_masks),
        ),
    )


@st.composite
def samples(draw):
    height, width = draw(st.integers(33, 150)), draw(st.integers(33, 150))
    boxes = []
    for _ in range(draw(st.integers(0, 3))):
        x1, y1 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
        boxes.append([x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))])
    return sample_of((height, width), boxes)


@given(samples())
def test_flipping_twice_changes_nothing(sample):
    twice = flip_horizontally(flip_horizontally(sample))
    assert torch.equal(twice.image, sample.image)
    torch.testing.assert_close(twice.targets.boxes, sample.targets.boxes)
    assert torch.equal(twice.targets.masks, sample.targets.masks)


@given(samples())
def test_flipped_boxes_are_the_boxes_of_flipped_masks(sample):
    flipped = flip_horizontally(sample)
    assert torch.equal(boxes_of_masks(flipped.targets.masks), flipped.targets.boxes)


@given(samples(), st.integers(32, 200), st.booleans())
def test_boxes_follow_masks(sample, short_side, flips):
    moved = resize_short_side(sample, short_side)
    if flips:
        moved = flip_horizontally(moved)
    tight = boxes_of_masks(moved.targets.masks)
    there = moved.targets.masks.flatten(1).any(dim=1)  # a thin mask may fall between pixels
    assert ((tight - moved.targets.boxes)[there].abs() <= 1).all()
    assert torch.equal(moved.targets.labels, sample.targets.labels)
    assert moved.targets.masks.shape[-2:] == moved.image_size


@given(samples(), st.integers(32, 200))
def test_sizes_and_scales(sample, short_side):
    moved = resize_short_side(sample, short_side)
    height, width = moved.image_size
    assert min(height, width) <= short_side
    assert max(height, width) <= round(short_side * MAX_ASPECT)
    assert moved.image.dtype == torch.uint8
    old = (sample.image_size[1], sample.image_size[0])
    assert moved.scale == pytest.approx((width / old[0], height / old[1]))
    x, y = moved.scale
    expected = sample.targets.boxes * torch.tensor([x, y, x, y])
    torch.testing.assert_close(moved.targets.boxes, expected)


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((300, 400), 150, (150, 200)),
        ((400, 300), 150, (200, 150)),
        ((100, 1000), 150, (25, 250)),  # the long side limits: 5/3 of 150
        ((37, 53), 37, (37, 53)),
        ((1, 600), 60, (1, 100)),
    ],
)
def test_known_sizes(size, short_side, expected):
    assert resize_short_side(sample_of(size, []), short_side).image_size == expected


def test_scales_multiply():
    sample = sample_of((120, 160), [])
    twice = resize_short_side(resize_short_side(sample, 60), 30)
    assert twice.scale == pytest.approx((0.25, 0.25))


def test_a_picture_of_the_right_size_stays():
    sample = sample_of((64, 80), [[3, 4, 20, 30]])
    same = resize_short_side(sample, 64)
    assert torch.equal(same.image, sample.image)
    assert torch.equal(same.targets.masks, sample.targets.masks)


def test_without_masks():
    sample = sample_of((64, 80), [[3, 4, 20, 30]], with_masks=False)
    moved = flip_horizontally(resize_short_side(sample, 32))
    assert moved.targets.masks is None
    assert moved.targets.boxes.tolist() == [[30, 2, 38.5, 15]]


def variant(seed, settings, sample):
    return augment(sample, settings, torch.Generator().manual_seed(seed))


def test_variants_depend_on_the_generator_alone():
    sample = sample_of((90, 120), [[10, 20, 60, 70]])
    settings = AugmentationSettings(image_size=64, smallest_scale=0.5, brightness=0.3)
    first = variant(5, settings, sample)
    torch.rand(10)  # the global generator does not matter
    second = variant(5, settings, sample)
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.targets.boxes, second.targets.boxes)
    sides = {min(variant(seed, settings, sample).image_size) for seed in range(60)}
    assert min(sides) >= 32
    assert max(sides) <= 64
    assert len(sides) > 15


@pytest.mark.parametrize(("probability", "flips"), [(0.0, 0), (1.0, 40)])
def test_probability_of_a_flip(probability, flips):
    sample = sample_of((64, 64), [[0, 0, 10, 10]])
    settings = AugmentationSettings(image_size=64, smallest_scale=1.0, flip=probability)
    found = [variant(seed, settings, sample).targets.boxes[0, 0].item() for seed in range(40)]
    assert sum(x1 > 0 for x1 in found) == flips


def test_colors_change_the_picture_alone():
    sample = sample_of((64, 64), [[5, 5, 30, 30]])
    plain = AugmentationSettings(image_size=64, smallest_scale=1.0, flip=0.0)
    colored = replace(plain, brightness=0.4)
    assert torch.equal(variant(1, plain, sample).image, sample.image)
    changed = variant(1, colored, sample)
    assert not torch.equal(changed.image, sample.image)
    assert torch.equal(changed.targets.boxes, sample.targets.boxes)
    assert changed.image.dtype == torch.uint8


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="image_size: expected at least 32 pixels, got 16"):
        AugmentationSettings(image_size=16)
    with pytest.raises(ValueError, match="smallest_scale: expected more than 0"):
        AugmentationSettings(smallest_scale=1.2)
    with pytest.raises(ValueError, match="smallest_scale: expected more than 0"):
        AugmentationSettings(smallest_scale=0.0)


def disc_of(size, center, radius):
    """A picture with one disc, and the disc's box."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    mask = ((y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2)[None]
    boxes = boxes_of_masks(mask)
    return Sample(
        image=torch.randint(0, 256, (3, *size), dtype=torch.uint8),
        targets=replace(
            Targets.from_boxes(boxes, torch.zeros(1, dtype=torch.long)),
            masks=mask,
            trusted=torch.ones(1, dtype=torch.bool),
        ),
    )


@given(
    st.tuples(st.integers(20, 59), st.integers(20, 79)),
    st.integers(0, 50),
    st.integers(0, 60),
    st.integers(10, 60),
)
def test_tight_axes_of_cropped_boxes_fit_the_masks(center, top, left, side):
    sample = disc_of((80, 100), center, 20)
    found = crop(sample, top, left, side)
    assert torch.equal(found.image, sample.image[:, top : top + side, left : left + side])
    for box, (along_x, along_y), mask in zip(
        found.targets.boxes, found.targets.tight, found.targets.masks, strict=True
    ):
        x1, y1, x2, y2 = boxes_of_masks(mask[None])[0].tolist()
        if along_x:
            assert [x1, x2] == box[[0, 2]].tolist()
        if along_y:
            assert [y1, y2] == box[[1, 3]].tolist()


def test_a_cut_at_one_side_leaves_the_other_axis_unknown():
    sample = sample_of((60, 60), [[10, 10, 40, 30], [30, 40, 50, 60]])
    found = crop(sample, 0, 20, 60).targets
    assert found.boxes.tolist() == [[0, 10, 20, 30], [10, 40, 30, 60]]
    assert found.tight.tolist() == [[True, False], [True, True]]


def test_objects_that_are_nearly_out_of_sight_are_left_out():
    sample = sample_of((60, 60), [[0, 0, 50, 10], [0, 20, 40, 30]])
    found = crop(sample, 0, 38, 60).targets  # 12 of 50 and 2 of 40 columns are left
    assert found.labels.tolist() == [0]
    assert found.masks.shape == (1, 60, 22)


def test_crops_know_boxes_alone():
    with_masks = sample_of((90, 120), [[10, 20, 60, 70], [50, 0, 120, 90]])
    without = replace(
        with_masks, targets=replace(with_masks.targets, masks=None, trusted=torch.zeros(2).bool())
    )
    settings = AugmentationSettings(image_size=50, crop=1.28, smallest_scale=0.5, largest_scale=2)
    for seed in range(20):
        first, second = (variant(seed, settings, one) for one in (with_masks, without))
        assert torch.equal(first.image, second.image)
        assert torch.equal(first.targets.boxes, second.targets.boxes)
        assert torch.equal(first.targets.tight, second.targets.tight)


def test_sizes_of_crops():
    sample = sample_of((90, 120), [[10, 20, 60, 70]])
    settings = AugmentationSettings(image_size=50, crop=1.28, smallest_scale=0.1, largest_scale=2)
    assert settings.crop_side == 64
    sizes = {variant(seed, settings, sample).image_size for seed in range(60)}
    assert (64, 64) in sizes  # a window of a larger picture
    assert max(max(size) for size in sizes) == 64
    small = min(sizes)
    assert small[1] < 20
    assert small[0] / small[1] == pytest.approx(0.75, abs=0.1)  # whole, however small


def test_a_hidden_mask_is_not_trusted():
    sample = sample_of((60, 60), [[10, 10, 40, 40]])
    sample.targets.masks[0, :, 20:] = False
    found = crop(sample, 0, 25, 60).targets
    assert len(found) == 1
    assert not found.trusted.any()
    with pytest.raises(ValueError, match="crop: expected 0 or more, got -1"):
        AugmentationSettings(crop=-1)
