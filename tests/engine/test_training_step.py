import pytest
import torch

from boxmask.backbones.backbone import BackboneSettings
from boxmask.box_supervision.objective import Objective, Term
from boxmask.box_supervision.weak_loss import WeakLoss
from boxmask.detectors.condinst import CondInstSettings
from boxmask.detectors.fcos import FCOSSettings
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.structures import LossSum

BOXES = [[[2, 2, 40, 50], [50, 5, 90, 60]], [[5, 5, 30, 30]]]


def gradients_of(step, losses):
    step.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    return [p.grad for p in step.parameters() if p.grad is not None]


@pytest.mark.parametrize("boxes", [BOXES, [[], BOXES[1]], [BOXES[0], []], [[], []]])
def test_losses_and_gradients_are_finite(detector, objective, make_batch, boxes):
    step = TrainingStep(detector, objective).train()
    losses, context = step(make_batch(*boxes), 0.5)
    assert set(losses) == {
        "loss_class",
        "loss_box",
        "loss_centerness",
        "loss_projection",
        "loss_pairwise",
    }
    assert all(loss.isfinite() and loss.requires_grad for loss in losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients_of(step, losses))
    assert context.teacher is None
    if boxes == [[], []]:
        assert len(context.student) == 0
        assert losses["loss_class"].item() > 0
        assert all(loss.item() == 0 for name, loss in losses.items() if name != "loss_class")


def test_every_learning_weight_is_reached(detector, objective, make_batch):
    step = TrainingStep(detector, objective).train()
    losses, _ = step(make_batch(*BOXES), 0.5)
    gradients_of(step, losses)
    learning = {n: p for n, p in step.named_parameters() if p.requires_grad}
    assert not [name for name, parameter in learning.items() if parameter.grad is None]


def test_pairwise_term_ramps_up(detector, objective, make_batch):
    step = TrainingStep(detector, objective).eval()
    batch = make_batch(*BOXES)
    losses = {progress: step(batch, progress)[0] for progress in (0.0, 0.25, 1.0)}
    assert losses[0.0]["loss_pairwise"].item() == 0
    half = losses[0.25]["loss_pairwise"].item() * 2
    assert half == pytest.approx(losses[1.0]["loss_pairwise"].item(), rel=1e-4)
    assert losses[0.0]["loss_class"].item() == pytest.approx(
        losses[1.0]["loss_class"].item(), rel=1e-5
    )


class Watching(WeakLoss):
    """Teaches nothing; wants the teacher's masks."""

    def needs_teacher(self, progress):
        return True

    def forward(self, context):
        self.seen = context.teacher
        return LossSum(context.student.logits.sum() * 0, torch.ones(()))


def test_teacher_shares_what_never_learns(make_batch):
    """Its masks are those of its own pass; the frozen stages run once for both."""
    torch.manual_seed(0)
    detector = CondInstSettings(
        num_classes=2,
        backbone=BackboneSettings(frozen_stages=2),
        fcos=FCOSSettings(tower_depth=1),
        pyramid_channels=64, branch_channels=16, mask_channels=4, fine_masks=True,
    ).build()  # fmt: skip
    teacher = MovingAverage(detector, 0.9).model
    for parameter, other in zip(teacher.parameters(), detector.parameters(), strict=True):
        if other.requires_grad:
            parameter.add_(torch.randn_like(parameter) * 0.01)
    watching = Watching()
    step = TrainingStep(detector, Objective({"loss_watching": watching}, {"loss_watching": Term()}))
    batch = make_batch(*BOXES)
    runs = []
    for model in (detector, teacher):
        model.backbone.body.blocks[1].register_forward_hook(lambda *_: runs.append(1))
    _, context = step(batch, 0.5, teacher)
    assert len(runs) == 1
    with torch.no_grad():
        outputs = teacher(batch.images, batch.valid)
        assignment = detector.assign(detector(batch.images, batch.valid), batch.targets)
        expected = teacher.mask_samples(outputs, assignment)
    assert torch.equal(watching.seen.features, expected.features)
    assert not torch.allclose(watching.seen.features, context.student.features)


def test_losses_are_float32_under_autocast(detector, objective, make_batch):
    step = TrainingStep(detector, objective).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, _ = step(make_batch(*BOXES), 0.5)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(gradient.isfinite().all() for gradient in gradients_of(step, losses))


@pytest.mark.gpu
def test_step_on_a_gpu(detector, objective, make_batch):
    step = TrainingStep(detector, objective).cuda().train()
    try:
        with torch.autocast("cuda", dtype=torch.float16):
            losses, _ = step(make_batch(*BOXES).to("cuda"), 0.5)
        assert {loss.dtype for loss in losses.values()} == {torch.float32}
        assert all(gradient.isfinite().all() for gradient in gradients_of(step, losses))
    finally:
        step.cpu()
