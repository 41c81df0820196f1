"""The pseudo mask loss as a whole: prototypes wait for pixels, repeats change nothing."""

from dataclasses import replace

import pytest
import torch

from boxmask.box_supervision import self_correction_loss
from boxmask.box_supervision.copy_paste_bank import CopyPasteSettings
from boxmask.box_supervision.self_correction import PseudoMaskSettings
from boxmask.box_supervision.weak_loss import LossContext
from boxmask.ops.boxes import paired_iou
from boxmask.ops.groups import padded_unique
from boxmask.ops.masks import boxes_of_masks
from boxmask.prototypes.prototype_bank import PrototypeSettings
from correction_batches import (
    BATCH,
    CELL,
    HEIGHT,
    WIDTH,
    batch_with,
    build,
    context_for,
    samples_for,
)
from references import self_correction as reference

PLAIN = PseudoMaskSettings(colors=False, refine_radius=0, exclusive=False)


def test_nothing_is_learned_before_a_class_has_prototypes():
    loss, context = build(), context_for(BATCH)
    first = loss(context)
    assert float(first.total) == 0.0
    assert float(first.count) == 0.0
    first.total.backward()  # a graph is there all the same
    loss.update(context)
    assert loss.bank.seen.tolist() == [True, False]
    later = loss(context)
    assert float(later.total) > 0
    assert float(later.count) == 3


def test_repeating_every_sample_changes_neither_prototypes_nor_mean():
    values = []
    for repeats in (1, 5):
        loss = build()
        context = context_for(BATCH, repeats=repeats)
        loss(context)
        loss.update(context)
        result = loss(context)
        values.append((loss.bank.vectors.clone(), float(result.total / result.count)))
    torch.testing.assert_close(values[0][0], values[1][0])
    assert values[0][1] == pytest.approx(values[1][1], rel=1e-5)


def test_forward_changes_no_state():
    loss, context = build(copy_paste=CopyPasteSettings(capacity=2)), context_for(BATCH)
    before = {k: v.clone() for k, v in loss.state_dict().items() if isinstance(v, torch.Tensor)}
    loss(context)
    for name, value in before.items():
        assert torch.equal(loss.state_dict()[name], value)


def test_bank_fills_after_the_warmup_from_pictures_without_pastes():
    loss = build(copy_paste=CopyPasteSettings(capacity=2, probability=1.0), warmup=0.1)
    early = context_for(BATCH, progress=0.05)
    loss(early)
    loss.update(early)
    assert loss.paste_bank is not None
    assert len(loss.paste_bank) == 0
    late = context_for(BATCH, progress=0.5)
    for remembered in (0, 2):  # objects come in with the next step
        loss(late)
        loss.update(late)
        assert len(loss.paste_bank) == remembered
    loss(late)
    pasted = loss.augment(BATCH, 0.5)
    assert pasted.num_instances > BATCH.num_instances
    context, last = context_for(pasted), []
    for _ in range(2):
        loss(context)
        loss.update(context)
        last.append(list(loss.paste_bank.pictures)[-1])
    assert last[0] is last[1]


def test_no_objects_give_a_zero_with_a_graph():
    loss, context = build(), context_for(batch_with([], []))
    result = loss(context)
    result.total.backward()
    assert float(result.total) == 0.0
    loss.update(context)


def test_calibrated_cosines_count_from_the_middle_between_foreground_and_outside():
    still = PseudoMaskSettings(colors=False, refine_radius=0)  # the pictures are random
    plain, loss = (build(calibrated=one, pseudo=still) for one in (False, True))
    context = context_for(BATCH)
    for one in (plain, loss):
        one(context)
        one.update(context)  # prototypes
        one(context)
        one.update(context)  # levels
    teacher = context.teacher
    cosines = plain.correct(context).semantic
    sure, outside = [], []
    for row, image in enumerate([0, 1, 1]):
        inside = teacher.box_masks()[row]
        others = [r for r, i in enumerate([0, 1, 1]) if i == image]
        covered = torch.stack([teacher.box_masks()[r] for r in others]).any(dim=0)
        sure.append(cosines[row][(teacher.logits[row].sigmoid() > 0.7) & inside])
        outside.append(cosines[row][~covered])
    middle = (torch.cat(sure).mean() + torch.cat(outside).mean()) / 2
    torch.testing.assert_close(loss.levels.middle[0], plain.levels.middle[0])
    # Both updates of the prototypes lie between the two looks: only nearly the same cosines.
    torch.testing.assert_close(loss.levels.middle[0], middle.detach(), rtol=0, atol=0.02)
    torch.testing.assert_close(loss.correct(context).semantic, cosines - loss.levels.middle[0])


