import json
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

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


def kept_by(name, record):
    """Positions of the objects that a format has a place for."""
    return np.flatnonzero(~record.crowd if name == "yolo" else record.crowd >= 0)


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
            kept = kept_by(name, record)
            assert np.allclose(after[key].boxes, record.boxes[kept], atol=1e-5)
            assert np.array_equal(after[key].labels, record.labels[kept])
            assert np.array_equal(after[key].crowd, record.crowd[kept])
    assert not again.errors


@pytest.mark.parametrize("name", WRITERS)
def test_round_trip_keeps_ids(tmp_path, coco_folder, name):
    again, _ = write_all(name, tmp_path / "out", coco_folder)
    before, after = by_name(coco_folder, "train"), by_name(again, "train")
    for key, record in before.items():
        kept = [record.annotation_ids[k] for k in kept_by(name, record)]
        assert [*after[key].annotation_ids] == kept


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
    kept = [entry for entry in source["annotations"] if entry["id"] != 6]  # it has no width
    for before, after in zip(kept, written["annotations"], strict=True):
        if before["id"] == 5:  # the crowd
            assert after == {**before, "area": 200}
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


@pytest.fixture
def spoilt_coco(tmp_path, make_picture, make_coco, annotation):
    """Everything that reading leaves out, around one good picture with one good box."""
    root = tmp_path / "source"
    make_picture(root / "images" / "a.png")
    make_picture(root / "images" / "b.png")
    (root / "images" / "broken.png").write_bytes(b"no picture")
    images = [
        {"id": 1, "file_name": "a.png", "width": 40, "height": 30, "license": 2, "mine": [1]},
        {"id": 2, "width": 40, "height": 30},
        {"id": 2, "file_name": "b.png", "width": 40, "height": 30},
        {"file_name": "no id.png"},
        {"id": 1, "file_name": "twice.png"},
        {"id": 3, "file_name": "missing.png", "width": 40, "height": 30},
        {"id": 4, "file_name": "broken.png", "width": 40, "height": 30},
        {"id": 5, "file_name": "a.png"},
    ]
    good = annotation(1, 1, (2, 3, 12, 20), note="keep", area=7)
    annotations = [
        good,
        annotation(2, 1, (float("nan"), 3, 12, 20)),
        annotation(1, 1, (2, 3, 12, 20), note="twice"),
        {key: value for key, value in good.items() if key != "id"},
        annotation(4, 3, (2, 3, 12, 20)),
        annotation(5, 4, (2, 3, 12, 20)),
        annotation(6, 1, (2, 3, 12, 20), category_id=8),
        {"id": 7, "image_id": 1, "category_id": 1, "iscrowd": 0},
        annotation(8, 1, (0, 5, 40, 20), iscrowd=1, segmentation=CROWD, note="crowd"),
        annotation(9, 1, (0, 5, 40, 20), iscrowd=1),
        {"id": 10, "image_id": 2, "category_id": 1, "bbox": [1, 1, 4, 5]},
        annotation(11, 99, (2, 3, 12, 20)),
    ]
    categories = [{"id": 1, "name": "cat", "mine": 3}, {"name": "no id"}, {"id": 1, "name": "x"}]
    licences = [{"id": 2, "name": "free"}]
    make_coco(
        root / "train.json", images, annotations, categories, licenses=licences, info={"y": 1}
    )
    return read_data(root)


def test_coco_source_loses_what_was_left_out_alone(tmp_path, spoilt_coco):
    again, _ = write_all("coco", tmp_path / "out", spoilt_coco)
    source = json.loads((tmp_path / "source" / "train.json").read_text())
    text = (tmp_path / "out" / "train.json").read_text()
    written = json.loads(text, parse_constant=pytest.fail)
    assert not again.errors
    assert written["images"] == [source["images"][0], source["images"][2]]
    assert written["categories"] == source["categories"][:1]
    assert (written["info"], written["licenses"]) == (source["info"], source["licenses"])
    first, crowd, bare_crowd, plain = written["annotations"]
    assert [entry["id"] for entry in written["annotations"]] == [1, 8, 9, 10]
    assert (first["note"], first["area"]) == ("keep", 12 * 20)
    assert crowd == {**source["annotations"][8], "area": 200}
    assert decode_segmentation(bare_crowd["segmentation"], (30, 40)).sum() == 40 * 20
    assert "score" not in bare_crowd
    assert (plain["iscrowd"], plain["bbox"]) == (0, [1, 1, 4, 5])


