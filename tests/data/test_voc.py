from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from boxmask.data.folder import read_data
from boxmask.data.masks import decode_segmentation


@pytest.fixture
def classic(tmp_path, make_picture, make_voc_xml):
    """Two pictures, one a split, with masks for the first."""
    for name, objects in (("a", [("dog", 1, 1, 10, 20), ("cat", 11, 5, 40, 30)]), ("b", [])):
        make_picture(tmp_path / "JPEGImages" / f"{name}.jpg")
        make_voc_xml(tmp_path / "Annotations" / f"{name}.xml", objects, file_name="old name.jpg")
    for split, name in (("train", "a"), ("val", "b")):
        file = tmp_path / "ImageSets" / "Main" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}\n")
    values = np.zeros((30, 40), dtype=np.uint8)
    values[:20, :10] = 1
    values[4:30, 10:40] = 2
    (tmp_path / "SegmentationObject").mkdir()
    Image.fromarray(values).save(tmp_path / "SegmentationObject" / "a.png")
    return tmp_path


def texts(folder, level="error"):
    return [str(problem) for problem in folder.problems if problem.level == level]


def test_classic_layout(classic):
    folder = read_data(classic)
    assert (folder.format, folder.class_names) == ("voc", ("cat", "dog"))
    (record,) = folder.splits["train"].records
    assert record.name == "a.jpg"
    assert record.boxes.tolist() == [[0, 0, 10, 20], [10, 4, 40, 30]]
    assert record.labels.tolist() == [1, 0]
    assert record.annotation_ids == ("Annotations/a.xml:1", "Annotations/a.xml:2")
    assert len(folder.splits["val"].records[0]) == 0
    assert not folder.errors


def test_index_pictures_become_masks(classic):
    (record,) = read_data(classic).splits["train"].records
    for box, segmentation in zip(record.boxes, record.segmentations, strict=True):
        mask = decode_segmentation(segmentation, record.image_size)
        rows, columns = np.nonzero(mask)
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box.tolist()


def test_index_pictures_above_the_limit_of_pillow(classic, monkeypatch):
    (record,) = read_data(classic).splits["train"].records
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert decode_segmentation(record.segmentations[0], record.image_size).sum() == 200


def test_devkit_folder(classic):
    devkit = classic.parent / "devkit"
    devkit.mkdir()
    classic.rename(devkit / "VOC2012")
    assert list(read_data(devkit).splits) == ["train", "val"]


def test_without_lists_all_is_train(classic):
    for file in (classic / "ImageSets" / "Main").iterdir():
        file.unlink()
    assert len(read_data(classic).splits["train"].records) == 2


def test_folders_named_like_splits(tmp_path, make_picture, make_voc_xml):
    for split in ("train", "valid"):
        make_picture(tmp_path / split / "s" / "a.png")
        make_voc_xml(tmp_path / split / "s" / "a.xml", [("cat", 1, 1, 5, 5)])
    make_picture(tmp_path / "train" / "lost.png")
    folder = read_data(tmp_path)
    assert {name: split.records[0].name for name, split in folder.splits.items()} == {
        "train": "s/a.png",
        "val": "s/a.png",
    }
    assert any("1 pictures have no annotation file" in text for text in texts(folder, "warning"))


def test_class_list_fixes_order_and_finds_unknown_classes(classic):
    (classic / "labels.txt").write_text("dog\nbird\n")
    folder = read_data(classic)
    assert folder.class_names == ("dog", "bird")
    assert texts(folder) == [
        "Annotations/a.xml: object 2  class 'cat' is not among the data set's classes"
    ]


