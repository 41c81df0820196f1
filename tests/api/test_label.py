"""`label`: what comes in comes out, with a mask for each box."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import boxmask
from boxmask.data.folder import read_data
from boxmask.data.masks import decode_segmentation, has_mask
from boxmask.data.yolo_writer import write_yolo
from boxmask.errors import UserError
from boxmask.recipes.saved_model import load_model
from tiny_model import make_run


def quiet(line):
    pass


def label(data, run, **options):
    return boxmask.label(data, weights=run, say=quiet, workers=0, **options)


def objects(folder):
    """Every object that is no crowd: picture, class, box, mask or None."""
    found = []
    for split in folder.splits.values():
        for record in split.records:
            for k in np.flatnonzero(~record.crowd):
                mask = record.segmentations[k]
                pixels = decode_segmentation(mask, record.image_size) if has_mask(mask) else None
                name = record.name.rsplit("/")[-1].rsplit(".")[0]
                label_name = folder.class_names[record.labels[k]]
                found.append((split.name, name, label_name, record.boxes[k], pixels))
    return found


def without_label_keys(entry):
    return {k: v for k, v in entry.items() if k not in ("segmentation", "area", "score")}


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_every_box_keeps_its_place_and_gets_a_mask(shapes, run, tmp_path, form):
    made = label(shapes, run, format=form, out=tmp_path / "out")
    before, after = objects(read_data(shapes)), objects(read_data(tmp_path / "out"))
    assert made.num_masks == len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert new[:3] == old[:3]
        np.testing.assert_allclose(new[3], old[3], atol=1e-4)
        assert new[4] is not None
        x1, y1, x2, y2 = (int(v) for v in old[3])
        if form != "voc":  # VOC gives the pixels of overlaps to one object
            assert new[4].any()
        outside = new[4].copy()
        outside[y1:y2, x1:x2] = False
        assert not outside.any()


def test_a_coco_file_keeps_everything_else(shapes, run, tmp_path):
    label(shapes, run, out=str(tmp_path / "out"), split="train")
    old = json.loads((shapes / "train.json").read_text())
    new = json.loads((tmp_path / "out" / "train.json").read_text())
    assert not (tmp_path / "out" / "val.json").exists()
    assert new["images"] == old["images"]
    assert new["categories"] == old["categories"]
    for before, after in zip(old["annotations"], new["annotations"], strict=True):
        assert without_label_keys(after) == without_label_keys(before)
        assert after["segmentation"]
        if before["iscrowd"]:
            assert after == {**before, "area": 5}
        else:
            assert 0 <= after["score"] <= 1


def test_all_formats_lie_side_by_side(shapes, run, tmp_path):
    out = tmp_path / "out"
    label(shapes, run, format=("coco", "yolo", "voc"), out=out, split="val")
    assert read_data(out).format == "coco"
    assert read_data(out / "data.yaml").format == "yolo"
    assert (out / "SegmentationObject" / "val_0000.png").is_file()


def test_report_and_review(shapes, run, tmp_path):
    said = []
    made = boxmask.label(shapes, weights=run, out=tmp_path / "out", say=said.append, workers=0)
    with made.report.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == made.num_masks
    assert {int(row["annotation_id"]) > 1000 for row in rows if row["split"] == "train"} == {True}
    for row in rows:
        assert 0 < float(row["fill"]) <= 1
        assert 0 < float(row["tightness"]) <= 1
        assert int(row["area"]) > 0
    assert (tmp_path / "out" / "review" / "doubtful_0.jpg").is_file()
    assert any("box IoU of masks: median" in line for line in said)
    assert not (tmp_path / "out" / "unfinished").exists()


def test_pictures_are_a_quarter_larger_than_in_training(shapes, run, tmp_path):
    trained = load_model(run).image_size
    said = []
    boxmask.label(
        shapes, weights=run, out=tmp_path / "own", split="val", say=said.append, workers=0
    )
    larger = round(trained * 1.25)
    assert any(f"short side {larger} px, trained at {trained}" in line for line in said)
    label(shapes, run, out=tmp_path / "same", split="val", image_size=larger)
    label(shapes, run, out=tmp_path / "small", split="val", image_size=trained)
    own, same, small = (
        (tmp_path / name / "val.json").read_text() for name in ("own", "same", "small")
    )
    assert own == same
    assert own != small


def test_yolo_goes_in_and_out(shapes, run, tmp_path):
    from boxmask.detectors.object_masks import ObjectMask
    from boxmask.labeler.finished import labelled_record  # only to write a YOLO source

    folder = read_data(shapes)
    for split in folder.splits.values():
        empty = [
            labelled_record(
                r,
                [
                    ObjectMask(counts=_empty_counts(r.image_size), confidence=0.0)
                    for _ in range(int((~r.crowd).sum()))
                ],
            )
            for r in split.records
        ]
        write_yolo(tmp_path / "yolo", split, folder, empty)
    label(tmp_path / "yolo", run, format="yolo", out=tmp_path / "out")
    before, after = objects(read_data(tmp_path / "yolo")), objects(read_data(tmp_path / "out"))
    assert [one[:3] for one in before] == [one[:3] for one in after]


def _empty_counts(size):
    from boxmask.data.masks import encode_mask

    return encode_mask(np.zeros(size, dtype=bool))["counts"]


SLOW_LABEL = """
import sys, time
from boxmask.labeler.finished import FinishedPictures
add = FinishedPictures.add
def slow_add(self, *arguments):
    add(self, *arguments)
    time.sleep(0.3)