def test_pseudo_masks_know_the_colors_outside_all_boxes():
    """The teacher's mask is the box; its left half is as dark as what is around the box."""
    batch = batch_with([[4 * CELL, 4 * CELL, 12 * CELL, 12 * CELL]])
    batch.images[:] = 0.2
    batch.images[..., 4 * CELL : 12 * CELL, 8 * CELL : 12 * CELL] = 0.7
    context = context_for(batch)
    logits = torch.full_like(context.teacher.logits, -4.0)
    logits[:, 4:12, 4:12] = 0.2
    context = replace(context, teacher=replace(context.teacher, logits=logits))
    bright = torch.zeros_like(logits[0], dtype=torch.bool)
    bright[4:12, 8:12] = True
    for colors in (False, True):
        pseudo = PseudoMaskSettings(colors=colors, refine_radius=0)
        found = build(pseudo=pseudo).correct(context).masks.scores[0] > 0.5
        assert torch.equal(found, bright) == colors


def test_state_goes_through_a_checkpoint():
    loss, context = build(copy_paste=CopyPasteSettings(capacity=2)), context_for(BATCH)
    for _ in range(2):
        loss(context)
        loss.update(context)
    other = build(copy_paste=CopyPasteSettings(capacity=2))
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.bank.vectors, loss.bank.vectors)
    first, second = loss(context), other(context)
    assert float(first.total) == float(second.total)


def test_without_a_teacher_the_error_says_so():
    context = replace(context_for(BATCH), teacher=None)
    with pytest.raises(ValueError, match="needs a teacher"):
        build()(context)


def test_the_teacher_is_asked_from_the_second_half_of_the_warmup_on():
    loss = build(warmup=0.4)
    assert [loss.needs_teacher(p) for p in (0.0, 0.19, 0.2, 0.4, 1.0)] == [False] * 2 + [True] * 3
    student = samples_for(BATCH)
    early = LossContext(batch=BATCH, student=student, teacher=None, progress=0.1)
    result = loss(early)
    result.total.backward()
    assert (float(result.total.detach()), float(result.count)) == (0.0, 0.0)
    loss.update(early)
    assert not loss.bank.seen.any()
    assert {name: float(value) for name, value in loss.report().items()} == {
        "pseudo_foreground": 0.0,
        "pseudo_background": 0.0,
    }
    late = context_for(BATCH, progress=0.2)
    loss(late)
    loss.update(late)
    assert loss.bank.seen.tolist() == [True, False]


@pytest.mark.parametrize("least_fit", [0.0, 0.93, 0.99])
def test_objects_whose_pseudo_mask_misses_its_box_are_not_remembered(least_fit):
    bank = CopyPasteSettings(capacity=4, least_fit=least_fit)
    loss = build(copy_paste=bank, warmup=0.0)
    context, boxes = context_for(BATCH), torch.cat([t.boxes for t in BATCH.targets])
    fitting = []
    for _ in range(3):
        loss(context)
        hulls = boxes_of_masks(loss.correct(context).masks.foreground) * CELL
        fitting.append(int((paired_iou(hulls, boxes) >= least_fit).sum()))
        loss.update(context)
    remembered = sum(len(objects) for objects in loss.paste_bank.pictures)
    assert remembered == sum(fitting[:2])  # the last ones are on their way
    assert (remembered < 2 * len(boxes)) == (least_fit > 0)


def test_nothing_is_pasted_in_the_last_part_of_the_run():
    loss = build(
        copy_paste=CopyPasteSettings(probability=1.0, fraction=1.0), warmup=0.2, paste_until=0.6
    )
    loss.paste_bank.paste = lambda batch: (batch, (0,))
    pasted = []
    for progress in (0.1, 0.3, 0.6, 0.7, 1.0):
        loss.augment(BATCH, progress)
        pasted.append(bool(loss._pasted))
    assert pasted == [False, True, True, False, False]