@pytest.mark.parametrize(
    ("corners", "what"),
    [
        ((5, 5, 4, 9), "zero width"),
        ((9, 5, 4, 9), "negative width"),
        (("x", 5, 4, 9), "no number"),
        (("nan", 5, 4, 9), "no number"),
        ((50, 5, 60, 9), "outside"),
    ],
)
def test_bad_objects(classic, make_voc_xml, corners, what):
    make_voc_xml(classic / "Annotations" / "a.xml", [("cat", *corners), ("cat", 1, 1, 9, 9)])
    folder = read_data(classic)
    (record,) = folder.splits["train"].records
    assert record.annotation_ids == ("Annotations/a.xml:2",)
    assert record.segmentations[0]["index"] == 2
    (error,) = texts(folder)
    assert "Annotations/a.xml: object 1" in error
    assert what in error


def test_object_without_box(classic):
    text = "<annotation><object><name>cat</name></object></annotation>"
    (classic / "Annotations" / "b.xml").write_text(text)
    assert "object has no bndbox" in texts(read_data(classic))[0]


def test_broken_xml_has_line_and_column(classic):
    (classic / "Annotations" / "b.xml").write_text("<annotation>\n<object>")
    (error,) = texts(read_data(classic))
    assert error.startswith("Annotations/b.xml:2:9  file is no XML")


def test_missing_files(classic):
    (classic / "JPEGImages" / "a.jpg").unlink()
    (classic / "ImageSets" / "Main" / "val.txt").write_text("b\nnone\n")
    first, second = texts(read_data(classic))
    assert "Annotations/none.xml  annotation file is missing" in first
    assert "Annotations/a.xml  picture file is missing; its 2 boxes" in second


def test_wrong_size_is_a_warning(classic, make_voc_xml):
    make_voc_xml(classic / "Annotations" / "b.xml", [], size=(40, 30))
    folder = read_data(classic)
    assert folder.splits["val"].records[0].image_size == (30, 40)
    assert any("size is given as 30 x 40" in text for text in texts(folder, "warning"))


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        ("annotations", "images"),
        ("annotations", "jpegimages"),
        ("annotations", "JPEGImages"),
        ("Annotations", "Images"),
        ("ANNOTATIONS", "JpegImages"),
    ],
)
@pytest.mark.parametrize("with_lists", [True, False])
def test_folders_in_any_case(classic, annotations, pictures, with_lists):
    (classic / "Annotations").rename(classic / annotations)
    (classic / "JPEGImages").rename(classic / pictures)
    (classic / "SegmentationObject").rename(classic / "segmentationobject")
    (classic / "ImageSets").rename(classic / ("imagesets" if with_lists else "other"))
    folder = read_data(classic)
    assert folder.format == "voc"
    assert list(folder.splits) == (["train", "val"] if with_lists else ["train"])
    assert folder.splits["train"].records[0].segmentations[0]["index"] == 1
    assert not folder.errors


def test_split_folders_with_lower_case_folders(tmp_path, make_picture, make_voc_xml):
    (tmp_path / "annotations").mkdir()  # of something else
    (tmp_path / "annotations" / "notes.json").write_text("{}")
    for split in ("train", "val"):
        make_picture(tmp_path / split / "images" / "a.png")
        make_voc_xml(tmp_path / split / "annotations" / "a.xml", [("cat", 1, 1, 5, 5)])
    folder = read_data(tmp_path)
    assert {name: len(split.records) for name, split in folder.splits.items()} == {
        "train": 1,
        "val": 1,
    }


@pytest.mark.parametrize(("xml", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("by_stem", [True, False])
def test_umlauts_in_either_form(tmp_path, make_picture, make_voc_xml, xml, disk, by_stem):
    in_xml, on_disk = normalize(xml, "Käfer"), normalize(disk, "Käfer")
    make_picture(tmp_path / "JPEGImages" / f"{on_disk}.png")
    stem = in_xml if by_stem else "1"
    file = tmp_path / "Annotations" / f"{stem}.xml"
    make_voc_xml(file, [("cat", 1, 1, 5, 5)], file_name=f"{in_xml}.png")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text(normalize(disk, stem), encoding="utf-8")
    folder = read_data(tmp_path)
    assert not folder.errors
    assert len(folder.splits["train"].records[0]) == 1
