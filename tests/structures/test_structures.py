from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from absent_gpu import absent_gpu
from boxmask.structures import Batch, Detections, LossSum, Targets
from boxmask.structures.checks import check_boxes, check_same_length, check_same_shape


def some_targets(count=3):
    boxes = torch.tensor([[0.0, 0, 4, 4]]).repeat(count, 1)
    return Targets(
        boxes=boxes,
        labels=torch.arange(count),
        tight=torch.ones(count, 2, dtype=torch.bool),
        masks=torch.zeros(count, 8, 8, dtype=torch.bool),
        trusted=torch.arange(count) % 2 == 0,
    )


def some_batch(**changes):
    fields = {
        "images": torch.rand(2, 3, 32, 64),
        "valid": torch.ones(2, 32, 64, dtype=torch.bool),
        "targets": (some_targets(3), some_targets(0)),
        "image_sizes": ((30, 60), (32, 64)),
        "scales": torch.ones(2, 2),
        "indices": (5, 7),
        "names": ("a.png", "b.png"),
    }
    return Batch(**fields | changes)


def test_targets_of_boxes_alone():
    targets = Targets.from_boxes(torch.rand(2, 4), torch.tensor([1, 0]))
    assert len(targets) == 2
    assert targets.tight.all()
    assert targets.masks is None
    assert not targets.trusted.any()
    assert targets.tight.dtype == targets.trusted.dtype == torch.bool


def test_targets_select_keeps_everything_together():
    chosen = some_targets().select(torch.tensor([False, True, True]))
    assert chosen.labels.tolist() == [1, 2]
    assert chosen.trusted.tolist() == [False, True]
    assert chosen.masks.shape == (2, 8, 8)
    assert some_targets().select(torch.tensor([2])).labels.tolist() == [2]
    assert (
        Targets.from_boxes(torch.rand(2, 4), torch.zeros(2)).select(torch.tensor([0])).masks is None
    )


@pytest.mark.parametrize("name", ["labels", "tight", "trusted", "masks"])
def test_targets_of_unequal_lengths(name):
    targets = some_targets()
    with pytest.raises(ValueError, match=f"{name}: expected the length of boxes, 3, got 2"):
        replace(targets, **{name: getattr(targets, name)[:2]})


def test_structures_are_frozen():
    with pytest.raises(FrozenInstanceError):
        some_targets().boxes = torch.zeros(0, 4)
    with pytest.raises(FrozenInstanceError):
        LossSum(torch.zeros(()), torch.zeros(())).total = torch.ones(())


def test_batch_counts_and_moves():
    batch = some_batch()
    assert len(batch) == 2
    assert batch.num_instances == 3
    moved = batch.to("cpu")
    assert moved.names == batch.names
    assert moved.indices == (5, 7)
    assert moved.image_sizes == batch.image_sizes
    assert torch.equal(moved.images, batch.images)
    assert torch.equal(moved.targets[0].masks, batch.targets[0].masks)


def test_batch_gives_pixels_without_padding():
    given = [np.random.default_rng(k).integers(0, 256, (3, 32, 64), dtype=np.uint8) for k in (1, 2)]
    images = torch.from_numpy(np.stack(given)).float() / 255
    batch = some_batch(images=images, image_sizes=((30, 64), (32, 50)))
    first, second = batch.pixels()
    assert np.array_equal(first, given[0].transpose(1, 2, 0)[:30])
    assert np.array_equal(second, given[1].transpose(1, 2, 0)[:, :50])


@pytest.mark.gpu
def test_batch_moves_to_a_gpu():
    moved = some_batch().pin_memory().to("cuda", non_blocking=True)
    assert moved.images.is_cuda
    assert moved.scales.is_cuda
    assert moved.targets[0].boxes.is_cuda
    assert moved.targets[0].masks.is_cuda


def test_what_is_on_a_gpu_knows_what_it_was_on_the_host():
    batch = some_batch()
    assert batch.host is batch
    assert batch.targets[0].host is batch.targets[0]
    with absent_gpu() as gpu:
        moved = batch.to(gpu.device, non_blocking=True)
        targets = moved.targets[0]
        assert moved.host is batch
        assert targets.host is batch.targets[0]
        first = targets.select(torch.tensor([0]))
        assert first.boxes.device.type == "cuda"
        assert torch.equal(first.host.boxes, batch.targets[0].boxes[:1])
        assert not gpu.waits
        changed = replace(targets, boxes=targets.boxes + 1)  # the host does not know this
        assert changed.host is not batch.targets[0]
        assert gpu.waits


def test_batch_checks():
    with pytest.raises(ValueError, match=r"images: expected \(B, 3, H, W\), got \(2, 1, 32, 64\)"):
        some_batch(images=torch.rand(2, 1, 32, 64))
    with pytest.raises(ValueError, match="targets: expected one for each of 2 images, got 1"):
        some_batch(targets=(some_targets(),))


def test_detections_select_and_check():
    found = Detections(
        boxes=torch.rand(3, 4),
        scores=torch.tensor([0.9, 0.5, 0.1]),
        labels=torch.arange(3),
        mask_scores=torch.rand(3, 8, 8),
        frames=torch.rand(3, 4),
        image_size=(30, 60),
    )
    assert len(found) == 3
    chosen = found.select(found.scores > 0.4)
    assert chosen.labels.tolist() == [0, 1]
    assert chosen.image_size == (30, 60)
    assert len(found.to("cpu")) == 3
    with pytest.raises(ValueError, match="scores: expected the length of boxes"):
        replace(found, scores=torch.rand(2))


def test_check_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"given: expected shape \(N, 4\)"):
        check_boxes("given", torch.rand(4))
    with pytest.raises(ValueError, match=r"second: expected the shape of first, \(2, 3\)"):
        check_same_shape(first=torch.rand(2, 3), second=torch.rand(3, 2))
    with pytest.raises(ValueError, match="second: expected the length of first, 2, got 3"):
        check_same_length(first=torch.rand(2), second=torch.rand(3))
    check_same_shape(first=torch.rand(2, 3), second=torch.zeros(2, 3))
