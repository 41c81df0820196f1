from dataclasses import replace

import pytest
import torch

from boxmask.box_supervision.trusted_mask_loss import TrustedMaskLossSettings, masks_on_samples
from boxmask.structures import Targets
from references.projection import dice


def targets_with_masks(masks, trusted):
    count = len(masks)
    return Targets(
        boxes=torch.tensor([[0.0, 0, 16, 16]]).repeat(count, 1),
        labels=torch.zeros(count, dtype=torch.int64),
        tight=torch.ones(count, 2, dtype=torch.bool),
        masks=masks,
        trusted=torch.tensor(trusted),
    )


def test_trusted_objects_alone_teach(make_context):
    masks = torch.rand(3, 36, 52) < 0.5
    targets = targets_with_masks(masks, [True, False, True])
    logits = torch.randn(3, 9, 13, requires_grad=True)
    context = make_context(logits, targets.boxes, targets=(targets,))
    loss = TrustedMaskLossSettings().build()(context)
    assert loss.count.item() == 2
    expected = sum(
        dice(
            logits[row].detach().double().sigmoid().flatten().tolist(),
            masks[row, 2::4, 2::4].double().flatten().tolist(),
        )
        for row in (0, 2)
    )
    assert loss.total.item() == pytest.approx(expected, abs=1e-5)
    loss.total.backward()
    assert not logits.grad[1].any()


def test_pasted_objects_and_those_of_the_data_are_two_kinds(make_context):
    masks = torch.rand(4, 36, 52) < 0.5
    targets = targets_with_masks(masks, [True, False, True, True])
    targets = replace(targets, pasted=torch.tensor([False, False, True, True]))
    context = make_context(torch.zeros(4, 9, 13), targets.boxes, targets=(targets,))
    settings = TrustedMaskLossSettings()
    assert settings.build()(context).count.item() == 1
    assert replace(settings, pasted=True).build()(context).count.item() == 2
    before = make_context(
        torch.zeros(4, 9, 13), targets.boxes, targets=(replace(targets, pasted=None),)
    )
    assert settings.build()(before).count.item() == 3
    assert replace(settings, pasted=True).build()(before).count.item() == 0


@pytest.mark.parametrize("count", [0, 2])
def test_nothing_to_trust_gives_zero_with_a_graph(make_context, count):
    logits = torch.randn(count, 8, 8, requires_grad=True)
    loss = TrustedMaskLossSettings().build()(make_context(logits, [[0, 0, 16, 16]] * count))
    assert loss.total.item() == loss.count.item() == 0
    loss.total.backward()
    assert not logits.grad.any()


def test_masks_of_images_without_any_are_empty(make_context):
    masks = torch.ones(1, 32, 32, dtype=torch.bool)
    targets = (
        Targets.from_boxes(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64)),
        targets_with_masks(masks, [True]),
    )
    context = make_context(
        torch.zeros(2, 8, 8),
        torch.zeros(2, 4),
        images=torch.rand(2, 3, 32, 32),
        targets=targets,
        image_index=torch.tensor([0, 1]),
    )
    found = masks_on_samples(context.batch, context.student)
    assert found.flatten(1).sum(dim=1).tolist() == [0, 64]
    swapped = replace(context.student, instance_index=torch.tensor([1, 0]))
    assert masks_on_samples(context.batch, swapped).flatten(1).sum(dim=1).tolist() == [64, 0]
