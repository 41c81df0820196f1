"""`check`: what is said of good and bad data."""

import csv
import json

import boxmask
from boxmask.data.folder import read_data
from boxmask.data.pictures import read_picture


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


def test_pictures_without_boxes(own_shapes, tmp_path):
    for name in ("train", "val"):
        file = own_shapes / f"{name}.json"
        content = json.loads(file.read_text())
        content["annotations"] = []
        file.write_text(json.dumps(content))
    assert boxmask.check(own_shapes, out=tmp_path, say=lambda line: None).ok