def test_where_boxes_overlap_one_object_owns_a_cell():
    context = context_for(BATCH)
    shared, owned = (
        build(pseudo=PseudoMaskSettings(exclusive=exclusive)).correct(context)
        for exclusive in (False, True)
    )
    assert not shared.claimed.any()
    both = (shared.image_index == 1).nonzero().squeeze(-1)
    assert (shared.masks.foreground[both].sum(dim=0) == 2).any()
    assert (owned.masks.foreground[both].sum(dim=0) < 2).all()
    background = owned.masks.certain & ~owned.masks.foreground
    assert owned.claimed[both].any()
    assert background[owned.claimed & owned.inside].all()
    assert torch.equal(owned.masks.foreground[0], shared.masks.foreground[0])  # alone in its image


def test_padded_pairs_of_image_and_class_change_nothing(monkeypatch):
    """As on a GPU, where the host does not wait for the number of pairs."""
    loss, context = build(), context_for(BATCH, repeats=2)
    loss.bank.vectors.normal_()
    loss.bank.updates.fill_(1)
    expected = loss.correct(context)
    monkeypatch.setattr(self_correction_loss, "numbered_values", padded_unique)
    found = loss.correct(context)
    assert torch.equal(found.masks.foreground, expected.masks.foreground)
    assert torch.equal(found.masks.certain, expected.masks.certain)
    assert torch.equal(found.claimed, expected.claimed)
    torch.testing.assert_close(found.semantic, expected.semantic)
    torch.testing.assert_close(found.cosine_sums, expected.cosine_sums)
    assert torch.equal(found.cosine_counts, expected.cosine_counts)
    assert expected.claimed.any()


def test_cosines_of_foreground_and_background_object_by_object():
    """Two classes, of which one has no prototypes yet: its objects do not count."""
    labels = torch.tensor([1, 1, 0])
    first, second = BATCH.targets
    targets = (replace(first, labels=labels[:1]), replace(second, labels=labels[1:]))
    context = context_for(replace(BATCH, targets=targets))
    teacher = replace(context.teacher, labels=labels)
    loss = build(calibrated=False)
    loss.bank.vectors.normal_()
    for seen in ([0, 1], [1, 1]):
        loss.bank.updates.copy_(torch.tensor(seen))
        correction = loss.correct(replace(context, teacher=teacher))
        sums, counts = torch.zeros(2, 2), torch.zeros(2, 2)
        for index, label in enumerate(labels.tolist()):
            of_image = correction.image_index == correction.image_index[index]
            outside = ~correction.inside[of_image].any(dim=0)
            sure = (correction.instance[index] > 0.7) & correction.inside[index]
            for kind, cells in enumerate((sure, outside)):
                sums[label, kind] += correction.semantic[index][cells].sum() * seen[label]
                counts[label, kind] += cells.sum() * seen[label]
        assert counts[1].min() > 0
        torch.testing.assert_close(correction.cosine_sums, sums)
        assert torch.equal(correction.cosine_counts, counts)


def of_two_networks(progress, labels=(0, 0, 0, 1)):
    """A student and a teacher who agree on nothing; two samples of each object."""
    batch = batch_with([[4, 4, 40, 50]], [[8, 8, 60, 60], [30, 10, 76, 40], [10, 30, 50, 62]])
    labels = torch.tensor(labels)
    targets = tuple(
        replace(one, labels=own)
        for one, own in zip(batch.targets, labels.split([1, 3]), strict=True)
    )
    batch = replace(batch, targets=targets)
    student, teacher = samples_for(batch, repeats=2), samples_for(batch, repeats=2)
    size = (HEIGHT, WIDTH)
    student, teacher = (
        replace(
            one,
            logits=(torch.randn(8, *size) * 4).requires_grad_(),
            features=torch.randn(2, 8, *size),
            predicted_boxes=one.boxes + torch.rand(8, 4) * torch.tensor([12.0, 12.0, -12.0, -12.0]),
            labels=labels.repeat_interleave(2),
        )
        for one in (student, teacher)
    )
    return LossContext(batch=batch, student=student, teacher=teacher, progress=progress)


