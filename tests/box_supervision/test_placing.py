import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from boxmask.box_supervision.cut_out import CutOut
from boxmask.box_supervision.placing import PlacingSettings, place_objects
from boxmask.ops.boxes import covered_shares


def ellipse(width, height, corner=(0, 0)):
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    mask = y[:, None] ** 2 + x**2 <= 1
    picture = torch.arange(3 * height * width).reshape(3, height, width).remainder(256)
    return CutOut(picture=picture.to(torch.uint8), mask=mask, corner=corner, label=4, score=0.5)


def box_of(one):
    x, y = one.corner
    return torch.tensor([[x, y, x + one.mask.shape[1], y + one.mask.shape[0]]]).float()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sides=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    most=st.sampled_from([0.0, 0.3, 0.9]),
    smallest=st.sampled_from([0.2, 0.5, 1.0]),
)
def test_placed_objects_lie_in_the_picture_and_leave_enough_of_the_others(
    seed, sides, most, smallest
):
    torch.manual_seed(seed)
    size = (48, 64)
    corner = torch.rand(3, 2) * torch.tensor([50.0, 36])
    boxes = torch.cat([corner, corner + 2 + torch.rand(3, 2) * 10], dim=1)
    chosen = PlacingSettings(most_covered=most, smallest=smallest)
    one = ellipse(*sides)
    for placed in place_objects([one, one], boxes, size, chosen):
        found = box_of(placed)
        assert (found[0, :2] >= 0).all()
        assert found[0, 2] <= size[1]
        assert found[0, 3] <= size[0]
        assert (covered_shares(boxes, found) <= most).all()
        assert placed.picture.shape[1:] == placed.mask.shape
        assert (placed.label, placed.score) == (4, 0.5)
        boxes = torch.cat([boxes, found])  # the next one leaves enough of this one, too
        shrunken = max(placed.mask.shape) / max(sides)
        fits = min(1, size[1] / sides[0], size[0] / sides[1])
        assert shrunken <= fits + 1e-6
        assert shrunken >= min(smallest, fits) - 1 / max(sides)


def test_sizes_and_places_vary_and_masks_keep_their_shape():
    torch.manual_seed(0)
    one = ellipse(40, 30)
    nothing = torch.zeros(0, 4)
    placed = [place_objects([one], nothing, (100, 200), PlacingSettings())[0] for _ in range(40)]
    widths = [each.mask.shape[1] for each in placed]
    assert min(widths) < 25
    assert max(widths) > 35
    assert len({each.corner for each in placed}) > 30
    for each in placed:
        assert each.mask.float().mean() == pytest.approx(torch.pi / 4, abs=0.05)


def test_one_size_keeps_every_pixel():
    one = ellipse(40, 30, corner=(7, 8))
    (placed,) = place_objects([one], torch.zeros(0, 4), (50, 60), PlacingSettings(smallest=1.0))
    assert torch.equal(placed.mask, one.mask)
    assert torch.equal(placed.picture, one.picture)


def test_an_object_without_a_place_is_left_out():
    whole = torch.tensor([[0.0, 0, 60, 50]])
    one = ellipse(40, 30)
    assert place_objects([one], whole, (50, 60), PlacingSettings(most_covered=0.0)) == []
    assert len(place_objects([one], whole, (50, 60), PlacingSettings(most_covered=0.5))) == 1


@pytest.mark.parametrize("wrong", [{"smallest": 0}, {"most_covered": 1.1}, {"tries": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PlacingSettings(**wrong)
