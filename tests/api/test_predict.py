"""`predict`: pictures, folders, patterns, videos."""

import json
from fractions import Fraction

import numpy as np
import pytest

import boxmask
from boxmask.api.video import VideoWriter, frame_rate, read_frames
from boxmask.data.masks import decode_segmentation
from boxmask.data.pictures import read_picture
from boxmask.errors import UserError


def predict(run, source, **options):
    options = {"threshold": 0.05, "workers": 0, "say": lambda line: None, **options}
    return boxmask.predict(run, source, **options)


def test_a_folder_becomes_drawings_and_coco_results(shapes, run, tmp_path):
    found = predict(run, shapes / "images", out=tmp_path / "out")
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found.num_pictures == len(images) == 6
    assert found.num_objects == len(results) > 0
    assert set(found.images_per_second) == {"model", "post-processing", "drawing"}
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    for entry in results:
        assert entry["category_id"] in (1, 2, 3)
        assert decode_segmentation(entry["segmentation"], sizes[entry["image_id"]]).shape
        assert all(value >= 0 for value in entry["bbox"])
    names = sorted(image["file_name"] for image in images)
    assert names == sorted(p.name for p in (shapes / "images").iterdir())
    for name in names:
        assert max(read_picture(tmp_path / "out" / name).shape) == 320  # of 64: names need room


def test_an_unreadable_picture_is_listed_and_the_rest_goes_on(own_shapes, run, tmp_path):
    (own_shapes / "images" / "broken.jpg").write_bytes(b"no picture")
    cut = own_shapes / "images" / "val_0000.png"
    cut.write_bytes(cut.read_bytes()[:400])
    said = []
    found = predict(run, own_shapes / "images", out=tmp_path / "out", say=said.append)
    assert found.num_pictures == 5
    assert len(found.unreadable) == 2
    assert "broken.jpg" in " ".join(said)
    assert "val_0000.png" in " ".join(said)


def test_one_picture_without_drawing(shapes, run, tmp_path):
    picture = shapes / "images" / "val_0001.png"
    predict(run, picture, out=tmp_path / "out", pictures=False)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["images.json", "results.json"]


def test_a_pattern(shapes, run, tmp_path):
    found = predict(run, str(shapes / "images" / "val_*.png"), out=tmp_path / "out")
    assert found.num_pictures == 2


def test_folders_are_numbered_and_kept(shapes, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = shapes / "images" / "val_0001.png"
    assert predict(run, source).dir.name == "val_0001-1"
    assert predict(run, source).dir.name == "val_0001-2"
    with pytest.raises(UserError, match="not empty"):
        predict(run, source, out="runs/predict/val_0001-2")


def write_video(path, num_frames=7, size=(49, 65), rate=Fraction(12)):
    random = np.random.default_rng(0)
    with VideoWriter(path, rate) as writer:
        for number in range(num_frames):
            frame = np.full((*size, 3), 30 * number, dtype=np.uint8)
            frame[10:30, 10:40] = random.integers(0, 255, 3)
            writer.write(frame)


def test_a_video_becomes_a_video(run, tmp_path):
    write_video(tmp_path / "film.mp4")
    found = predict(run, tmp_path / "film.mp4", out=tmp_path / "out", batch=3)
    frames = list(read_frames(tmp_path / "out" / "film.mp4"))
    assert found.num_pictures == len(frames) == 7
    assert frames[0].shape == (48, 64, 3)
    assert frame_rate(tmp_path / "out" / "film.mp4") == 12
    images = json.loads((tmp_path / "out" / "images.json").read_text())
    assert [image["frame"] for image in images] == list(range(7))


def test_a_broken_video_is_listed(run, tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"no video")
    found = predict(run, tmp_path / "film.mp4", out=tmp_path / "out")
    assert found.num_pictures == 0
    assert "film.mp4" in found.unreadable[0]
    assert not (tmp_path / "out" / "film.mp4").exists()


def test_nothing_to_search(run, tmp_path):
    with pytest.raises(UserError, match="no picture and no video"):
        predict(run, tmp_path)
    with pytest.raises(UserError, match="no such file"):
        predict(run, tmp_path / "nowhere.jpg")
    with pytest.raises(UserError, match="threshold"):
        predict(run, tmp_path, threshold=2)
