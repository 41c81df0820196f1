"""Rules of the published code that differ from ours, by hand, each beside ours where it matters."""

import pytest
import torch

from boxmask.benchmark import published_forms
from boxmask.ops.certain_masks import certain_mask_distances
from boxmask.ops.masks import aligned_upsample


@pytest.mark.parametrize(
    ("score", "target", "expected"),
    [
        (0.9, 1, 8.528847e-4),
        (0.5, 1, 0.02962981),
        (0.1, 1, 0.1304903),
        (0.1, 0, 5.582975e-3),
        (0.9, 0, 0.7540010),
    ],
)
def test_double_sigmoid_focal_loss_of_one_cell(score, target, expected):
    cell = torch.ones(1, dtype=torch.float64)
    found = published_forms.double_sigmoid_focal_loss(cell * score, cell * target, cell)
    assert float(found) == pytest.approx(expected / 2, rel=1e-6)  # divided by the weight plus 1


@pytest.mark.parametrize(("score", "entropy"), [(0.0, 0.693147), (1.0, 0.313262)])
def test_cross_entropy_of_foreground_is_never_zero_there(score, entropy):
    """Looked at beside a score of 1, where the factor of the focal loss is not yet 0."""
    score = torch.tensor([min(score, 1 - 1e-6)], dtype=torch.float64)
    cell = torch.ones_like(score)
    loss = published_forms.double_sigmoid_focal_loss(score, cell, cell) * 2
    factor = published_forms.FOCAL_ALPHA * (1 - score) ** 2
    assert float(loss / factor) == pytest.approx(entropy, abs=1e-6)


def test_an_utterly_wrong_mask_hardly_learns_there():
    truth = torch.ones(1, 2, 2)
    logits = torch.full((1, 2, 2), -8.0, requires_grad=True)
    published_forms.double_sigmoid_focal_loss(logits.sigmoid(), truth, truth).backward()
    assert logits.grad.abs().max() < 1e-3
    logits.grad = None
    index = torch.zeros(1, dtype=torch.long)
    certain_mask_distances(logits, truth > 0, truth > 0, index).sum().backward()
    assert logits.grad.abs().min() > 0.2


def test_drawn_boxes_are_one_row_and_column_too_large_and_thin_ones_may_vanish():
    boxes = torch.tensor([[1.0, 2.0, 3.0, 4.0], [3.2, 0.0, 4.9, 8.0], [-2.0, 5.0, 40.0, 90.0]])
    drawn = published_forms.drawn_boxes(boxes, (8, 8))
    assert drawn.flatten(1).sum(dim=1).tolist() == [9, 16, 24]
    assert drawn[0, 2:5, 1:4].all()
    at_stride = published_forms.box_masks(boxes, (8, 8), 4)  # pixels 2 and 6
    assert at_stride.flatten(1).tolist() == [
        [True, False, False, False], [False] * 4, [False, False, True, True],
    ]  # fmt: skip


def test_features_and_masks_are_half_a_cell_apart_there():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    apart = aligned_upsample(ramp, 2) - published_forms.half_pixel_upsample(ramp, 2)
    torch.testing.assert_close(apart[..., 4:12], torch.full_like(apart[..., 4:12], -0.25))
    assert published_forms.half_pixel_upsample(ramp, 1) is ramp


def test_prototypes_are_unit_vectors_over_the_prototypes_of_a_class_there():
    found = published_forms.unit_over_prototypes(torch.randn(3, 10, 16))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3, 16))
    assert (found.norm(dim=2) - 1).abs().max() > 0.1


@pytest.mark.parametrize(
    ("iteration", "expected"), [(10_000, 0.0), (135_000, 0.15), (270_000, 0.3), (500_000, 0.3)]
)
def test_weight_of_the_pseudo_mask_loss(iteration, expected):
    assert published_forms.pseudo_ramp(iteration) == pytest.approx(expected)


def test_weight_of_the_pairwise_term():
    assert [published_forms.pairwise_ramp(step) for step in (0, 2_500, 20_000)] == [0, 0.25, 1]
