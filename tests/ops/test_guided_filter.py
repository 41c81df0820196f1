"""The guided filter beside one regression a window, written out."""

import numpy as np
import pytest
import torch

from boxmask.ops import guided_filter as module
from boxmask.ops.guided_filter import color_guide, guided_filter

RADIUS, SMOOTHNESS = 2, 1e-3


def by_regression(colors, valid, mask, radius, smoothness):
    """(h, w) the mean, over the windows that hold a cell, of what each window's ridge says."""
    height, width = mask.shape
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            if not valid[y, x]:
                continue
            rows = slice(max(y - radius, 0), y + radius + 1)
            columns = slice(max(x - radius, 0), x + radius + 1)
            inside = valid[rows, columns]
            seen = colors[:, rows, columns][:, inside]  # (3, cells)
            given = mask[rows, columns][inside]
            centered = seen - seen.mean(axis=1, keepdims=True)
            spread = centered @ centered.T / len(given) + smoothness * np.eye(3)
            slope = np.linalg.solve(spread, centered @ (given - given.mean()) / len(given))
            said = slope @ (colors[:, rows, columns] - seen.mean(axis=1)[:, None, None]).reshape(
                3, -1
            )
            total[rows, columns] += given.mean() + said.reshape(inside.shape)
            count[rows, columns] += 1
    return np.where(valid, total / np.maximum(count, 1), 0).clip(0, 1)


def explained_by_definition(valid, mask, filtered, radius):
    """What colours explain of the border: both filters' errors, cell by cell."""

    def means(plane):
        found = np.zeros(plane.shape)
        for y, x in np.argwhere(valid):
            rows = slice(max(y - radius, 0), y + radius + 1)
            columns = slice(max(x - radius, 0), x + radius + 1)
            found[y, x] = plane[rows, columns][valid[rows, columns]].mean()
        return found

    near = means(mask)
    border = (near > 1e-4) & (near < 1 - 1e-4)
    if not border.any():
        return 1.0
    kept, smoothed = (
        np.square(one - mask * valid)[border].sum() for one in (filtered, means(near))
    )
    return 1 - kept / smoothed


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(3)
    colors = torch.rand(2, 3, 9, 11, generator=generator, dtype=torch.float64)
    valid = torch.ones(2, 9, 11, dtype=torch.bool)
    valid[1, :, 8:] = False
    valid[1, 7:] = False
    return colors, valid


def test_each_window_is_a_regression_on_colors(pictures):
    colors, valid = pictures
    masks = torch.rand(5, 9, 11, generator=torch.Generator().manual_seed(4)).double().round()
    image_index = torch.tensor([0, 1, 1, 0, 1])
    guide = color_guide(colors, valid, radius=RADIUS, smoothness=SMOOTHNESS)
    found, explained = guided_filter(masks, image_index, guide)
    for mask, image, row, share in zip(masks, image_index, found, explained, strict=True):
        known = valid[image].numpy()
        expected = by_regression(colors[image].numpy(), known, mask.numpy(), RADIUS, SMOOTHNESS)
        np.testing.assert_allclose(row.numpy(), expected, atol=1e-9)
        expected = explained_by_definition(known, mask.numpy(), expected, RADIUS)
        assert share.item() == pytest.approx(expected, abs=1e-9)


def test_single_precision_is_enough(pictures):
    colors, valid = pictures
    colors = (colors * 20).round() / 200 + 0.4  # small differences of bright colours
    masks = (torch.rand(4, 9, 11) < 0.5).double()
    image_index = torch.zeros(4, dtype=torch.int64)
    fine, coarse = (
        guided_filter(
            masks.to(kind),
            image_index,
            color_guide(colors.to(kind), valid, radius=2, smoothness=1e-5),
        )[0]
        for kind in (torch.float64, torch.float32)
    )
    assert (fine - coarse).abs().max() < 2e-3


def test_grey_pictures_need_no_more_precision(pictures):
    """Equal channels: their covariance is singular but for the smoothness."""
    colors, valid = pictures
    grey = colors[:, :1].expand(-1, 3, -1, -1).contiguous()
    masks = (torch.rand(4, 9, 11, generator=torch.Generator().manual_seed(6)) < 0.5).double()
    image_index = torch.tensor([0, 1, 0, 1])
    guide = color_guide(grey.float(), valid, radius=RADIUS, smoothness=1e-5)
    found, _ = guided_filter(masks.float(), image_index, guide)
    for mask, image, row in zip(masks, image_index, found, strict=True):
        expected = by_regression(
            grey[image].numpy(), valid[image].numpy(), mask.numpy(), RADIUS, 1e-5
        )
        np.testing.assert_allclose(row.numpy(), expected, atol=1e-3)


