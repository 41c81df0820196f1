"""`val`: numbers, and classes matched by name."""

import json

import pytest

import boxmask
from boxmask.data.folder import read_data
from boxmask.data.folder_checks import first_names
from boxmask.errors import UserError
from tiny_model import make_run


def val(run, data=None, split="val", **options):
    options = {"say": lambda line: None, "workers": 0, **options}
    return boxmask.val(run, data, split, **options)


def test_the_training_data_is_the_default(run, tmp_path):
    said = []
    metrics = val(run, out=tmp_path, say=said.append)
    assert {"box_ap", "mask_ap", "label_iou", "box_tightness"} <= set(metrics)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["label_iou"] == pytest.approx(metrics["label_iou"])
    assert any("AP50" in line for line in said)


def test_pictures_that_training_put_aside_are_scored(own_shapes, tmp_path):
    (own_shapes / "val.json").unlink()
    run = make_run(tmp_path / "run", own_shapes, ("disc", "star", "crescent"))
    (run / "args.yaml").write_text(f"data: {own_shapes}\nval_fraction: 0.5\n")
    said = []
    val(run, out=tmp_path / "out", say=said.append)
    aside = read_data(own_shapes, 0.5).splits["val"].records
    assert any(f"  val  {len(aside)} pictures  " in line for line in said)


def test_without_masks_quality_is_estimated(shapes, run, tmp_path):
    said = []
    metrics = val(run, shapes, "train", out=tmp_path, say=said.append)
    assert "mask_ap" not in metrics
    assert any("estimated from the boxes" in line for line in said)


def test_some_masks_are_counted(own_shapes, run, tmp_path):
    file = own_shapes / "val.json"
    content = json.loads(file.read_text())
    pictures = set()
    for annotation in content["annotations"]:  # the first of each picture loses its mask
        if annotation["image_id"] not in pictures:
            del annotation["segmentation"]
        pictures.add(annotation["image_id"])
    file.write_text(json.dumps(content))
    said = []
    metrics = val(run, own_shapes, out=tmp_path, say=said.append)
    assert "mask_ap" not in metrics
    count = len(content["annotations"])
    words = f"{count - len(pictures)} of {count} objects have masks: label IoU is that of these; "
    assert any(line.startswith(words + "there is no mask AP") for line in said)
    assert not any("no masks in the data" in line for line in said)


def test_long_lists_of_classes_say_how_many_more_there_are():
    assert first_names(["a", "b"]) == "a, b"
    assert first_names([*"abcde"]) == "a, b, c, d, e"
    assert first_names([*"abcdefg"]) == "a, b, c, d, e and 2 more"


def test_the_order_of_classes_does_not_matter(own_shapes, run, tmp_path):
    first = val(run, own_shapes, out=tmp_path)
    for name in ("train", "val"):
        file = own_shapes / f"{name}.json"
        content = json.loads(file.read_text())
        content["categories"].reverse()
        for category in content["categories"]:
            category["id"] = 10 - category["id"]
        for annotation in content["annotations"]:
            annotation["category_id"] = 10 - annotation["category_id"]
        file.write_text(json.dumps(content))
    assert val(run, own_shapes, out=tmp_path) == pytest.approx(first, nan_ok=True)


def test_other_classes_are_refused_by_name(shapes, tmp_path):
    run = make_run(tmp_path / "run", shapes, ("disc", "star", "moon"))
    with pytest.raises(UserError, match="different classes") as met:
        val(run, shapes)
    assert met.value.where == "only in the data: crescent; only in the model: moon"


def test_data_may_lack_classes(shapes, tmp_path):
    """As a part of a VOC set does, which has no list of classes."""
    run = make_run(tmp_path / "run", shapes, ("disc", "star", "moon", "crescent"))
    said = []
    metrics = val(run, shapes, out=tmp_path / "out", say=said.append)
    assert "! the data lacks classes of the model: moon" in said
    assert "box_ap" in metrics


def test_unknown_splits_and_data(shapes, run, tmp_path):
    with pytest.raises(UserError, match="no split 'test'"):
        val(run, shapes, "test")
    (run / "weights" / "best.safetensors").exists()
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes((run / "weights" / "best.safetensors").read_bytes())
    with pytest.raises(UserError, match="not known which data"):
        val(lone)
