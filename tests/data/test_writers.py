import json

import numpy as np
import pytest
from PIL import Image

from boxmask.data.coco_writer import write_coco
from boxmask.data.folder import read_data
from boxmask.data.labels import LabelledRecord, WriteReport
from boxmask.data.masks import decode_segmentation, encode_mask
from boxmask.data.output_files import FreeNames, link_picture
from boxmask.data.voc_writer import voc_palette, write_voc
from boxmask.data.yolo_writer import write_yolo
from boxmask.errors import UserError

WRITERS = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc}
CROWD = {"size": [30, 40], "counts": [600, 200, 400]}


def mask_in_box(box, size, kind):
    """A mask inside the box: full, with a hole, in two parts, or empty."""
    mask = np.zeros(size, dtype=bool)
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    if kind != "empty":
        mask[y1:y2, x1:x2] = True
    if kind == "hole":
        mask[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] = False
    if kind == "parts":
        mask[:, (x1 + x2) // 2] = False
    return mask


def label(record, kinds=("full",)):
    masks = [
        encode_mask(mask_in_box(box, record.image_size, kinds[k % len(kinds)]))
        for k, box in enumerate(record.boxes)
    ]
    confidences = tuple(0.25 + 0.5 * k / len(masks) for k in range(len(masks)))
    return LabelledRecord(record=record, masks=tuple(masks), confidences=confidences)


def write_all(name, out, folder, kinds=("full",)):
    """Writes every split and reads the result; also the reports by split."""
    reports = {}
    for split in folder.splits.values():
        target = out / f"{split.name}.json" if name == "coco" else out
        labelled = (label(record, kinds) for record in split.records)
        reports[split.name] = WRITERS[name](target, split, folder, labelled)
    return read_data(out), reports


@pytest.fixture
def coco_folder(tmp_path, make_picture, make_coco, annotation):
    """Sub-folders, unicode, a turned picture, fractions, a crowd, a bad box; train and val."""
    root = tmp_path / "source"
    make_picture(root / "images" / "süß" / "a b.png")
    make_picture(root / "images" / "b.jpg", (40, 30), orientation=6)
    make_picture(root / "images" / "empty.png")
    make_picture(root / "images" / "v.png")
    images = [
        {"id": 7, "file_name": "süß/a b.png", "width": 40, "height": 30, "license": 2},
        {"id": 3, "file_name": "b.jpg", "width": 40, "height": 30},
        {"id": 5, "file_name": "empty.png", "width": 40, "height": 30},
    ]
    boxes = [
        annotation(11, 7, (2, 3, 12, 20), 9, note="keep"),
        annotation(4, 7, (1.3, 2.7, 20.1, 15.2), 0),
        annotation(5, 7, (0, 5, 40, 20), 0, iscrowd=1, segmentation=CROWD),
        annotation(6, 7, (1, 1, 0, 5), 0, segmentation="bad"),
        annotation(8, 3, (10, 10, 15, 20), 9, segmentation=[[1, 1, 5, 1, 5, 5]]),
    ]
    categories = [{"id": 9, "name": "Käfer"}, {"id": 0, "name": "b & <c>"}]
    make_coco(root / "train.json", images, boxes, categories, info={"year": 2020}, extra=[1])
    val = [{"id": 1, "file_name": "v.png", "width": 40, "height": 30}]
    make_coco(root / "val.json", val, [annotation(1, 1, (1, 1, 9, 9), 9)], categories)
    return read_data(root)


def by_name(folder, split):
    return {record.name: record for record in folder.splits[split].records}


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip_keeps_boxes_classes_and_counts(tmp_path, coco_folder, name):
    again, _ = write_all(name, tmp_path / "out", coco_folder)
    assert again.format == name
    assert again.class_names == coco_folder.class_names
    assert list(again.splits) == ["train", "val"]
    for split in ("train", "val"):
        before, after = by_name(coco_folder, split), by_name(again, split)
        assert before.keys() == after.keys()
        for key, record in before.items():
            assert after[key].path.samefile(record.path)
            assert after[key].image_size == record.image_size
            assert np.allclose(after[key].boxes, record.boxes, atol=1e-5)
            assert np.array_equal(after[key].labels, record.labels)
            assert np.array_equal(after[key].crowd, record.crowd)
    if name != "coco":
        assert not again.errors


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip_keeps_ids(tmp_path, coco_folder, name):
    again, _ = write_all(name, tmp_path / "out", coco_folder)
    before, after = by_name(coco_folder, "train"), by_name(again, "train")
    assert [after[n].annotation_ids for n in before] == [r.annotation_ids for r in before.values()]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kind", ["full", "hole", "parts"])
def test_round_trip_keeps_masks(tmp_path, one_picture_coco, annotation, name, kind):
    boxes = [annotation(1, 1, (2, 3, 12, 20)), annotation(2, 1, (20, 3, 13, 11))]
    folder = read_data(one_picture_coco(boxes))
    (given,) = (label(record, (kind,)) for record in folder.splits["train"].records)
    again, reports = write_all(name, tmp_path / "out", folder, (kind,))
    (record,) = again.splits["train"].records
    for k in range(2):
        mask = decode_segmentation(record.segmentations[k], record.image_size)
        assert np.array_equal(mask, given.decode(k))
    assert reports["train"].min_iou == reports["train"].mean_iou == 1.0
    assert (reports["train"].num_pictures, reports["train"].num_objects) == (1, 2)


def test_coco_source_is_kept(tmp_path, coco_folder):
    write_all("coco", tmp_path / "out", coco_folder)
    source = json.loads((tmp_path / "source" / "train.json").read_text())
    written = json.loads((tmp_path / "out" / "train.json").read_text())
    assert {key: written[key] for key in source if key != "annotations"} == {
        key: source[key] for key in source if key != "annotations"
    }
    for before, after in zip(source["annotations"], written["annotations"], strict=True):
        if before["id"] in (5, 6):  # the crowd, and the box that was left out
            assert after == before
            continue
        assert set(after) - set(before) <= {"segmentation", "area", "score"}
        assert {k: after[k] for k in before if k != "segmentation"} == {
            k: before[k] for k in before if k != "segmentation"
        }
        mask = decode_segmentation(after["segmentation"], tuple(after["segmentation"]["size"]))
        assert after["area"] == mask.sum() > 0
        assert 0 < after["score"] < 1


def test_coco_writes_crowd_marks_that_other_tools_understand(
    tmp_path, one_picture_coco, annotation
):
    folder = read_data(one_picture_coco([annotation(1, 1, (1, 2, 10, 20), iscrowd="0")]))
    write_all("coco", tmp_path / "out", folder)
    (entry,) = json.loads((tmp_path / "out" / "train.json").read_text())["annotations"]
    assert entry["iscrowd"] == 0


def test_coco_of_a_split_put_aside_holds_its_own_pictures(tmp_path, make_picture, make_coco):
    for k in range(12):
        make_picture(tmp_path / "images" / f"{k}.png")
    images = [{"id": k, "file_name": f"{k}.png"} for k in range(12)]
    make_coco(tmp_path / "all.json", images, [])
    folder = read_data(tmp_path, val_fraction=0.4)
    again, _ = write_all("coco", tmp_path / "out", folder)
    for split in ("train", "val"):
        assert by_name(again, split).keys() == by_name(folder, split).keys()


def test_new_coco_file_from_yolo(tmp_path, coco_folder):
    yolo, _ = write_all("yolo", tmp_path / "yolo", coco_folder)
    again, _ = write_all("coco", tmp_path / "coco", yolo)
    content = json.loads((tmp_path / "coco" / "train.json").read_text())
    assert {entry["id"] for entry in content["annotations"]} == {11, 4, 5, 8}
    (first,) = (entry for entry in content["annotations"] if entry["id"] == 11)
    assert first["bbox"] == pytest.approx([2, 3, 12, 20])
    for name, record in by_name(coco_folder, "train").items():
        assert np.allclose(by_name(again, "train")[name].boxes, record.boxes, atol=1e-5)


def test_voc_source_is_copied(tmp_path, make_picture, make_voc_xml):
    root = tmp_path / "source"
    make_picture(root / "JPEGImages" / "a.jpg")
    objects = [("cat", 5, 5, 4, 9), ("cat", 1, 1, 9, 9), ("dog", 3, 3, 20, 20)]
    xml = make_voc_xml(root / "Annotations" / "a.xml", objects)
    folder = read_data(root)
    again, reports = write_all("voc", tmp_path / "out", folder)
    assert (tmp_path / "out" / "Annotations" / "a.xml").read_bytes() == xml.read_bytes()
    (before,) = folder.splits["train"].records
    (after,) = again.splits["train"].records
    assert before.annotation_ids == after.annotation_ids
    values = np.array(Image.open(tmp_path / "out" / "SegmentationObject" / "a.png"))
    assert set(np.unique(values)) == {0, 2, 3}
    assert values[5, 5] == 2  # the smaller one is on top
    full, hidden = 18 * 18, 7 * 7
    assert reports["train"].ious == [1.0, (full - hidden) / full]


def test_voc_pictures_have_its_colours(tmp_path, coco_folder):
    write_all("voc", tmp_path / "out", coco_folder)
    image = Image.open(tmp_path / "out" / "SegmentationClass" / "süß" / "a b.png")
    assert image.mode == "P"
    assert image.getpalette()[: 3 * 3] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    values = np.array(image)
    assert set(np.unique(values)) == {0, 1, 2, 255}
    assert voc_palette()[15 * 3 : 16 * 3] == [192, 128, 128]


def test_voc_with_more_objects_than_a_palette_holds(tmp_path, one_picture_coco, annotation):
    boxes = [annotation(k, 1, (k % 38, k // 38, 2, 2)) for k in range(300)]
    again, _ = write_all("voc", tmp_path / "out", read_data(one_picture_coco(boxes)))
    (record,) = again.splits["train"].records
    mask = decode_segmentation(record.segmentations[299], record.image_size)
    assert mask.sum() == 4


def test_yolo_keeps_crowds_and_notes_empty_masks(tmp_path, coco_folder):
    again, reports = write_all("yolo", tmp_path / "out", coco_folder, ("empty",))
    record = by_name(again, "train")["süß/a b.png"]
    crowd = decode_segmentation(record.segmentations[2], record.image_size)
    assert np.array_equal(crowd, decode_segmentation(CROWD, (30, 40)))
    assert reports["train"].ious == [0.0, 0.0, 1.0, 0.0]
    assert len(record) == 3


def test_yolo_without_box_files_is_a_plain_data_set(tmp_path, coco_folder):
    out = tmp_path / "out"
    write_all("yolo", out, coco_folder)
    for file in (out / "boxes").rglob("*.txt"):
        file.unlink()
    again = read_data(out)
    assert not again.errors
    record = by_name(again, "train")["b.jpg"]
    assert record.boxes.tolist() == [[10, 10, 25, 30]]


def test_yolo_box_file_that_does_not_fit_is_left_out(tmp_path, coco_folder):
    out = tmp_path / "out"
    write_all("yolo", out, coco_folder)
    file = out / "labels" / "train" / "b.txt"
    file.write_text("1 0.5 0.5 0.5 0.5\n1 0.4 0.4 0.2 0.2\n")
    again = read_data(out)
    assert len(by_name(again, "train")["b.jpg"]) == 2
    assert any("does not fit" in problem.what for problem in again.problems)


def test_yolo_refuses_a_folder_of_other_classes(tmp_path, coco_folder):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data.yaml").write_text("names: [x]")
    with pytest.raises(UserError, match="other classes"):
        write_all("yolo", tmp_path / "out", coco_folder)


@pytest.mark.parametrize("name", ["yolo", "voc"])
def test_equal_stems_do_not_collide(tmp_path, make_picture, make_coco, annotation, name):
    for k, ending in enumerate(("jpg", "png")):
        make_picture(tmp_path / "s" / "images" / f"a.{ending}", (30, 40 + k))
    images = [{"id": k, "file_name": f"a.{e}"} for k, e in enumerate(("jpg", "png"))]
    boxes = [annotation(k, k, (1, 1, 5 + k, 5)) for k in range(2)]
    make_coco(tmp_path / "s" / "train.json", images, boxes)
    again, _ = write_all(name, tmp_path / "out", read_data(tmp_path / "s"))
    widths = {r.path.resolve().name: r.boxes[0, 2] for r in again.splits["train"].records}
    assert widths == {"a.jpg": 6, "a.png": 7}


@pytest.mark.parametrize("name", WRITERS)
def test_writing_over_the_source_is_refused(tmp_path, coco_folder, name):
    with pytest.raises(UserError, match="over itself"):
        write_all(name, tmp_path / "source", coco_folder)


@pytest.mark.parametrize("name", WRITERS)
def test_writing_twice_gives_the_same(tmp_path, coco_folder, name):
    first, _ = write_all(name, tmp_path / "out", coco_folder)
    second, _ = write_all(name, tmp_path / "out", coco_folder)
    assert by_name(first, "train").keys() == by_name(second, "train").keys()
    assert not list((tmp_path / "out").rglob("*.part"))


def test_a_users_file_is_never_replaced_by_a_link(tmp_path, make_picture):
    mine = make_picture(tmp_path / "mine.png", (5, 6))
    other = make_picture(tmp_path / "other.png", (7, 8))
    before = mine.read_bytes()
    with pytest.raises(UserError, match="another file"):
        link_picture(other, mine)
    assert mine.read_bytes() == before


def test_free_names():
    names = FreeNames(["taken"])
    given = ["a.jpg", "a.png", "A.png", "taken.jpg", "s/a.jpg", "plain", ".x.png"]
    expected = ["a.jpg", "a.png.png", "A.png.png.png", "taken.jpg.jpg", "s/a.jpg"]
    assert [names.take(name) for name in given] == [*expected, "plain.jpg", "_.x.png"]


def test_labelled_record_checks_its_lengths(coco_folder):
    record = coco_folder.splits["val"].records[0]
    with pytest.raises(ValueError, match="masks: expected one for each of 1"):
        LabelledRecord(record=record, masks=(), confidences=(0.5,))
    wrong = encode_mask(np.zeros((3, 3), dtype=bool))
    with pytest.raises(ValueError, match="expected the size"):
        LabelledRecord(record=record, masks=(wrong,), confidences=(0.5,))


def test_empty_report():
    assert (WriteReport().mean_iou, WriteReport().min_iou) == (1.0, 1.0)


@pytest.mark.parametrize("name", ["yolo", "voc"])
def test_each_picture_is_written_before_the_next_is_asked_for(tmp_path, coco_folder, name):
    split = coco_folder.splits["train"]
    folder = tmp_path / "out" / {"yolo": "labels/train", "voc": "Annotations"}[name]

    def labelled():
        for k, record in enumerate(split.records):
            assert len([file for file in folder.rglob("*") if file.is_file()]) == k
            yield label(record)

    WRITERS[name](tmp_path / "out", split, coco_folder, labelled())
