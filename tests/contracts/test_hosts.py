"""What every architecture promises; a new one is found by itself."""

import copy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
import torch
from hosts import HEIGHT, NAMES, NUM_CLASSES, WIDTH, batch_of, pictures, recipe_of, targets_of

from boxmask.detectors.given_boxes import masks_for_boxes
from boxmask.engine.module import compile_parts
from boxmask.engine.run_folder import save_weights
from boxmask.engine.teacher import MovingAverage
from boxmask.engine.training_step import TrainingStep
from boxmask.recipes.recipe import Recipe
from boxmask.recipes.saved_model import SETTINGS, describe_model, load_model

BOXES = ([2, 2, 40, 50], [50, 5, 90, 60])
OTHER = ([5, 5, 30, 30],)


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def detector(name):
    torch.manual_seed(0)
    return recipe_of(name).detector.build()


@pytest.fixture(scope="module")
def outputs(detector):
    detector.eval()
    with torch.no_grad():
        return detector(*pictures())


def test_every_architecture_can_be_saved(name):
    settings = recipe_of(name).detector
    assert SETTINGS[settings.architecture] is type(settings)
    assert settings.architecture == name
    assert settings.num_classes == NUM_CLASSES


def test_assignment_binds_samples_to_their_boxes(detector, outputs):
    targets = [targets_of(*BOXES), targets_of(*OTHER)]
    assignment = detector.assign(outputs, targets)
    boxes, labels = (torch.cat([getattr(t, of) for t in targets]) for of in ("boxes", "labels"))
    assert torch.equal(assignment.boxes, boxes[assignment.instance_index])
    assert torch.equal(assignment.labels, labels[assignment.instance_index])
    assert set(assignment.instance_index.tolist()) == {0, 1, 2}
    assert (assignment.image_index.diff() >= 0).all()
    owner_image = torch.tensor([0, 0, 1])
    assert torch.equal(assignment.image_index, owner_image[assignment.instance_index])


def test_assignment_reads_no_masks(detector, outputs):
    def assigned(masks):
        targets = [targets_of(*BOXES, masks=masks), targets_of(masks=masks)]
        torch.manual_seed(1)
        return detector.assign(outputs, targets)

    first, second = assigned(False), assigned(True)
    assert torch.equal(first.position, second.position)
    assert torch.equal(first.instance_index, second.instance_index)


