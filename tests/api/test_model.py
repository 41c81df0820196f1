"""`BoxMask` and the package's public names."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import boxmask
from boxmask import BoxMask
from boxmask.data.pictures import read_picture
from boxmask.detectors.given_boxes import each_box_mask
from boxmask.errors import UserError


@pytest.fixture(scope="module")
def model(run):
    return BoxMask(run, device="cpu")


def test_predictions_have_the_pictures_size(model, shapes):
    path = shapes / "images" / "val_0000.png"
    found = model.predict(path, threshold=0.05)
    assert len(found) > 0
    assert found.mask.shape == (len(found), 48, 64)
    assert found.mask.dtype == bool
    assert set(found.data["class_name"]) <= set(model.class_names)
    assert (np.diff(found.confidence) <= 0).all()
    for other in (str(path), Image.open(path), read_picture(path)):
        np.testing.assert_array_equal(model.predict(other, threshold=0.05).mask, found.mask)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_picture_is_the_same_in_any_form(model, shapes, tmp_path, orientation):
    plain = Image.open(shapes / "images" / "val_0000.png").convert("RGBA")
    plain.putalpha(200)
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain.save(tmp_path / "a.png", exif=exif)
    found = model.predict(tmp_path / "a.png", threshold=0.05)
    opened = model.predict(Image.open(tmp_path / "a.png"), threshold=0.05)
    assert found.mask.shape[1:] == ((64, 48) if orientation > 4 else (48, 64))
    np.testing.assert_array_equal(opened.mask, found.mask)
    np.testing.assert_array_equal(opened.confidence, found.confidence)


def test_a_list_gives_a_list(model, shapes):
    paths = sorted((shapes / "images").glob("val*"))
    assert [type(one).__name__ for one in model.predict(paths)] == ["Detections"] * 2
    assert len(model.predict(paths[0], threshold=1.0)) == 0


def test_a_folder_gives_each_picture_with_its_path(model, shapes, tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("b.png", "deeper/a.png"):
        (tmp_path / name).write_bytes((shapes / "images" / "val_0000.png").read_bytes())
    (tmp_path / "notes.txt").write_text("no picture")
    found = dict(model.predict_folder(tmp_path, threshold=0.05))
    assert list(found) == [tmp_path / "b.png", tmp_path / "deeper" / "a.png"]
    expected = model.predict(tmp_path / "b.png", threshold=0.05)
    np.testing.assert_array_equal(found[tmp_path / "b.png"].mask, expected.mask)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no picture and no video"):
        next(model.predict_folder(tmp_path / "empty"))


def test_masks_for_given_boxes(model, shapes):
    boxes = np.array([[5, 6, 30, 40], [0, 0, 64, 48], [10.2, 10.2, 10.4, 10.3], [-3, 4, 9, 60]])
    found = model.masks_for(shapes / "images" / "val_0000.png", boxes, labels=[2, 0, 1, 1])
    np.testing.assert_allclose(found.xyxy, boxes, rtol=1e-6)
    assert found.class_id.tolist() == [2, 0, 1, 1]
    assert found.mask.any(axis=(1, 2)).all()
    assert found.mask[0].sum() == found.mask[0, 6:40, 5:30].sum()
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert len(model.masks_for(shapes / "images" / "val_0000.png", [])) == 0


def test_masks_are_asked_for_with_their_classes(model, shapes, monkeypatch):
    """Boxes of one class share no pixel, those of two may."""
    asked = []

    def watched(detector, outputs, targets):
        asked.append(targets[0].labels.tolist())
        return each_box_mask(detector, outputs, targets)

    monkeypatch.setattr("boxmask.detectors.object_masks.each_box_mask", watched)
    picture, boxes = shapes / "images" / "val_0000.png", [[5, 6, 45, 40], [10, 8, 60, 44]]
    model.masks_for(picture, boxes, labels=[2, 1])
    model.masks_for(picture, boxes)
    assert asked == [[2, 1], [0, 0]]


def test_unknown_classes_are_refused(model, shapes):
    with pytest.raises(ValueError, match="labels: expected 0 to 2"):
        model.masks_for(shapes / "images" / "val_0000.png", [[5, 6, 45, 40]], labels=[3])


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [70, 5, 80, 9], [1, 1, float("nan"), 4]])
def test_boxes_without_pixels_are_refused(model, shapes, box):
    with pytest.raises(ValueError, match="boxes: expected x1 < x2"):
        model.masks_for(shapes / "images" / "val_0000.png", [box])


def test_wrong_pictures_are_refused(model):
    with pytest.raises(ValueError, match="uint8 RGB"):
        model.predict(np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(UserError, match="missing"):
        model.predict("nowhere.jpg")


@pytest.mark.parametrize(
    ("given", "got"),
    [(None, "NoneType"), (5, "int"), ([None], "NoneType"), (b"x", "bytes"), ({}, "dict")],
)
def test_what_is_no_picture_is_refused(model, given, got):
    with pytest.raises(TypeError, match=f"picture: expected a path, a PIL image or .* got {got}$"):
        model.predict(given)
    with pytest.raises(TypeError, match="picture: expected a path"):
        model.masks_for(given, [[1, 1, 9, 9]])


def test_a_model_must_be_trained_once(model, run):
    fresh = BoxMask("condinst-lite0", method="boxinst")
    with pytest.raises(UserError, match="not trained yet"):
        fresh.predict(np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(UserError, match="trained already"):
        model.train("anything")
    with pytest.raises(UserError, match="no such run"):
        BoxMask("nowhere")
    with pytest.raises(UserError, match="not trained yet"):
        BoxMask("solov2-lite0").masks_for(np.zeros((8, 8, 3), dtype=np.uint8), [])
    with pytest.raises(UserError, match="device"):
        BoxMask(run, device="abacus")


def test_public_names():
    assert set(boxmask.__all__) <= set(dir(boxmask))
    for name in boxmask.__all__:
        assert getattr(boxmask, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = boxmask.nothing


def test_importing_the_package_is_light():
    code = "import boxmask, sys; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert text.stdout.strip() == "[]"
