from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from boxmask.data.loader import (
    EpochBatches,
    LoaderSettings,
    collate,
    plain_loader,
    train_loader,
)
from boxmask.data.records import ImageRecord
from boxmask.data.transforms import AugmentationSettings, Sample
from boxmask.errors import UserError
from boxmask.structures import Targets


def record_of(size, path=Path("nothing.png"), boxes=()):
    tensor = np.array(boxes, np.float32).reshape(-1, 4)
    return ImageRecord(
        path=path,
        name=path.name,
        image_size=size,
        boxes=tensor,
        labels=np.zeros(len(tensor), np.int64),
        annotation_ids=tuple(range(len(tensor))),
        crowd=np.zeros(len(tensor), bool),
        segmentations=(None,) * len(tensor),
        image_id=1,
    )


def records_of(count, wide=None):
    """Some wide and some tall pictures."""
    wide = count // 2 if wide is None else wide
    return [record_of((40, 60) if number < wide else (60, 40)) for number in range(count)]


def batches(records, epoch=0, **settings):
    found = EpochBatches(records, LoaderSettings(**settings), lambda: epoch)
    listed = list(found)
    assert len(listed) == len(found)
    assert all(key[0] == epoch for batch in listed for key in batch)
    return [[key[1] for key in batch] for batch in listed]


