"""`check`: what is said of good and bad data."""

import csv
import json
import shutil

import pytest

import boxmask
from boxmask.data.folder import read_data
from boxmask.data.pictures import read_picture
from boxmask.errors import UserError


def test_good_data(shapes, tmp_path):
    said = []
    seen = boxmask.check(shapes, out=tmp_path, say=said.append)
    assert seen.ok
    assert "COCO, 2 splits, 3 classes (disc, star, crescent)" in said[0]
    assert "masks: none (not needed)" in said[1]
    assert "masks: all" in said[2]
    for name in ("labels.jpg", "boxes_0.jpg"):
        assert read_picture(tmp_path / name).size


def test_many_errors_are_counted_and_kept(own_shapes, tmp_path):
    file = own_shapes / "train.json"
    content = json.loads(file.read_text())
    bad = [
        {"id": 5000 + k, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 5], "iscrowd": 0}
        for k in range(25)
    ]
    content["annotations"] += bad
    file.write_text(json.dumps(content))
    said = []
    seen = boxmask.check(own_shapes, out=tmp_path, say=said.append)
    assert not seen.ok
    text = "\n".join(said)
    assert "x 25 errors" in text
    assert "annotation 5000" in text or "5000" in text
    assert "... and 5 more in problems.csv" in text
    with (tmp_path / "problems.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(read_data(own_shapes).problems)


def empty(file, **more):
    """Takes all annotations out of a COCO file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []} | more))


def test_pictures_without_boxes(own_shapes, tmp_path):
    for name in ("train", "val"):
        empty(own_shapes / f"{name}.json")
    said = []
    assert boxmask.check(own_shapes, out=tmp_path, say=said.append).ok
    assert said[-1].startswith("Next: draw boxes")
    assert "boxmask train" not in "\n".join(said)


def test_no_class_and_no_box(own_shapes, tmp_path):
    for name in ("train", "val"):
        empty(own_shapes / f"{name}.json", categories=[])
    said = []
    assert boxmask.check(own_shapes, out=tmp_path, say=said.append).ok
    assert "names no class" in "\n".join(said)
    with pytest.raises(UserError, match="no training picture with a box"):
        boxmask.train(own_shapes, out=tmp_path / "run", say=said.append, pretrained=False)


def test_data_without_a_train_split(own_shapes, tmp_path):
    (own_shapes / "train.json").unlink()
    said = []
    boxmask.check(own_shapes, out=tmp_path, say=said.append)
    assert said[-1].startswith("Next: name a data set with a train split")
    with pytest.raises(UserError, match="no training picture with a box"):
        boxmask.train(
            own_shapes, out=tmp_path / "run", say=said.append, pretrained=False, method="full"
        )


def test_training_is_suggested(shapes, tmp_path):
    said = []
    boxmask.check(shapes, out=tmp_path, say=said.append)
    assert said[-1] == f"Next: boxmask train {shapes}"


def test_a_copy_of_a_picture_in_another_split(own_shapes, tmp_path):
    pictures = own_shapes / "images"
    shutil.copy(pictures / "train_0001.png", pictures / "val_0000.png")
    said = []
    seen = boxmask.check(own_shapes, out=tmp_path, say=said.append)
    assert "train_0001.png = val_0000.png" in "\n".join(said)
    assert seen.summary.num_warnings == len(seen.problems)