def objects_of(context):
    """The objects as `references.self_correction` wants them, with the teacher's samples."""
    samples = context.teacher
    return [
        {
            "box": (samples.boxes[row] / CELL).tolist(),
            "label": int(samples.labels[row]),
            "image": int(samples.image_index[row]),
            "samples": [
                (samples.logits[k].detach(), (samples.predicted_boxes[k] / CELL).tolist())
                for k in (row, row + 1)
            ],
        }
        for row in range(0, len(samples), 2)
    ]


def cells_by_hand(context, vectors):
    """Maps of all objects, and the cells of each class and image before and after the warm-up."""
    size, sure, masked = (HEIGHT, WIDTH), {}, {}
    maps = torch.zeros(3, 4, *size)
    for row, one in enumerate(objects_of(context)):
        features, prototypes = context.teacher.features[one["image"]], vectors[one["label"]]
        found = reference.corrected(one, features, prototypes, size)
        for cell in found[0]:
            maps[:, row, *cell] = torch.tensor([found[0][cell], found[1][cell], cell in found[2]])
        place = (one["label"], one["image"])
        confident = {cell for cell, score in found[0].items() if score > reference.CONFIDENT}
        sure.setdefault(place, set()).update(confident)
        masked.setdefault(place, set()).update(found[2])
    return maps, sure, masked


@pytest.mark.parametrize("progress", [0.3, 0.7])
def test_pseudo_masks_and_prototypes_object_by_object(progress):
    context = of_two_networks(progress)
    exact = PrototypeSettings(per_class=3, epsilon=0.2, tolerance=1e-9, max_iterations=2000)
    loss = build(pseudo=PLAIN, prototypes=exact, calibrated=False)
    loss.bank.vectors.copy_(torch.nn.functional.normalize(torch.randn(2, 3, 8), dim=-1))
    loss.bank.updates.fill_(2)
    before = loss.bank.vectors.tolist()
    maps, sure, masked = cells_by_hand(context, before)
    loss(context)
    correction, pixels = loss._correction, loss._pixels
    torch.testing.assert_close(correction.instance * correction.inside, maps[0])
    torch.testing.assert_close(correction.semantic * correction.inside, maps[1])
    assert torch.equal(correction.masks.foreground, maps[2] > 0)
    loss.update(context)
    for label in (0, 1):
        cells = sure if progress < 0.5 else masked
        assert cells.keys() == {(0, 0), (0, 1), (1, 1)}
        by, averaged = (
            [
                reference.unit_cell(samples.features[image], cell)
                for image in (0, 1)
                for cell in sorted(cells.get((label, image), ()))
            ]
            for samples in (context.teacher, context.student)
        )
        valid = pixels.valid[label]
        found = torch.cat([pixels.assigned_by[label], pixels.averaged[label]], dim=1)[valid]
        expected = torch.cat([torch.tensor(by), torch.tensor(averaged)], dim=1)
        order, expected_order = found[:, 0].argsort(), expected[:, 0].argsort()
        torch.testing.assert_close(found[order], expected[expected_order])
        places = reference.assigned(by, before[label], 0.2, 400)
        images = 2 - label
        after = reference.moved(before[label], averaged, places, (3 / 12) ** images)
        torch.testing.assert_close(loss.bank.vectors[label], torch.tensor(after))


def test_objects_of_one_class_in_one_picture_share_their_semantic_map():
    loss, context = build(), of_two_networks(0.5)
    loss.bank.vectors.normal_()
    loss.bank.updates.fill_(1)
    semantic = loss.correct(context).semantic
    assert torch.equal(semantic[1], semantic[2])
    assert not torch.allclose(semantic[0], semantic[1])  # of another picture
    assert not torch.allclose(semantic[3], semantic[1])  # of another class


@pytest.mark.parametrize("seen", [True, False])
def test_objects_of_classes_without_prototypes_are_not_remembered(seen):
    bank = CopyPasteSettings(capacity=4, least_fit=0.0)
    loss, context = build(copy_paste=bank, pseudo=PLAIN), of_two_networks(0.7)
    loss.bank.vectors.normal_()
    loss.bank.updates.copy_(torch.tensor([1, int(seen)]))
    correction = loss.correct(context)
    assert correction.masks.foreground.flatten(1).any(dim=1).all()
    for _ in range(2):  # objects come in with the next ones
        loss._remember(loss.paste_bank, context, correction)
    labels = [[one.label for one in picture] for picture in loss.paste_bank.pictures]
    assert labels == [[0], [0, 0, 1] if seen else [0, 0]]