def test_pycocotools_and_supervision_open_what_is_left(tmp_path, spoilt_coco):
    write_all("coco", tmp_path / "out", spoilt_coco)
    file = tmp_path / "out" / "train.json"
    truth = COCO(file)
    for entry in truth.loadAnns(truth.getAnnIds()):
        assert truth.annToMask(entry).any()
    found = [entry for entry in truth.loadAnns(truth.getAnnIds()) if "score" in entry]
    evaluation = COCOeval(truth, truth.loadRes([dict(entry) for entry in found]), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    opened = sv.DetectionDataset.from_coco(
        str(tmp_path / "source" / "images"), str(file), force_masks=True
    )
    assert sorted(len(detections) for _, _, detections in opened) == [1, 3]


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
    assert {entry["id"] for entry in content["annotations"]} == {11, 4, 8}
    (first,) = (entry for entry in content["annotations"] if entry["id"] == 11)
    assert first["bbox"] == pytest.approx([2, 3, 12, 20])
    for name, record in by_name(coco_folder, "train").items():
        kept = kept_by("yolo", record)
        assert np.allclose(by_name(again, "train")[name].boxes, record.boxes[kept], atol=1e-5)


def test_voc_source_is_copied(tmp_path, make_picture, make_voc_xml):
    root = tmp_path / "source"
    make_picture(root / "JPEGImages" / "a.jpg")
    objects = [("cat", 1, 1, 9, 9), ("dog", 3, 3, 20, 20)]
    xml = make_voc_xml(root / "Annotations" / "a.xml", objects)
    folder = read_data(root)
    again, reports = write_all("voc", tmp_path / "out", folder)
    assert (tmp_path / "out" / "Annotations" / "a.xml").read_bytes() == xml.read_bytes()
    (before,) = folder.splits["train"].records
    (after,) = again.splits["train"].records
    assert before.annotation_ids == after.annotation_ids
    values = np.array(Image.open(tmp_path / "out" / "SegmentationObject" / "a.png"))
    assert set(np.unique(values)) == {0, 1, 2}
    assert values[5, 5] == 1  # the smaller one is on top
    full, hidden = 18 * 18, 7 * 7
    assert reports["train"].ious == [1.0, (full - hidden) / full]


def test_voc_source_loses_what_was_left_out_alone(tmp_path, make_picture, make_voc_xml):
    root = tmp_path / "source"
    make_picture(root / "JPEGImages" / "a.jpg")
    objects = [
        ("cat", 5, 5, 4, 9),
        ("cat", 1, 1, 9, 9),
        ("dog", "nan", 3, 9, 9),
        ("ü", 3, 3, 20, 20),
    ]
    xml = make_voc_xml(root / "Annotations" / "a.xml", objects)
    text = xml.read_text(encoding="utf-8").replace("<size>", "<!-- mine --><owner>me</owner><size>")
    xml.write_text(text, encoding="utf-8")
    folder = read_data(root)
    again, _ = write_all("voc", tmp_path / "out", folder)
    assert len(folder.errors) == 2
    assert not again.errors
    written = ElementTree.parse(tmp_path / "out" / "Annotations" / "a.xml").getroot()
    assert written.findtext("owner") == "me"
    assert [node.findtext("name") for node in written.findall("object")] == ["cat", "ü"]
    values = np.array(Image.open(tmp_path / "out" / "SegmentationObject" / "a.png"))
    assert set(np.unique(values)) == {0, 1, 2}  # the k-th object of the new file has value k
    (before,) = folder.splits["train"].records
    (after,) = again.splits["train"].records
    assert after.annotation_ids == before.annotation_ids
    for position, segmentation in enumerate(after.segmentations):
        mask = decode_segmentation(segmentation, after.image_size)
        assert mask[values == position + 1].all()


def test_a_crowd_is_difficult_in_voc(tmp_path, coco_folder):
    write_all("voc", tmp_path / "out", coco_folder)
    root = ElementTree.parse(tmp_path / "out" / "Annotations" / "süß" / "a b.xml").getroot()
    marks = [(n.findtext("difficult"), n.findtext("crowd")) for n in root.findall("object")]
    assert marks == [("0", "0"), ("0", "0"), ("1", "1")]


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


def test_yolo_leaves_crowds_out_and_notes_empty_masks(tmp_path, coco_folder):
    again, reports = write_all("yolo", tmp_path / "out", coco_folder, ("empty",))
    record = by_name(again, "train")["süß/a b.png"]
    assert record.annotation_ids == (11, 4)
    assert reports["train"].ious == [0.0, 0.0, 0.0]
    assert reports["train"].num_crowds_left_out == 1
    assert reports["val"].num_crowds_left_out == 0
    lines = (tmp_path / "out" / "labels" / "train" / "süß" / "a b.txt").read_text().splitlines()
    assert len(lines) == 2


def blob(size, seed):
    """A ragged part of a few pixels to a few hundred, with a hole or none."""
    random = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(random.random(size), (0, 0), 2 + seed % 3)
    mask = (noise > np.quantile(noise, random.uniform(0.5, 0.9))).astype(np.uint8)
    _, parts, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    return parts == 1 + np.argmax(facts[1:, cv2.CC_STAT_AREA])


@pytest.mark.parametrize("seed", range(6))
def test_other_yolo_readers_get_the_mask(tmp_path, one_picture_coco, annotation, seed):
    mask = blob((30, 40), seed)
    folder = read_data(one_picture_coco([annotation(1, 1, (0, 0, 40, 30))]))
    (record,) = folder.splits["train"].records
    item = LabelledRecord(record=record, masks=(encode_mask(mask),), confidences=(1.0,))
    out = tmp_path / "out"
    write_yolo(out, folder.splits["train"], folder, [item])
    detections = sv.DetectionDataset.from_yolo(
        str(out / "images" / "train"), str(out / "labels" / "train"), str(out / "data.yaml")
    )
    ((_, _, found),) = list(detections)
    assert np.array_equal(found.mask[0], mask)
    words = (out / "labels" / "train" / "a.txt").read_text().split()[1:]
    points = np.array(words, dtype=np.float32).reshape(-1, 2) * np.float32([40, 30])
    cut = np.zeros((30, 40), dtype=np.uint8)
    cv2.fillPoly(cut, [points.astype(np.int32)], 1)  # as ultralytics does
    assert np.array_equal(cut.astype(bool), mask)
    (again,) = read_data(out / "data.yaml").splits["train"].records
    assert np.array_equal(decode_segmentation(again.segmentations[0], (30, 40)), mask)


def test_yolo_polygons_of_other_tools_and_of_older_box_files_stay(tmp_path, coco_folder):
    out = tmp_path / "out"
    write_all("yolo", out, coco_folder)
    line = "0 0.25 0.2 0.5 0.2 0.5 0.6 0.25 0.6"
    (out / "labels" / "train" / "b.txt").write_text(f"{line}\n")
    boxes = out / "boxes" / "train" / "b.txt"
    header, _, row = boxes.read_text().partition("\n")
    boxes.write_text(f"{header.replace('boxes 2', 'boxes 1')}\n0{row[1:]}")
    older = by_name(read_data(out), "train")["b.jpg"]
    boxes.unlink()
    foreign = by_name(read_data(out), "train")["b.jpg"]
    assert older.annotation_ids == (8,)
    assert older.segmentations == foreign.segmentations == ([[10, 6, 20, 6, 20, 18, 10, 18]],)


def test_yolo_without_box_files_is_a_plain_data_set(tmp_path, coco_folder):
    out = tmp_path / "out"
    write_all("yolo", out, coco_folder)
    for file in (out / "boxes").rglob("*.txt"):
        file.unlink()
    again = read_data(out)
    assert not again.errors
    record = by_name(again, "train")["b.jpg"]
    assert np.abs(record.boxes - [[10, 10, 25, 30]]).max() < 0.52  # the polygon's own extent


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
