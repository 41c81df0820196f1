import copy

import pytest
import torch

from boxmask.backbones.backbone import BackboneSettings
from boxmask.box_supervision.objective import Objective, Term
from boxmask.box_supervision.weak_loss import WeakLoss
from boxmask.detectors.condinst import CondInstSettings
from boxmask.detectors.fcos import FCOSSettings
from boxmask.engine import fixed_pass as module
from boxmask.engine.fixed_pass import FixedPass, Recorded, fixed_outputs, tensors_of
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.structures import LossSum


class Tape:
    """Records work as a GPU would: the same tensors each time, filled when it is replayed."""

    def __init__(self, num_bytes=0):
        self.recorded = self.replayed = 0
        self.num_bytes = num_bytes

    def __call__(self, work):
        self.recorded += 1
        outputs = work()

        def replay():
            self.replayed += 1
            for tensor, fresh in zip(tensors_of(outputs), tensors_of(work()), strict=True):
                tensor.copy_(fresh)

        return Recorded(outputs=outputs, replay=replay, num_bytes=self.num_bytes)


def pictures(seed, size=(64, 96)):
    random = torch.Generator().manual_seed(seed)
    valid = torch.ones(2, *size, dtype=torch.bool)
    valid[1, 40:] = False
    return torch.rand(2, 3, *size, generator=random), valid


@pytest.fixture(scope="module")
def detector():
    """Its first stages never learn."""
    torch.manual_seed(0)
    settings = CondInstSettings(
        num_classes=2,
        backbone=BackboneSettings(pretrained=False, frozen_stages=2),
        fcos=FCOSSettings(tower_depth=1),
        pyramid_channels=64, branch_channels=16, mask_channels=4, fine_masks=True,
    )  # fmt: skip
    return settings.build()


@pytest.fixture
def models(detector):
    """A detector in training and a teacher who differs."""
    teacher = MovingAverage(detector.train(), 0.9)
    for parameter in teacher.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.01)
    return detector, teacher.model


def assert_equal(found, expected):
    pairs = list(zip(tensors_of(found), tensors_of(expected), strict=True))
    assert len(pairs) > 10
    assert all(torch.equal(a, b) for a, b in pairs)


def test_pictures_of_a_size_are_recorded_the_second_time(models):
    tape = Tape()
    fixed_pass = FixedPass(tape)
    found = [fixed_pass(*models, *pictures(seed)) for seed in range(2)]
    assert (tape.recorded, tape.replayed) == (1, 1)
    assert_equal(found[1], fixed_outputs(*models, *pictures(1)))
    assert_equal(fixed_pass(*models, *pictures(2)), fixed_outputs(*models, *pictures(2)))
    other = pictures(3, (96, 64))
    assert_equal(fixed_pass(*models, *other), fixed_outputs(*models, *other))
    assert (tape.recorded, tape.replayed) == (1, 2)
    assert_equal(fixed_pass(*models, *other), fixed_outputs(*models, *other))
    assert tape.recorded == 2
    assert_equal(fixed_pass(*models, *pictures(4)), fixed_outputs(*models, *pictures(4)))
    assert tape.recorded == 2


def test_weights_that_moved_count(models):
    teacher = models[1]
    fixed_pass = FixedPass(Tape())
    for seed in range(2):
        fixed_pass(*models, *pictures(seed))
    before = fixed_pass(*models, *pictures(0)).teacher.features.clone()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.mul_(1.01)
    after = fixed_pass(*models, *pictures(0))
    assert not torch.equal(after.teacher.features, before)
    assert_equal(after, fixed_outputs(*models, *pictures(0)))


def test_another_precision_and_another_teacher_are_recorded_anew(models):
    detector = models[0]
    tape = Tape()
    fixed_pass = FixedPass(tape)
    for seed in range(2):
        fixed_pass(*models, *pictures(seed))
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            rounded = fixed_pass(*models, *pictures(5))
            assert_equal(rounded, fixed_outputs(*models, *pictures(5)))
    assert tape.recorded == 2
    other = MovingAverage(detector, 0.9).model
    for _ in range(3):
        found = fixed_pass(detector, other, *pictures(5))
    assert_equal(found, fixed_outputs(detector, other, *pictures(5)))
    assert tape.recorded == 3


def test_what_is_not_recorded(models):
    detector, teacher = models
    tape = Tape()
    fixed_pass = FixedPass(tape)
    for _ in range(3):
        assert fixed_pass(detector, None, *pictures(0)).teacher is None
        with torch.no_grad():
            fixed_pass(*models, *pictures(0))
        FixedPass()(*models, *pictures(0))  # no GPU
    teacher.steady = False
    for _ in range(3):
        fixed_pass(*models, *pictures(0))
    del teacher.steady
    teacher.neck._compiled_call_impl = teacher.neck._call_impl
    for _ in range(3):
        fixed_pass(*models, *pictures(0))
    assert tape.recorded == 0