@given(
    st.integers(1, 40), st.integers(0, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 9)
)
def test_every_picture_once_over_all_processes(count, wide, batch_size, num_ranks, epoch):
    records = records_of(count, min(wide, count))
    ranks = [
        batches(records, epoch, batch_size=batch_size, rank=rank, num_ranks=num_ranks, seed=7)
        for rank in range(num_ranks)
    ]
    assert len({len(one) for one in ranks}) == 1
    assert all(len(batch) == batch_size for one in ranks for batch in one)
    seen = Counter(index for one in ranks for batch in one for index in batch)
    assert set(seen) == set(range(count))
    together = batch_size * num_ranks
    assert sum(seen.values()) == -(-count // together) * together
    extra = sum(seen.values()) - count  # what fills up the last batch
    assert sum(times - 1 for times in seen.values()) == extra
    if count % together == 0:
        assert set(seen.values()) == {1}


def test_order_depends_on_seed_and_epoch_alone():
    records = records_of(20)
    first = batches(records, 3, batch_size=4, seed=1)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert batches(records, 3, batch_size=4, seed=1) == first
    assert batches(records, 4, batch_size=4, seed=1) != first
    assert batches(records, 3, batch_size=4, seed=2) != first


def test_processes_share_the_batches_of_one():
    records = records_of(24)
    alone = batches(records, 2, batch_size=4)
    first = batches(records, 2, batch_size=2, rank=0, num_ranks=2)
    second = batches(records, 2, batch_size=2, rank=1, num_ranks=2)
    for whole, *parts in zip(alone, first, second, strict=True):
        assert sorted(whole) == sorted(parts[0] + parts[1])


def test_wide_and_tall_pictures_are_apart():
    found = batches(records_of(40, wide=20), batch_size=4)
    kinds = [{index < 20 for index in batch} for batch in found]
    assert all(len(kind) == 1 for kind in kinds)
    found = batches(records_of(40, wide=18), batch_size=4)
    assert sum(len({index < 18 for index in batch}) == 2 for batch in found) == 1
    order = [batch[0] < 18 for batch in found]
    assert order not in (sorted(order), sorted(order, reverse=True))  # the kinds are mixed


def item(index, size, boxes=(), with_masks=False):
    height, width = size
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    targets = Targets.from_boxes(tensor, torch.zeros(len(tensor), dtype=torch.int64))
    if with_masks:
        masks = torch.ones(len(tensor), height, width, dtype=torch.bool)
        targets = Targets(
            boxes=tensor,
            labels=targets.labels,
            tight=targets.tight,
            masks=masks,
            trusted=~targets.trusted,
        )
    image = torch.randint(1, 256, (3, height, width), dtype=torch.uint8)
    return index, f"{index}.png", Sample(image=image, targets=targets, scale=(0.5, 0.25))


def test_padding():
    items = [item(4, (37, 53), [[1, 2, 3, 4]], with_masks=True), item(9, (50, 20))]
    batch = collate(items)
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images.dtype == torch.float32
    assert batch.images[0, :, :37, :53].min() > 0
    assert batch.images.max() <= 1
    assert torch.equal(batch.images[0, :, :37, :53] * 255, items[0][2].image.float())
    assert not batch.images[0, :, 37:].any()
    assert not batch.images[0, :, :, 53:].any()
    assert batch.valid.sum(dim=(1, 2)).tolist() == [37 * 53, 50 * 20]
    assert batch.valid[0, :37, :53].all()
    assert batch.targets[0].masks.shape == (1, 64, 64)
    assert batch.targets[0].masks.sum() == 37 * 53
    assert batch.targets[1].masks is None
    assert batch.image_sizes == ((37, 53), (50, 20))
    assert batch.scales.tolist() == [[0.5, 0.25]] * 2
    assert batch.indices == (4, 9)
    assert batch.names == ("4.png", "9.png")


@pytest.mark.parametrize(("size", "padded"), [((32, 64), (32, 64)), ((33, 1), (64, 32))])
def test_padded_sizes_are_multiples_of_32(size, padded):
    assert collate([item(0, size)]).images.shape[-2:] == padded


@pytest.fixture
def pictures(tmp_path):
    """Seven small pictures on disk, wide and tall, one without boxes."""
    random = np.random.default_rng(0)
    made = []
    for number in range(7):
        size = (40, 60) if number % 2 else (60, 36)
        path = tmp_path / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
        made.append(record_of(size, path, [[2, 3, 30, 31]] if number else ()))
    return made


def test_train_loader_gives_the_same_with_workers(pictures):
    augmentation = AugmentationSettings(image_size=40, brightness=0.2)

    def run(num_workers):
        settings = LoaderSettings(batch_size=2, num_workers=num_workers, seed=3)
        return list(train_loader(pictures, augmentation, settings, lambda: 5))

    alone, helped = run(0), run(2)
    assert len(alone) == 4
    for first, second in zip(alone, helped, strict=True):
        assert first.indices == second.indices
        assert torch.equal(first.images, second.images)
        for one, other in zip(first.targets, second.targets, strict=True):
            assert torch.equal(one.boxes, other.boxes)


def test_train_loader_asks_for_the_epoch_each_time(pictures):
    epochs = iter([0, 1])
    loader = train_loader(
        pictures,
        AugmentationSettings(image_size=40),
        LoaderSettings(batch_size=7),
        lambda: next(epochs),
    )
    first, second = next(iter(loader)), next(iter(loader))
    assert sorted(first.indices) == sorted(second.indices) == list(range(7))
    assert first.indices != second.indices


@pytest.mark.parametrize("num_ranks", [1, 3])
def test_plain_loader_gives_each_picture_once(pictures, num_ranks):
    seen = []
    for rank in range(num_ranks):
        settings = LoaderSettings(batch_size=2, rank=rank, num_ranks=num_ranks)
        for batch in plain_loader(pictures, 32, settings):
            seen += batch.indices
            for index, (height, width), scale in zip(
                batch.indices, batch.image_sizes, batch.scales, strict=True
            ):
                assert min(height, width) == 32
                full = pictures[index].image_size
                assert scale.tolist() == pytest.approx([width / full[1], height / full[0]])
    assert sorted(seen) == list(range(7))


def test_plain_loader_of_nothing():
    assert list(plain_loader([], 32, LoaderSettings(batch_size=2))) == []


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("kind", ["train", "plain"])
def test_an_unreadable_picture_is_named_without_a_traceback(pictures, num_workers, kind):
    pictures[3].path.write_bytes(b"no picture")
    settings = LoaderSettings(batch_size=2, num_workers=num_workers)
    if kind == "train":
        augmentation = AugmentationSettings(image_size=40)
        loader = train_loader(pictures, augmentation, settings, lambda: 0)
    else:
        loader = plain_loader(pictures, 40, settings)
    with pytest.raises(UserError, match="picture cannot be read") as caught:
        list(loader)
    assert caught.value.where == str(pictures[3].path)
    assert "Replace the file" in caught.value.fix
    assert "Traceback" not in caught.value.what