def test_mask_samples_cover_the_picture_at_stride_4(name, detector, outputs):
    assignment = detector.assign(outputs, [targets_of(*BOXES), targets_of(*OTHER)])
    samples = detector.mask_samples(outputs, assignment)
    assert samples.logits.shape == (len(assignment), HEIGHT // 4, WIDTH // 4)
    assert (samples.frames == torch.tensor([0, 0, WIDTH, HEIGHT])).all()
    assert samples.predicted_boxes.isfinite().all()
    assert ((samples.scores >= 0) & (samples.scores <= 1)).all()
    assert torch.equal(samples.instance_index, assignment.instance_index)
    assert samples.features.shape[:2] == (2, recipe_of(name).detector.feature_channels)


def test_pictures_of_a_batch_do_not_see_each_other(detector, outputs):
    images, valid = pictures()
    with torch.no_grad():
        alone = detector(images[1:], valid[1:])
    both = masks_for_boxes(detector, outputs, [targets_of(*BOXES), targets_of(*OTHER)])
    one = masks_for_boxes(detector, alone, [targets_of(*OTHER)])
    torch.testing.assert_close(both.mask_scores[2:], one.mask_scores, rtol=1e-3, atol=1e-3)


def test_frozen_outputs_spare_the_first_stages_and_change_nothing(name):
    torch.manual_seed(0)
    settings = recipe_of(name).detector
    detector = settings.build().eval()
    for parameter in detector.backbone.body.conv_stem.parameters():
        parameter.requires_grad_(False)
    images, valid = pictures()
    with torch.no_grad():
        frozen = detector.frozen_outputs(images, valid)
        targets = [targets_of(*BOXES), targets_of()]
        plain = masks_for_boxes(detector, detector(images, valid), targets)
        spared = masks_for_boxes(detector, detector(images, valid, frozen), targets)
    torch.testing.assert_close(plain.mask_scores, spared.mask_scores)


SIZES = ((160, 192), (192, 160), (224, 192), (128, 160), (64, 96), (96, 128), (32, 64), (256, 160))


def test_map_parts_are_one_graph_for_all_sizes(name):
    """What `--compile` compiles is traced whole, and twice at most; small maps go without."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    detector = recipe_of(name).detector.build().eval()
    targets = [targets_of(*BOXES), targets_of(*OTHER)]
    graphs: list[torch.fx.GraphModule] = []
    traced: list[int] = []  # graphs after each size

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def masks():
        found = []
        for size in SIZES:
            generator = torch.Generator().manual_seed(0)
            images = torch.rand(2, 3, *size, generator=generator)
            valid = torch.ones(2, *size, dtype=torch.bool)
            with torch.no_grad():
                outputs = detector(images, valid)
                found.append(masks_for_boxes(detector, outputs, targets).mask_scores)
            traced.append(len(graphs))
        return found

    plain = masks()
    compile_parts(detector, fullgraph=True, backend=backend)
    for mask, compiled in zip(plain, masks(), strict=True):
        torch.testing.assert_close(mask, compiled)
    first = traced[len(SIZES) + 1]  # once for one size, then for all
    assert bool(first) == bool(detector.map_parts)  # equal parts share a graph
    assert set(traced[len(SIZES) + 1 :]) == {first}
    torch._dynamo.reset()


def test_a_copy_of_a_compiled_detector_has_weights_of_its_own(name):
    torch._dynamo.reset()
    detector = recipe_of(name).detector.build().eval()
    compile_parts(detector, backend="eager")
    copied = copy.deepcopy(detector)
    part = copied.map_parts[0] if copied.map_parts else copied
    with torch.no_grad():
        for one in part.parameters():
            one.zero_()
        images, valid = torch.rand(1, 3, 160, 160), torch.ones(1, 160, 160, dtype=torch.bool)
        targets = [targets_of(*OTHER)]
        first, second = (
            masks_for_boxes(one, one(images, valid), targets).mask_scores
            for one in (detector, copied)
        )
    assert not torch.equal(first, second)
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_map_parts_have_the_same_gradients(name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    recipe = recipe_of(name)
    detector = recipe.detector.build().train()
    step = TrainingStep(detector, recipe.build_objective(100))
    batch = batch_of([targets_of(*BOXES), targets_of(*OTHER)])

    def gradients():
        torch.manual_seed(0)
        losses, _ = step(batch, 0.5)
        step.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        return {n: p.grad.clone() for n, p in detector.named_parameters() if p.grad is not None}

    plain = gradients()
    compile_parts(detector)
    compiled = gradients()
    torch._dynamo.reset()
    assert plain.keys() == compiled.keys()
    for key, gradient in plain.items():
        gap = (gradient - compiled[key]).norm() / gradient.norm().clamp(min=1e-3)
        assert gap < 1e-3, key


def test_ends_that_are_not_known_teach_no_boxes(detector):
    """Losses of boxes are nothing where no box is tight, and something where they are."""
    known = [targets_of(*BOXES), targets_of(*OTHER)]
    unknown = [replace(one, tight=torch.zeros_like(one.tight)) for one in known]
    found = []
    for targets in (known, unknown):
        torch.manual_seed(0)  # some architectures draw what learns
        outputs = detector(*pictures())
        losses = detector.detection_losses(outputs, detector.assign(outputs, targets), targets)
        found.append({key: loss.total.item() for key, loss in losses.items()})
    of_boxes = [key for key in found[0] if "box" in key or "center" in key]
    if not of_boxes:
        pytest.skip("this architecture predicts no boxes of its own")
    assert all(found[0][key] > 0 for key in of_boxes)
    assert all(found[1][key] == 0 for key in of_boxes)
    assert found[0].keys() == found[1].keys()


@pytest.mark.parametrize("given", [[[], []], [[], [[5, 5, 30, 30]]]])
def test_pictures_without_boxes(detector, given):
    detector.train()
    outputs = detector(*pictures())
    targets = [targets_of(*boxes) for boxes in given]
    assignment = detector.assign(outputs, targets)
    samples = detector.mask_samples(outputs, assignment)
    losses = detector.detection_losses(outputs, assignment, targets)
    total = sum(loss.total for loss in losses.values()) + samples.logits.sum() * 0
    detector.zero_grad()
    total.backward()
    detector.eval()
    gradients = [p.grad for p in detector.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    if not any(given):
        assert len(assignment) == len(samples) == 0
        assert samples.logits.shape == (0, HEIGHT // 4, WIDTH // 4)


def test_boxes_of_unknown_classes_get_masks_of_their_own(detector, outputs):
    """Two classes that the model never saw share nothing, also across pictures."""
    boxes = ([2, 2, 40, 50], [20, 5, 60, 60])
    known, beyond = [0, 1], [NUM_CLASSES + 4, NUM_CLASSES]
    both = [targets_of(*boxes, labels=beyond), targets_of(*boxes, labels=known)]
    found = masks_for_boxes(detector, outputs, both)
    assert found.mask_scores.isfinite().all()
    alone = [
        masks_for_boxes(detector, outputs, [targets_of(boxes[0], labels=beyond[:1]), targets_of()]),
        masks_for_boxes(detector, outputs, [targets_of(), targets_of(boxes[1], labels=known[1:])]),
    ]
    if "mask2former" not in str(type(detector)).lower():  # there, boxes share out the queries
        torch.testing.assert_close(found.mask_scores[0], alone[0].mask_scores[0])
        torch.testing.assert_close(found.mask_scores[3], alone[1].mask_scores[0])


def test_every_box_gets_a_sample(detector, outputs):
    crowd = [[x, y, x + 3, y + 2] for x in range(0, 90, 10) for y in range(0, 60, 20)]
    same = [[10, 10, 60, 50]] * 3
    targets = [targets_of(*crowd), targets_of([0, 0, 96, 64], *same, [1, 1, 1.5, 1.2])]
    assignment = detector.assign_every_box(outputs, targets)
    count = sum(len(one) for one in targets)
    assert set(assignment.instance_index.tolist()) == set(range(count))
    assert (assignment.image_index.diff() >= 0).all()
    masks = masks_for_boxes(detector, outputs, targets)
    assert masks.mask_scores.shape == (count, HEIGHT // 4, WIDTH // 4)
    assert masks.mask_scores.isfinite().all()
    assert ((masks.confidence >= 0) & (masks.confidence <= 1)).all()
    assert len(detector.assign_every_box(outputs, [targets_of(), targets_of()])) == 0


def test_detections(detector, outputs):
    sizes = [(HEIGHT, WIDTH), (37, 53)]
    for one, (height, width) in zip(detector.detections(outputs, sizes), sizes, strict=True):
        assert one.image_size == (height, width)
        assert (one.boxes >= 0).all()
        assert (one.boxes[:, 2] <= width).all()
        assert (one.boxes[:, 3] <= height).all()
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
        assert (one.scores.diff() <= 0).all()
        assert ((one.labels >= 0) & (one.labels < NUM_CLASSES)).all()
        assert ((one.mask_scores >= 0) & (one.mask_scores <= 1)).all()


def test_numbers_that_matter_are_float32_under_autocast(detector):
    targets = [targets_of(*BOXES), targets_of()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = detector(*pictures())
        samples = detector.mask_samples(outputs, detector.assign(outputs, targets))
    assert samples.logits.dtype == torch.float32
    assert samples.predicted_boxes.dtype == torch.float32
    assert samples.scores.dtype == torch.float32
    assert not samples.scores.requires_grad


def test_saved_and_loaded(name, detector, outputs, tmp_path):
    description = describe_model(recipe_of(name), ("a", "b", "c"), (1, 2, 3))
    save_weights(tmp_path / "best.safetensors", detector, description)
    loaded = load_model(tmp_path / "best.safetensors")
    assert type(loaded.detector) is type(detector)
    targets = [targets_of(*BOXES), targets_of(*OTHER)]
    with torch.no_grad():
        again = loaded.detector(*pictures())
    first, second = (
        masks_for_boxes(one, found, targets)
        for one, found in ((detector, outputs), (loaded.detector, again))
    )
    torch.testing.assert_close(first.mask_scores, second.mask_scores)


@pytest.mark.parametrize("method", ["boxinst", "full", "sim"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_step_of_every_method(name, method, empty):
    """A finite loss, and gradients in every part that learns; the teacher answers for it, too."""
    torch.manual_seed(0)
    recipe: Recipe = recipe_of(name, method)
    detector = recipe.detector.build().train()
    step = TrainingStep(detector, recipe.build_objective(1000))
    teacher = MovingAverage(detector, 0.9).model
    boxes = [(), ()] if empty else [BOXES, OTHER]
    batch = batch_of([targets_of(*one, masks=method == "full") for one in boxes])
    losses, context = step(batch, 0.9, teacher)
    total = sum(losses.values())
    assert total.isfinite()
    assert (context.teacher is not None) == (method == "sim")
    total.backward()
    step.objective.update(context)
    for part, parameter in detector.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), part
    if not empty:
        without = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
        assert not without


def test_the_teacher_answers_for_the_students_samples(name, detector):
    """With the student's own weights it gives the student's own masks."""
    teacher = MovingAverage(detector, 0.5).model
    images, valid = pictures()
    with torch.no_grad():
        outputs = detector(images, valid)
        assignment = detector.assign(outputs, [targets_of(*BOXES), targets_of(*OTHER)])
        mine = detector.mask_samples(outputs, assignment)
        theirs = teacher.mask_samples(teacher.mask_outputs(images, valid), assignment)
    torch.testing.assert_close(mine.logits, theirs.logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mine.predicted_boxes, theirs.predicted_boxes, rtol=1e-3, atol=1e-2)