def test_recordings_take_a_share_of_the_memory_and_no_more(models, monkeypatch):
    monkeypatch.setattr(module, "_memory_of", lambda device: (300_000 / module.LARGEST_SHARE, 0))
    tape = Tape(num_bytes=100_000)
    fixed_pass = FixedPass(tape)
    for size in ((64, 96), (96, 64), (32, 96)):  # pictures of 160, 160 and 80 kB
        for seed in range(3):
            found = fixed_pass(*models, *pictures(seed, size))
            assert_equal(found, fixed_outputs(*models, *pictures(seed, size)))
    assert tape.recorded == 2
    monkeypatch.setattr(module, "_memory_of", lambda device: (1e9, 0.8e9))  # a run that fills it
    fixed_pass = FixedPass(tape)
    for seed in range(3):
        fixed_pass(*models, *pictures(seed))
    assert tape.recorded == 2


def test_a_backward_pass_that_comes_too_late_says_so(models):
    detector, teacher = models
    fixed_pass = FixedPass(Tape())
    for seed in range(2):
        images, valid = pictures(seed)
        fixed = fixed_pass(detector, teacher, images, valid)
    outputs = detector(images, valid, fixed.frozen)
    for seed in range(2):  # the second is recorded, and may lie where the first is
        fixed_pass(detector, teacher, *pictures(seed, (96, 64)))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.features.sum().backward()


def test_a_recording_that_fails_is_told_of_once(models):
    def fail(work):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    fixed_pass = FixedPass(fail)
    fixed_pass(*models, *pictures(0))
    with pytest.warns(match="not recorded: RuntimeError: operation not permitted"):
        found = fixed_pass(*models, *pictures(0))
    assert_equal(found, fixed_outputs(*models, *pictures(0)))
    fixed_pass(*models, *pictures(0))
    for _ in range(2):
        fixed_pass(*models, *pictures(0, (96, 64)))


class Following(WeakLoss):
    """Pulls the student's masks to the teacher's."""

    def needs_teacher(self, progress):
        return True

    def forward(self, context):
        apart = (context.student.logits - context.teacher.logits).square()
        return LossSum(apart.sum(), torch.tensor(float(apart.numel()), device=apart.device))


def trained(detector, make_batch, device, fixed_pass):
    """Weights after a few steps with a teacher."""
    detector = copy.deepcopy(detector).to(device).train()
    average = MovingAverage(detector, 0.5)
    objective = Objective({"loss_following": Following()}, {"loss_following": Term()})
    step = TrainingStep(detector, objective)
    step._fixed_pass = fixed_pass
    learning = [one for one in detector.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.01)
    batch = make_batch([[2, 2, 40, 50], [50, 5, 90, 60]], [[5, 5, 30, 30]]).to(device)
    for _ in range(4):
        losses, _ = step(batch, 0.5, average.model)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(detector)
    return torch.cat([one.detach().flatten() for one in average.model.parameters()]).cpu()


def test_training_is_the_same(detector, make_batch):
    tape = Tape()
    plain = trained(detector, make_batch, "cpu", FixedPass())
    assert torch.equal(trained(detector, make_batch, "cpu", FixedPass(tape)), plain)
    assert tape.replayed == 3


@pytest.mark.gpu
@pytest.mark.parametrize("rounded", [False, True])
def test_graphs_equal_the_operators_on_a_gpu(detector, make_batch, rounded):
    def unrecorded(*given):
        return fixed_outputs(*given)

    with torch.autocast("cuda", torch.bfloat16, enabled=rounded):
        plain = trained(detector, make_batch, "cuda", unrecorded)
        graphs = FixedPass()
        found = trained(detector, make_batch, "cuda", graphs)
        assert len(graphs._recordings) == 1
        again = trained(detector, make_batch, "cuda", FixedPass())
    spread = (again - found).abs().max()  # sums of a GPU change their order
    limit = 2e-2 if rounded else 1e-4
    assert (found - plain).abs().max() <= max(limit, 3 * float(spread))


@pytest.mark.gpu
@pytest.mark.parametrize("rounded", [False, True])
def test_weights_that_moved_count_on_a_gpu(detector, rounded):
    detector = copy.deepcopy(detector).cuda()
    teacher = MovingAverage(detector, 0).model
    fixed_pass = FixedPass()
    given = [one.cuda() for one in pictures(0)]
    with torch.autocast("cuda", torch.bfloat16, enabled=rounded):
        for _ in range(3):
            before = fixed_pass(detector, teacher, *given).teacher.features.clone()
        with torch.no_grad():
            for parameter in teacher.parameters():
                parameter.mul_(1.5)
        after = fixed_pass(detector, teacher, *given).teacher.features
        expected = fixed_outputs(detector, teacher, *given).teacher.features
    assert len(fixed_pass._recordings) == 1
    apart = (after - expected).abs().max()
    assert apart < 0.05 * (before - expected).abs().max()


@pytest.mark.gpu
def test_recordings_of_many_sizes_share_their_memory_on_a_gpu(detector):
    detector = copy.deepcopy(detector).cuda()
    teacher = MovingAverage(detector, 0).model
    fixed_pass = FixedPass()
    sizes = [(64 + 32 * i, 96) for i in range(6)]
    for _ in range(3):
        for seed, size in enumerate(sizes):
            images, valid = (one.cuda() for one in pictures(seed, size))
            found = fixed_pass(detector, teacher, images, valid)
            for a, b in zip(
                tensors_of(found),
                tensors_of(fixed_outputs(detector, teacher, images, valid)),
                strict=True,
            ):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert len(fixed_pass._recordings) == 6
