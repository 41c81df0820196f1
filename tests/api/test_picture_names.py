from pathlib import Path

import numpy as np
import pytest

from boxmask.api.picture_names import records_named
from boxmask.data.records import DataFolder, DataSplit, ImageRecord
from boxmask.errors import UserError


def record(name, root):
    return ImageRecord(
        path=root / "images" / name,
        name=name,
        image_size=(4, 4),
        boxes=np.zeros((0, 4), dtype=np.float32),
        labels=np.zeros(0, dtype=np.int64),
        annotation_ids=(),
        crowd=np.zeros(0, dtype=bool),
        segmentations=(),
        image_id=1,
    )


@pytest.fixture
def data(tmp_path):
    names = {"train": ("a/one.jpg", "b/one.jpg", "c/two.jpg"), "val": ("three.jpg", "three.png")}
    splits = {
        split: DataSplit(
            name=split, records=[record(n, tmp_path) for n in chosen], source=tmp_path / split
        )
        for split, chosen in names.items()
    }
    return DataFolder(
        root=tmp_path, format="coco", class_names=("x",), category_ids=(1,), splits=splits
    )


def names_of(data, *given):
    return [record.name for record in records_named(data, given)]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a/one.jpg", "a/one.jpg"),
        ("two.jpg", "c/two.jpg"),
        ("two", "c/two.jpg"),
        ("three.png", "three.png"),
        (Path("a/one.jpg"), "a/one.jpg"),
    ],
)
def test_a_picture_may_be_named_in_many_ways(data, given, name):
    assert names_of(data, given) == [name]


def test_a_path_is_taken_from_anywhere(data, monkeypatch):
    monkeypatch.chdir(data.root)
    assert names_of(data, "images/c/two.jpg") == ["c/two.jpg"]
    assert names_of(data, data.root / "images" / "c" / "two.jpg") == ["c/two.jpg"]


def test_each_picture_comes_once_in_the_order_of_naming(data):
    assert names_of(data, "three.jpg", "two", "c/two.jpg") == ["three.jpg", "c/two.jpg"]


@pytest.mark.parametrize("given", ["one.jpg", "one", "three"])
def test_names_of_several_pictures_are_refused(data, given):
    with pytest.raises(UserError, match="2 pictures are called") as error:
        records_named(data, [given])
    assert "." in error.value.where


def test_unknown_names_get_close_ones(data):
    with pytest.raises(UserError, match="no picture 'twoo") as error:
        records_named(data, ["twoo.jpg"])
    assert error.value.fix == "did you mean c/two.jpg?"
    with pytest.raises(UserError) as error:
        records_named(data, ["quite-another-thing"])
    assert "its stem" in error.value.fix
