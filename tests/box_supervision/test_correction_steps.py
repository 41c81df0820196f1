"""The steps from samples to pseudo masks, against loops and numbers by hand."""

import math

import pytest
import torch

from boxmask.box_supervision.correction_steps import (
    correction_steps,
    prototype_maps,
    self_correction_of,
)
from boxmask.box_supervision.objective import Objective, Term
from boxmask.box_supervision.projection_loss import ProjectionLossSettings
from boxmask.box_supervision.self_correction import PseudoMaskSettings
from boxmask.box_supervision.self_correction_loss import SelfCorrectionSettings
from boxmask.prototypes.prototype_bank import PrototypeSettings
from boxmask.structures import Batch, MaskSamples, Targets

CELL, HEIGHT, WIDTH = 4, 10, 12
BOXES = torch.tensor([[4.0, 4, 24, 28], [16.0, 8, 44, 36]])


@pytest.fixture
def loss():
    """Two classes; class 0 has the two prototypes e1 and e2, class 1 is unseen."""
    built = SelfCorrectionSettings(
        num_classes=2,
        channels=3,
        pseudo=PseudoMaskSettings(sharpness=2.0),
        prototypes=PrototypeSettings(per_class=2),
    ).build()
    built.bank.vectors[0] = torch.eye(3)[:2]
    built.bank.updates[0] = 5
    return built


@pytest.fixture
def batch():
    size = (HEIGHT * CELL, WIDTH * CELL)
    return Batch(
        images=torch.rand(1, 3, *size),
        valid=torch.ones(1, *size, dtype=torch.bool),
        targets=(Targets.from_boxes(BOXES, torch.tensor([0, 1])),),
        image_sizes=(size,),
        scales=torch.ones(1, 2),
        indices=(0,),
    )


@pytest.fixture
def samples():
    """Three samples of the first object, one of the second; features at half the resolution."""
    index = torch.tensor([0, 0, 0, 1])
    boxes = BOXES[index]
    frame = torch.tensor([0.0, 0, WIDTH * CELL, HEIGHT * CELL])
    return MaskSamples(
        logits=torch.randn(4, HEIGHT, WIDTH) * 3,
        boxes=boxes,
        tight=torch.ones(4, 2, dtype=torch.bool),
        labels=torch.tensor([0, 0, 0, 1]),
        image_index=torch.zeros(4, dtype=torch.int64),
        instance_index=index,
        frames=frame.expand(4, 4),
        predicted_boxes=boxes + torch.tensor([[0.0], [3], [6], [0]]),
        scores=torch.ones(4),
        features=torch.randn(1, 3, HEIGHT // 2, WIDTH // 2),
    )


def test_weights_are_exponents_of_fits(loss, batch, samples):
    steps = correction_steps(loss, batch, samples)
    overlap = (20 - 3) * (24 - 3)  # of the second sample, moved by 3 pixels
    fit = overlap / (2 * 20 * 24 - overlap)
    assert steps.fits[1].item() == pytest.approx(fit, rel=1e-5)
    raw = [math.exp(2.0 * value) for value in steps.fits[:3].tolist()]
    expected = [value / sum(raw) for value in raw]
    assert steps.weights[:3].tolist() == pytest.approx(expected, rel=1e-5)
    assert steps.weights[3].item() == 1.0


def test_masks_are_plain_and_weighted_means(loss, batch, samples):
    steps = correction_steps(loss, batch, samples)
    scores = samples.logits.sigmoid()
    torch.testing.assert_close(steps.mean[0], scores[:3].mean(dim=0))
    weighted = sum(steps.weights[j] * scores[j] for j in range(3))
    torch.testing.assert_close(steps.correction.instance[0], weighted)
    torch.testing.assert_close(steps.mean[1], scores[3])


def test_semantic_map_is_the_sigmoid_of_cosines_over_the_temperature(loss, batch, samples):
    steps = correction_steps(loss, batch, samples)
    expected = torch.sigmoid(steps.correction.semantic / 0.1)
    torch.testing.assert_close(steps.semantic, expected)
    assert steps.seen.tolist() == [True, False]
    mixed = (steps.semantic[0] + steps.correction.instance[0]) / 2
    torch.testing.assert_close(steps.correction.fused[0], mixed)


def test_foreground_is_what_exceeds_the_threshold_in_the_box(loss, batch, samples):
    steps = correction_steps(loss, batch, samples)
    masks, inside = steps.correction.masks, steps.correction.inside
    for index in range(2):
        own = inside[index] & ~steps.correction.claimed[index]
        expected = (masks.scores[index] > steps.high[index]) & own
        assert torch.equal(masks.foreground[index], expected)
    assert ((steps.high >= 0.6) & (steps.high <= 0.7)).all()


def test_looking_changes_nothing(loss, batch, samples):
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    numbers = torch.get_rng_state()
    prototype_maps(loss, correction_steps(loss, batch, samples))
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())
    assert torch.equal(numbers, torch.get_rng_state())
    assert not any(loss.report().values())  # what training remembers of a step is not touched


def test_nearest_prototypes_by_loop(loss, batch, samples):
    maps = prototype_maps(loss, correction_steps(loss, batch, samples))
    assert [one.label for one in maps] == [0]  # class 1 has no prototypes
    features = samples.features[0]
    for row in range(HEIGHT // 2 - 1):
        for column in range(WIDTH // 2 - 1):
            vector = features[:, row, column]
            cosines = (vector / vector.norm())[:2]
            place = (2 * row + 1, 2 * column + 1)  # coarse cells lie exactly on these
            assert maps[0].nearest[place] == cosines.argmax()
            assert maps[0].cosine[place].item() == pytest.approx(cosines.max().item(), abs=1e-5)
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[1:7, 1:6] = True  # box 4..24 x 4..28 in cells of 4 pixels
    assert torch.equal(maps[0].inside, inside)
    expected = [int(((maps[0].nearest == k) & inside).sum()) for k in range(2)]
    assert maps[0].counts.tolist() == expected
    assert sum(expected) == 30


def test_an_objective_may_have_no_such_loss(loss):
    plain = Objective({"loss_projection": ProjectionLossSettings().build()},
                      {"loss_projection": Term()})  # fmt: skip
    assert self_correction_of(plain) is None
    assert self_correction_of(Objective({"loss_pseudo": loss}, {"loss_pseudo": Term()})) is loss
