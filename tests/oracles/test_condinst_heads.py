"""CondInst's heads, trained and in use, against values of the published code."""

import pytest
import torch

from boxmask.box_supervision.projection_loss import projection_distances
from boxmask.detectors.condinst import CondInstHeads, CondInstSettings
from boxmask.detectors.fcos import FCOSSettings, detection_losses
from boxmask.detectors.published_weights import load_published_heads
from boxmask.ops.pairwise import pairwise_sum
from boxmask.structures import Targets
from references import published

IMAGE_SIZE = (256, 320)
SETTINGS = CondInstSettings(
    num_classes=7,
    pyramid_channels=64,
    branch_channels=32,
    mask_channels=16,
    mask_norm="batch",
    samples_per_image=16,
    fcos=FCOSSettings(iou_smoothing=1.0),
)


@pytest.fixture(scope="module")
def train(oracle):
    return oracle("condinst_heads_train")


@pytest.fixture(scope="module")
def make_heads(oracle):
    """Heads with the stored weights; fresh ones, because training moves batch-norm statistics."""

    def make():
        heads = CondInstHeads(SETTINGS)
        assert load_published_heads(heads, oracle("condinst_heads_weights")) == []
        return heads

    return make


@pytest.fixture(scope="module")
def trained(train, make_heads):
    """(heads, outputs, targets, assignment, mask samples) in training mode."""
    heads = make_heads().train()
    outputs = heads([train[f"in.p{level}"] for level in range(3, 8)])
    counts = train["in.boxes_per_image"].tolist()
    boxes, classes = train["in.boxes_xyxy"].split(counts), train["in.classes"].split(counts)
    targets = [Targets.from_boxes(b, c) for b, c in zip(boxes, classes, strict=True)]
    assignment = heads.assign(outputs, targets)
    return heads, outputs, targets, assignment, heads.mask_samples(outputs, assignment)


def keys(images, instances, places, levels):
    """What identifies a positive: image, object of the batch, place and level."""
    rows = zip(images.tolist(), instances.tolist(), places.tolist(), levels.tolist(), strict=True)
    return [(image, instance, *place, level) for image, instance, place, level in rows]


def kept_keys(train):
    return keys(
        train["out.kept_im_inds"],
        train["out.kept_gt_inds"],
        train["out.kept_locations"],
        train["out.kept_levels"],
    )


def our_keys(outputs, found):
    grid = outputs.points.grid
    places, levels = grid.points[found.position], grid.levels[found.position]
    return keys(found.image_index, found.instance_index, places, levels)


@pytest.fixture(scope="module")
def in_stored_order(train, trained):
    """Our mask samples in the order of the stored ones."""
    _, outputs, _, assignment, samples = trained
    ours = our_keys(outputs, assignment)
    return samples.select(torch.tensor([ours.index(key) for key in kept_keys(train)]))


def test_targets(train, trained, close):
    _, outputs, _, assignment, _ = trained
    found = assignment.detection
    assert len(found.position) == int(train["out.num_positives"])
    expected = keys(
        train["out.pos_im_inds"],
        train["out.pos_gt_inds"],
        train["out.pos_locations"],
        train["out.pos_levels"],
    )
    ours = our_keys(outputs, found)
    assert set(ours) == set(expected)
    order = torch.tensor([ours.index(key) for key in expected])
    labels = found.labels[found.image_index, found.position]
    assert torch.equal(labels[order], train["out.pos_labels"])
    close(found.ltrb[order], train["out.pos_reg_targets"])
    close(found.centerness[order], train["out.pos_ctr_targets"])


def test_detection_losses(train, trained, close):
    _, outputs, _, assignment, _ = trained
    losses = detection_losses(outputs.points, assignment.detection, SETTINGS.fcos)
    for name, stored in (("class", "cls"), ("box", "loc"), ("centerness", "ctr")):
        loss = losses[f"loss_{name}"]
        close(loss.total / loss.count, train[f"out.loss_fcos_{stored}"])


def test_mask_features(train, trained, close):
    close(trained[1].features, train["out.mask_feats"])


def test_kept_positives(train, trained):
    _, outputs, _, assignment, _ = trained
    assert len(assignment) == int(train["out.kept_count"])
    assert set(our_keys(outputs, assignment)) == set(kept_keys(train))


def test_mask_logits(train, in_stored_order, close_for_sums):
    expected = train["out.mask_logits_stride4"][:, 0]
    close_for_sums(in_stored_order.logits[: len(expected)], expected, largest_error=1e-3)


def test_projection_loss(train, in_stored_order, close):
    boxes = published.box_masks(in_stored_order.boxes, IMAGE_SIZE, 4)
    axes = projection_distances(in_stored_order.logits, boxes.any(dim=1), boxes.any(dim=2))
    close(axes.sum(dim=1).mean(), train["out.boxinst_loss_projection"])


def test_pairwise_loss(train, in_stored_order, close):
    boxes = published.box_masks(in_stored_order.boxes, IMAGE_SIZE, 4)
    images = train["in.image_rgb_u8"].float() / 255
    similarity = published.color_similarity(images, train["in.valid_mask"] > 0, 4, 2)
    total, count = pairwise_sum(
        in_stored_order.logits, similarity >= 0.3, boxes, in_stored_order.image_index, dilation=2
    )
    close(total / count, train["out.boxinst_loss_pairwise_thr0.3"])


@pytest.mark.parametrize("image", [0, 1])
def test_detections(oracle, train, make_heads, close, close_for_sums, image):
    infer = oracle("condinst_heads_infer")
    heads = make_heads().eval()
    with torch.no_grad():
        outputs = heads([train[f"in.p{level}"] for level in range(3, 8)])
        found = heads.image_detections(outputs, image, IMAGE_SIZE)
    chosen = infer["out.im_inds"] == image
    boxes, labels = infer["out.boxes_xyxy"][chosen], infer["out.classes"][chosen]
    close(found.scores, infer["out.scores"][chosen])
    assert len(found) == len(boxes) == 100
    # Almost equal scores may change places: match by box and class.
    distance = (found.boxes[None] - boxes[:, None]).abs().amax(dim=-1)  # (theirs, ours)
    distance += (found.labels[None] != labels[:, None]) * 1e4
    match = distance.argmin(dim=1)
    assert len(set(match.tolist())) == len(match)
    close(found.boxes[match], boxes)
    assert torch.equal(found.labels[match], labels)
    if image == 0:
        masks = infer["out.mask_probs_stride4_first24"][:, 0]
        close_for_sums(found.mask_scores[match[: len(masks)]], masks, largest_error=2e-4)
