import pytest
import torch

from boxmask import ranks
from boxmask.box_supervision.collapse_guard_loss import REMEMBERED, CollapseGuardLossSettings
from boxmask.box_supervision.shape_prior_loss import ShapePriorLossSettings

BOX = [4, 4, 24, 20]


def thin(context_of):
    """A mask of one row of the box, which touches two of its sides."""
    logits = torch.full((1, 6, 8), -20.0)
    logits[0, 2, 1:6] = 20.0
    return context_of(logits, [BOX])


@pytest.mark.parametrize(
    ("fill", "strength"), [(1.0, 0.0), (0.3, 0.0), (0.25, 0.5), (0.2, 1.0), (0.0, 1.0)]
)
def test_strength_grows_as_masks_lose_fill(fill, strength):
    guard = CollapseGuardLossSettings(least_fill=0.3).build()
    guard.fill.fill_(fill)
    assert guard.strength.item() == pytest.approx(strength, abs=1e-5)


def test_nothing_while_masks_are_whole(make_context):
    logits = torch.randn(1, 6, 8, requires_grad=True)
    loss = CollapseGuardLossSettings().build()(make_context(logits, [BOX]))
    loss.total.backward()
    assert loss.total.item() == 0
    assert logits.grad.count_nonzero() == 0


def test_the_prior_when_masks_are_thin(make_context):
    guard = CollapseGuardLossSettings(prior=ShapePriorLossSettings(sharpness=2.0)).build()
    context = thin(make_context)
    for _ in range(60):
        guard.update(context)
    assert guard.fill.item() == pytest.approx(0.25, abs=0.01)  # one of four rows
    found = guard(context).total.item()
    prior = ShapePriorLossSettings(sharpness=2.0).build()(context).total.item()
    assert 0.4 * prior < found < 0.6 * prior


def test_a_single_thin_object_does_not_move_it_far(make_context):
    guard = CollapseGuardLossSettings().build()
    guard.update(thin(make_context))
    assert guard.fill.item() == pytest.approx(REMEMBERED + (1 - REMEMBERED) * 0.25)
    assert guard.strength.item() == 0


def test_no_objects_say_nothing(make_context):
    guard = CollapseGuardLossSettings().build()
    guard.fill.fill_(0.1)
    guard.update(make_context(torch.zeros(0, 6, 8), []))
    assert guard.fill.item() == pytest.approx(0.1)
    logits = torch.zeros(0, 6, 8, requires_grad=True)
    loss = guard(make_context(logits, []))
    loss.total.backward()
    assert (loss.total.item(), loss.count.item()) == (0, 0)


def test_all_processes_see_one_fill(make_context, monkeypatch):
    other = torch.tensor([30.0, 20.0])  # sums of another process: scores and cells
    monkeypatch.setattr(ranks, "mean_over_ranks", lambda value: (value + other) / 2)
    guard = CollapseGuardLossSettings().build()
    context = thin(make_context)
    guard.update(context)
    joint = (5 + 30) / (20 + 20)
    assert guard.fill.item() == pytest.approx(REMEMBERED + (1 - REMEMBERED) * joint, abs=1e-4)


def test_the_fill_is_saved():
    assert "fill" in CollapseGuardLossSettings().build().state_dict()


@pytest.mark.parametrize("least_fill", [-0.1, 1.1])
def test_only_shares_are_taken(least_fill):
    with pytest.raises(ValueError, match="least_fill: expected 0 to 1"):
        CollapseGuardLossSettings(least_fill=least_fill)


def test_zero_never_brings_it_back(make_context):
    guard = CollapseGuardLossSettings(least_fill=0).build()
    guard.fill.zero_()
    assert guard(thin(make_context)).total.item() == 0
