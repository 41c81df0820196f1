"""What is special for Mask2Former; the contract of all detectors is tested elsewhere."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from boxmask.backbones.backbone import BackboneSettings
from boxmask.detectors.mask2former import Mask2FormerSettings
from boxmask.detectors.query_masks import QueryOutputs, QuerySettings

QUERIES, LAYERS = 6, 2


@pytest.fixture(scope="module")
def settings():
    queries = QuerySettings(
        num_queries=QUERIES, channels=32, heads=4, encoder_layers=1, encoder_hidden=16,
        decoder_layers=LAYERS, decoder_hidden=16,
    )  # fmt: skip
    backbone = BackboneSettings(pretrained=False)
    return Mask2FormerSettings(num_classes=3, backbone=backbone, queries=queries)


@pytest.fixture(scope="module")
def detector(settings):
    torch.manual_seed(0)
    return settings.build()


@pytest.fixture(scope="module")
def outputs(detector, pictures):
    with torch.no_grad():
        return detector(*pictures)


def test_outputs(outputs):
    assert outputs.class_logits.shape == (LAYERS + 1, 2, QUERIES, 4)
    assert outputs.embeddings.shape == (LAYERS + 1, 2, QUERIES, 32)
    assert outputs.pixels.shape == (2, 32, 16, 24)  # stride 4


def test_every_output_gives_every_object_a_query(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50], [50, 5, 90, 60]), make_targets([5, 5, 30, 30])]
    assignment = detector.assign(outputs, targets)
    assert assignment.image_index.tolist() == [0] * 6 + [1] * 3
    assert assignment.instance_index.tolist() == [0, 1, 0, 1, 0, 1, 2, 2, 2]
    output = assignment.position // QUERIES
    assert output.tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]
    for image in (0, 1):
        assert len(assignment.position[assignment.image_index == image].unique()) == (6, 3)[image]


def test_more_objects_than_queries(detector, outputs, make_targets):
    crowd = make_targets(*[[x, 4, x + 8, 20] for x in range(0, 90, 9)])
    targets = [make_targets(), crowd]
    assignment = detector.assign(outputs, targets)
    assert len(assignment) == QUERIES * (LAYERS + 1)
    every = detector.assign_every_box(outputs, targets)
    assert sorted(every.instance_index.tolist()) == list(range(len(crowd)))
    assert (every.position // QUERIES == LAYERS).all()  # the last output


def test_queries_go_to_the_boxes_that_their_masks_fill(detector, make_targets):
    outputs = crafted_outputs()
    targets = [make_targets([0, 0, 16, 16], [16, 0, 32, 16], labels=[0, 0])]
    assignment = detector.assign(outputs, targets)
    assert assignment.position.tolist() == [1, 0]
    samples = detector.mask_samples(outputs, assignment)
    assert samples.predicted_boxes.tolist() == [[0, 0, 16, 16], [16, 0, 32, 16]]
    # A class that only the other query believes in outweighs nothing less than a wrong place.
    sure = replace(outputs, class_logits=outputs.class_logits.clone())
    sure.class_logits[0, 0, 0, 0] = 5.0
    assert detector.assign(sure, targets).position.tolist() == [1, 0]


def test_class_loss_by_hand(detector, make_targets):
    outputs = replace(crafted_outputs(), class_logits=torch.randn(1, 1, 3, 4))
    targets = [make_targets([0, 0, 16, 16], labels=[2])]
    assignment = detector.assign(outputs, targets)
    loss = detector.detection_losses(outputs, assignment, targets)["loss_class"]
    surprise = -outputs.class_logits[0, 0].log_softmax(dim=-1)  # (3, 4)
    matched = assignment.position.item()
    expected = surprise[matched, 2] + 0.1 * sum(
        surprise[query, 3] for query in range(3) if query != matched
    )
    torch.testing.assert_close(loss.total, 2 * expected)
    torch.testing.assert_close(loss.count, torch.tensor(1.2))


def test_class_loss_is_the_mean_of_the_outputs(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50], [50, 5, 90, 60]), make_targets()]
    assignment = detector.assign(outputs, targets)
    loss = detector.detection_losses(outputs, assignment, targets)["loss_class"]
    weights, means = torch.tensor([1.0, 1.0, 1.0, 0.1]), []
    for output in range(LAYERS + 1):
        wanted = torch.full((2, QUERIES), 3)
        own = assignment.position // QUERIES == output
        wanted[0, assignment.position[own] % QUERIES] = assignment.labels[own]
        logits = outputs.class_logits[output].flatten(0, 1)
        means.append(F.cross_entropy(logits, wanted.flatten(), weights))
    torch.testing.assert_close(loss.total / loss.count, 2 * torch.stack(means).mean())


def test_samples_of_pictures_without_boxes_hang_on_the_graph(detector, pictures, make_targets):
    outputs = detector(*pictures)
    targets = [make_targets(), make_targets()]
    assignment = detector.assign(outputs, targets)
    samples = detector.mask_samples(outputs, assignment)
    assert samples.logits.shape == (0, 16, 24)
    detector.zero_grad()
    loss = detector.detection_losses(outputs, assignment, targets)["loss_class"]
    (samples.logits.sum() * 0 + loss.total / loss.count).backward()
    assert all(p.grad.isfinite().all() for p in detector.decoder.parameters())


def test_scores_are_of_the_given_class(detector, outputs, make_targets):
    targets = [make_targets([2, 2, 40, 50], labels=[1]), make_targets()]
    assignment = detector.assign(outputs, targets)
    samples = detector.mask_samples(outputs, assignment)
    probabilities = outputs.class_logits[:, 0].softmax(dim=-1).flatten(0, 1)
    torch.testing.assert_close(samples.scores, probabilities[assignment.position, 1])


def test_masks_in_float32_from_bfloat16(detector, pictures, make_targets):
    targets = [make_targets([2, 2, 40, 50]), make_targets()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = detector(*pictures)
        samples = detector.mask_samples(outputs, detector.assign(outputs, targets))
    for values in (samples.logits, samples.predicted_boxes, samples.scores):
        assert values.dtype == torch.float32


def test_detections_by_hand(detector):
    outputs = crafted_outputs()
    outputs.class_logits[0, 0] = torch.tensor([[4.0, 0, 0, 0], [0, 6, 0, 0], [0, 0, 0, 0]])
    (found,) = detector.detections(outputs, [(14, 31)])
    # query 1 is surest, then query 0; query 2 has its mask in the padding
    assert found.labels[:2].tolist() == [1, 0]
    assert found.boxes[:2].tolist() == [[0, 0, 16, 14], [16, 0, 31, 14]]
    assert len(found) == 2 * 3  # every class of both
    probability = torch.tensor([0.0, 6, 0, 0]).softmax(dim=-1)[1]
    torch.testing.assert_close(found.scores[0], probability * torch.tensor(10.0).sigmoid())
    assert (found.scores.diff() <= 0).all()
    assert (found.mask_scores[:, :, 8:] == 0).all()


def crafted_outputs():
    """One output of three queries: the right half, the left half, and the padding of 16 x 40."""
    pixels = torch.full((1, 3, 4, 10), -1.0)
    pixels[0, 0, :, 4:8] = 1.0
    pixels[0, 1, :, :4] = 1.0
    pixels[0, 2, :, 8:] = 1.0
    return QueryOutputs(
        class_logits=torch.zeros(1, 1, 3, 4),
        embeddings=10 * torch.eye(3)[None, None],
        pixels=pixels,
    )