def test_a_border_moves_to_the_border_of_colors():
    colors = torch.zeros(1, 3, 12, 12)
    colors[..., 6:] = 0.8
    mask = torch.zeros(1, 12, 12)
    mask[..., 7:] = 1.0  # one cell short of the border
    valid = torch.ones(1, 12, 12, dtype=torch.bool)
    guide = color_guide(colors, valid, radius=2, smoothness=1e-5)
    found = guided_filter(mask, torch.tensor([0]), guide)[0] > 0.5
    assert found[0, :, 6:].all()
    assert not found[0, :, :6].any()


def test_plain_colors_smooth():
    mask = torch.zeros(1, 9, 9)
    mask[0, :, 5:] = 1.0
    valid = torch.ones(1, 9, 9, dtype=torch.bool)
    guide = color_guide(torch.full((1, 3, 9, 9), 0.3), valid, radius=1, smoothness=1e-5)
    row = guided_filter(mask, torch.tensor([0]), guide)[0][0, 4]
    # Twice the mean over three cells: weights 1, 2, 3, 2, 1 of 9 around each cell.
    expected = torch.tensor([0, 0, 0, 1, 3, 6, 8, 9, 9]) / 9
    torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


def test_what_colors_explain_by_hand():
    """A border of colours beside the mask's own explains all of it; plain colours explain none."""
    mask = torch.zeros(1, 9, 9)
    mask[0, :, 5:] = 1.0
    valid = torch.ones(2, 9, 9, dtype=torch.bool)
    colors = torch.full((2, 3, 9, 9), 0.3)
    colors[1, :, :, 5:] = 0.9
    guide = color_guide(colors, valid, radius=1, smoothness=1e-6)
    masks, image_index = mask.expand(2, 9, 9).clone(), torch.tensor([0, 1])
    _, explained = guided_filter(masks, image_index, guide)
    assert explained.tolist() == pytest.approx([0, 1], abs=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("radius", [1, 2, 4])
def test_compiled_equals_plain(radius, threads, set_threads):
    """Also at the sides, in padding, where all is mask and where none is."""
    generator = torch.Generator().manual_seed(5)
    colors = torch.rand(2, 3, 20, 24, generator=generator)
    valid = torch.ones(2, 20, 24, dtype=torch.bool)
    valid[1, :, 15:] = False
    masks = torch.zeros(7, 20, 24)
    masks[0, 8:11, 9:14] = 1
    masks[1, 0:4, 20:24] = 1
    masks[2, 16:20, 10:18] = 1
    masks[3, 12, 3] = 1
    masks[5] = 1
    masks[6] = torch.rand(20, 24, generator=generator)
    image_index = torch.tensor([0, 0, 1, 1, 0, 1, 0])
    guide = color_guide(colors.double(), valid, radius=radius, smoothness=1e-3)
    expected, shares = guided_filter(masks.double(), image_index, guide)
    set_threads(threads)
    guide = color_guide(colors, valid, radius=radius, smoothness=1e-3)
    found, explained = guided_filter(masks, image_index, guide)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(explained.double(), shares, atol=1e-4, rtol=0)
    assert found[4].eq(0).all()
    assert explained[4] == 1
    assert explained[:4].ne(1).all()


def test_crowds_are_filtered_in_parts(pictures, monkeypatch):
    colors, valid = pictures
    masks = torch.rand(7, 9, 11, dtype=torch.float64)
    image_index = torch.tensor([0, 0, 1, 1, 1, 0, 1])
    guide = color_guide(colors, valid, radius=1, smoothness=1e-4)
    whole = guided_filter(masks, image_index, guide)
    monkeypatch.setattr(module, "CELLS_TOGETHER", 2 * 9 * 11)
    for part, one in zip(guided_filter(masks, image_index, guide), whole, strict=True):
        assert torch.equal(part, one)


def test_no_masks(pictures):
    for kind in (torch.float32, torch.float64):
        guide = color_guide(pictures[0].to(kind), pictures[1], radius=1, smoothness=1e-4)
        none, index = torch.zeros(0, 9, 11, dtype=kind), torch.zeros(0, dtype=torch.int64)
        found, explained = guided_filter(none, index, guide)
        assert found.shape == (0, 9, 11)
        assert explained.shape == (0,)


@pytest.mark.parametrize(("radius", "smoothness"), [(0, 1e-3), (2, 0.0)])
def test_what_is_no_filter_is_refused(pictures, radius, smoothness):
    with pytest.raises(ValueError, match="radius, smoothness"):
        color_guide(*pictures, radius=radius, smoothness=smoothness)
