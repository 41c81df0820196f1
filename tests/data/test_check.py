import pytest

from boxmask.data.check import summarise
from boxmask.data.folder import read_data


def test_counts(one_picture_coco, annotation):
    square = [[1, 1, 5, 1, 5, 5]]
    path = one_picture_coco(
        [
            annotation(1, 1, (1, 1, 4, 8), segmentation=square),
            annotation(2, 1, (1, 1, 20, 12), 2),
            annotation(3, 1, (1, 1, 30, 20), iscrowd=1),
            annotation(4, 1, (1, 1, 0, 20)),
        ],
        categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "cow"}],
    )
    summary = summarise(read_data(path), image_size=60)
    train = summary.splits["train"]
    assert (train.num_pictures, train.num_empty, train.num_boxes, train.num_crowd) == (1, 0, 2, 1)
    assert train.class_counts == {"cat": 1, "dog": 1, "cow": 0}
    assert train.masks == "some"
    assert train.side_percentiles[50] == pytest.approx(8)
    assert train.small_share == pytest.approx(0.5)  # 4 px become 8, 12 become 24
    assert (train.num_crowded, train.most_boxes) == (0, 2)
    assert summary.num_errors == 1
    assert "no val split" in summary.advice[0]


def test_advice_for_small_and_many_boxes(one_picture_coco, annotation):
    boxes = [annotation(k, 1, (k % 30, k // 30, 2, 2)) for k in range(250)]
    folder = read_data(one_picture_coco(boxes))
    advice = " ".join(summarise(folder, image_size=200).advice)
    assert "100% of boxes are below 16 px at size 200; try --image-size 256." in advice
    assert "over 200 boxes, at most 250" in advice
    assert "at least 8 across" in " ".join(summarise(folder, image_size=30).advice)


def test_empty_split(one_picture_coco):
    train = summarise(read_data(one_picture_coco([]))).splits["train"]
    assert (train.masks, train.small_share, train.most_boxes) == ("none", 0.0, 0)