FinishedPictures.add = slow_add
import boxmask
boxmask.label(sys.argv[1], weights=sys.argv[2], out=sys.argv[3], format=("coco", "yolo", "voc"),
              batch=1, workers=0)
"""


def test_a_killed_labelling_goes_on_to_the_same_files(shapes, run, tmp_path):
    out, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([sys.executable, "-c", SLOW_LABEL, shapes, run, out])
    lines = out / "unfinished" / "pictures.jsonl"
    deadline = time.monotonic() + 60
    while not (lines.is_file() and lines.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = lines.read_bytes().count(b"\n")
    assert 2 <= done < 6

    formats = ("coco", "yolo", "voc")
    with pytest.raises(UserError, match="begun in this folder"):
        label(shapes, run, out=out, batch=1, format=formats)
    with pytest.raises(UserError, match="--batch changed"):
        label(shapes, run, out=out, batch=2, format=formats, resume=True)
    other = make_run(tmp_path / "other", shapes, seed=5)
    with pytest.raises(UserError, match="--weights changed"):
        label(shapes, other, out=out, batch=1, format=formats, resume=True)
    label(shapes, run, out=out, batch=1, format=formats, resume=True)
    label(shapes, run, out=whole, batch=1, format=formats)
    _assert_same_files(out, whole)


def _assert_same_files(first, second):
    def names(folder):
        return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())

    assert names(first) == names(second)
    for name in names(first):
        texts = [(f / name).read_bytes() for f in (first, second)]
        if name.name == "data.yaml":
            texts = [t.split(b"\n", 1)[1] for t in texts]  # the first line is the folder's path
        assert texts[0] == texts[1], name


def test_changed_data_is_not_resumed(own_shapes, run, tmp_path, monkeypatch):
    monkeypatch.setattr("boxmask.api.label.write_formats", _stop)
    with pytest.raises(KeyboardInterrupt):
        label(own_shapes, run, out=tmp_path / "out")
    monkeypatch.undo()
    text = (own_shapes / "train.json").read_text()
    (own_shapes / "train.json").write_text(text.replace('"bbox": [1, 2,', '"bbox": [2, 2,'))
    with pytest.raises(UserError, match="DATA changed"):
        label(own_shapes, run, out=tmp_path / "out", resume=True)
    label(own_shapes, run, out=tmp_path / "out", overwrite=True)


def _stop(*arguments):
    raise KeyboardInterrupt


def test_unreadable_pictures_stop_only_the_end(own_shapes, run, tmp_path):
    picture = own_shapes / "images" / "train_0001.png"
    content = picture.read_bytes()
    picture.write_bytes(content[: len(content) // 2] + content[-12:])  # its end alone is whole
    with pytest.raises(UserError, match="1 of 6 pictures cannot be read") as met:
        label(own_shapes, run, out=tmp_path / "out")
    assert "train_0001.png" in met.value.where
    made = label(own_shapes, run, out=tmp_path / "out", resume=True, skip_bad=True)
    assert made.num_pictures == 5
    assert len(json.loads((tmp_path / "out" / "train.json").read_text())["images"]) == 3
    assert "train_0001.png" in (tmp_path / "out" / "left_out.txt").read_text()


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_bad_boxes_are_left_out_and_named(own_shapes, run, tmp_path, form):
    file = own_shapes / "train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = float("nan")
    bad = content["annotations"][0]["id"]
    file.write_text(json.dumps(content))
    out, said = tmp_path / "out", []
    chosen = {"format": form, "out": out, "skip_bad": True, "workers": 0}
    made = boxmask.label(own_shapes, weights=run, say=said.append, **chosen)
    again = read_data(out)
    assert not again.errors
    assert made.num_masks == len(objects(again)) == len(objects(read_data(own_shapes)))
    (line,) = (out / "left_out.txt").read_text().splitlines()
    assert f"annotation {bad}" in line
    assert any(
        "results: 1 (annotations and pictures)" in line and "left_out.txt" in line for line in said
    )
    crowds = [line for line in said if "crowds left out: 1" in line]
    assert len(crowds) == (form == "yolo")


def test_a_box_smaller_than_a_pixel_gets_the_pixel_under_it(own_shapes, run, tmp_path):
    file = own_shapes / "train.json"
    content = json.loads(file.read_text())
    boxes = {5001: [10.55, 20.6, 0.4, 0.3], 5002: [30.6, 11.0, 0.6, 0.4], 5003: [63.9, 0, 0.1, 9]}
    for number, box in boxes.items():
        entry = {"id": number, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0}
        content["annotations"].append(entry)
    file.write_text(json.dumps(content))
    label(own_shapes, run, out=tmp_path / "out", split="train")
    written = json.loads((tmp_path / "out" / "train.json").read_text())["annotations"]
    places = {
        entry["id"]: np.argwhere(decode_segmentation(entry["segmentation"], (48, 64))).tolist()
        for entry in written
        if entry["id"] in boxes
    }
    assert places[5001] == [[20, 10]]
    assert places[5002] == [[11, 30]]
    assert {x for _, x in places[5003]} == {63}


def test_other_folders_are_left_alone(shapes, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        label(shapes, run, out=tmp_path / "out")
    with pytest.raises(UserError, match="left alone"):
        label(shapes, run, out=tmp_path / "out", overwrite=True)
    own = shutil.copytree(shapes, tmp_path / "own")
    with pytest.raises(UserError, match="over itself"):
        label(own, run, out=own, overwrite=True)
    with pytest.raises(UserError, match="inside the folder"):
        label(own, run, out=tmp_path, overwrite=True)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"
    assert sorted(p.name for p in own.iterdir()) == ["images", "train.json", "val.json"]


def test_wrong_names_are_told(shapes, run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no data set"):
        label(tmp_path / "empty", run)
    with pytest.raises(UserError, match="no such run"):
        label(shapes, tmp_path / "nowhere")
    with pytest.raises(UserError, match="no split 'test'"):
        label(shapes, run, split="test")
    with pytest.raises(UserError, match="format: expected one of coco, yolo, voc"):
        label(shapes, run, format="png")
    with pytest.raises(UserError, match="did you mean format"):
        label(shapes, run, formats="yolo")
