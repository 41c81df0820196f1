import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boxmask.ops.masks import aligned_upsample, boxes_of_masks, paste_mask, sample_at_stride
from references import masks as reference


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (4, 5), (3, 7)])
def test_upsampling_equals_a_loop(factor, size):
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    ours = aligned_upsample(maps, factor)
    assert ours.shape == (2, 3, factor * size[0], factor * size[1])
    for row in range(2):
        for channel in range(3):
            expected = reference.aligned_upsample(maps[row, channel], factor)
            torch.testing.assert_close(ours[row, channel], expected)


@pytest.mark.parametrize("factor", [2, 4])
def test_coarse_cells_are_met_exactly(factor):
    maps = torch.randn(1, 1, 37, 53, dtype=torch.float64)
    fine = aligned_upsample(maps, factor)
    torch.testing.assert_close(fine[..., factor // 2 :: factor, factor // 2 :: factor], maps)
    torch.testing.assert_close(sample_at_stride(fine, factor), maps)


def test_constants_and_ramps_stay():
    assert (aligned_upsample(torch.full((1, 1, 4, 4), 2.5), 4) == 2.5).all()
    ramp = torch.arange(6.0).expand(1, 1, 3, 6)
    fine = aligned_upsample(ramp, 4)[0, 0, 5]
    steps = fine[2:-2].diff()
    torch.testing.assert_close(steps[:-2], torch.full_like(steps[:-2], 0.25))


def test_sampling_starts_in_the_middle_of_a_cell():
    maps = torch.arange(64).reshape(8, 8)
    assert sample_at_stride(maps, 4).tolist() == [[18, 22], [50, 54]]


@st.composite
def pasting(draw):
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    values = draw(st.lists(st.floats(0, 1), min_size=height * width, max_size=height * width))
    x1, y1 = draw(st.integers(-4, 20)), draw(st.integers(-4, 20))
    frame = (x1, y1, x1 + draw(st.integers(1, 30)), y1 + draw(st.integers(1, 30)))
    scale = (draw(st.sampled_from([0.4, 1.0, 1.7])), draw(st.sampled_from([0.4, 1.0, 2.3])))
    size = (draw(st.integers(1, 24)), draw(st.integers(1, 24)))
    return torch.tensor(values).reshape(height, width), frame, scale, size


@given(pasting(), st.sampled_from([0.5, 0.3]))
def test_pasting_equals_a_loop_over_the_picture(case, threshold):
    mask_scores, frame, scale, size = case
    ours = paste_mask(
        mask_scores, torch.tensor(frame, dtype=torch.float32), scale, size, threshold=threshold
    )
    scores = reference.pasted_scores(mask_scores, frame, scale, size)
    # Within rounding of the threshold, or of the frame's sides, either answer is right.
    x = (torch.arange(size[1]) + 0.5) * scale[0]
    y = (torch.arange(size[0]) + 0.5) * scale[1]
    on_x = ((x - frame[0]).abs() < 1e-4) | ((x - frame[2]).abs() < 1e-4)
    on_y = ((y - frame[1]).abs() < 1e-4) | ((y - frame[3]).abs() < 1e-4)
    clear = ((scores - threshold).abs() > 1e-4) & ~on_x & ~on_y[:, None]
    assert ours.shape == size
    assert torch.equal(ours[clear], (scores > threshold)[clear])


def test_pasting_scales_to_the_picture():
    scores = torch.zeros(4, 4)
    scores[1:3, 1:3] = 1.0  # pixels 4..12 of a 16 pixel input
    pasted = paste_mask(scores, torch.tensor([0.0, 0, 16, 16]), (0.5, 0.5), (32, 32))
    assert boxes_of_masks(pasted[None]).tolist() == [[8, 8, 24, 24]]


def test_pasting_nothing():
    pasted = paste_mask(torch.full((3, 3), 0.5), torch.tensor([0.0, 0, 9, 9]), (1.0, 1.0), (37, 53))
    assert pasted.shape == (37, 53)
    assert not pasted.any()


@given(st.integers(0, 10**6))
def test_boxes_of_masks_equal_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(4, 7, 5, generator=generator) < 0.08
    assert boxes_of_masks(masks).tolist() == [reference.box_of_mask(mask) for mask in masks]


def test_box_of_a_known_mask():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2:5, 1:4] = True
    assert boxes_of_masks(masks).tolist() == [[1, 2, 4, 5], [0, 0, 0, 0]]
    assert boxes_of_masks(masks[:0]).shape == (0, 4)
