import numpy as np
import pytest
import torch
from PIL import Image

from boxmask.data.dataset import RecordDataset, record_targets
from boxmask.data.masks import encode_mask
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import AugmentationSettings, augment

SETTINGS = AugmentationSettings(image_size=48, smallest_scale=0.7, brightness=0.2)


def change(sample, generator):
    return augment(sample, SETTINGS, generator)


def keep(sample, generator):
    return sample


def record_of(path, *, size=(37, 53), crowd=(False, False, True), segmentations=None):
    count = len(crowd)
    return ImageRecord(
        path=path,
        name=path.name,
        image_size=size,
        boxes=np.array([[1, 2, 20, 30], [5, 5, 50, 36], [0, 0, 9, 9]], np.float32)[:count],
        labels=np.array([1, 0, 1])[:count],
        annotation_ids=tuple(range(count)),
        crowd=np.array(crowd, dtype=bool),
        segmentations=segmentations or (None,) * count,
        image_id=1,
    )


@pytest.fixture
def records(tmp_path):
    random = np.random.default_rng(0)
    made = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (37, 53, 3), dtype=np.uint8)).save(path)
        made.append(record_of(path))
    return made


def same(first, second):
    return (
        first[:2] == second[:2]
        and torch.equal(first[2].image, second[2].image)
        and torch.equal(first[2].targets.boxes, second[2].targets.boxes)
        and first[2].scale == second[2].scale
    )


def test_picture_and_boxes(records):
    dataset = RecordDataset(records, keep)
    assert len(dataset) == 3
    index, name, sample = dataset[0, 1]
    assert (index, name) == (1, "1.png")
    stored = np.asarray(Image.open(records[1].path)).transpose(2, 0, 1)
    assert np.array_equal(sample.image.numpy(), stored)
    assert sample.targets.boxes.tolist() == [[1, 2, 20, 30], [5, 5, 50, 36]]  # no crowd
    assert sample.targets.labels.tolist() == [1, 0]
    assert sample.targets.masks is None


def test_variants_depend_on_seed_epoch_and_picture_alone(records):
    dataset = RecordDataset(records, change, seed=3)
    first = {key: dataset[key] for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    again = RecordDataset(records, change, seed=3)
    for key in reversed(first):  # another order, other global seeds
        assert same(again[key], first[key])
    assert not same(first[0, 0], first[1, 0])
    assert not same(first[0, 0], RecordDataset(records, change, seed=4)[0, 0])
    flags = [dataset[epoch, 0][2].image_size for epoch in range(12)]
    assert len(set(flags)) > 3


def test_masks_are_read_on_request_alone(tmp_path):
    class Poison:
        """Any look at it fails."""

        def __getattribute__(self, name):
            raise AssertionError("a mask was read")

    record = record_of(tmp_path / "a.png", segmentations=(Poison(), Poison(), Poison()))
    targets = record_targets(record)
    assert targets.masks is None
    assert not targets.trusted.any()


def test_trusted_masks(tmp_path):
    mask = np.zeros((37, 53), dtype=bool)
    mask[2:30, 1:20] = True
    empty = np.zeros((37, 53), dtype=bool)
    record = record_of(
        tmp_path / "a.png",
        crowd=(False, False, False),
        segmentations=(encode_mask(mask), None, encode_mask(empty)),
    )
    targets = record_targets(record, "trusted")
    assert targets.trusted.tolist() == [True, False, False]
    assert np.array_equal(targets.masks[0].numpy(), mask)
    assert not targets.masks[1:].any()


def test_pictures_without_objects(tmp_path):
    for masks in ("ignore", "trusted"):
        targets = record_targets(record_of(tmp_path / "a.png", crowd=()), masks)
        assert len(targets) == 0
        assert targets.boxes.shape == (0, 4)
    assert targets.masks.shape == (0, 37, 53)
