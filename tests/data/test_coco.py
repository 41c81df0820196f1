import json
from unicodedata import normalize

import pytest

from boxmask.data.coco import read_coco
from boxmask.data.coco_pictures import safe_name
from boxmask.data.folder import read_data
from boxmask.errors import UserError


def only_record(folder):
    (record,) = folder.splits["train"].records
    return record


def errors(folder):
    return [f"{problem.where}  {problem.what}" for problem in folder.errors]


def warnings(folder):
    return [f"{p.where}  {p.what}" for p in folder.problems if p.level == "warning"]


@pytest.mark.parametrize("segmentation", [None, [], 0, [[]], "absent"])
def test_boxes_need_no_segmentation(one_picture_coco, annotation, segmentation):
    more = {} if segmentation == "absent" else {"segmentation": segmentation}
    folder = read_data(one_picture_coco([annotation(5, 1, (1, 2, 10, 20), **more)]).parent)
    record = only_record(folder)
    assert record.boxes.tolist() == [[1, 2, 11, 22]]
    assert record.annotation_ids == (5,)
    assert record.segmentations == (None,)
    assert not folder.errors


def test_segmentation_is_passed_on_undecoded(one_picture_coco, annotation):
    polygons = [[1, 1, 5, 1, 5, 5]]
    broken = {"size": "nonsense"}
    path = one_picture_coco(
        [
            annotation(1, 1, (1, 1, 4, 4), segmentation=polygons),
            annotation(2, 1, (1, 1, 4, 5), segmentation=broken, iscrowd=1),
        ]
    )
    record = only_record(read_data(path.parent))
    assert record.segmentations == (polygons, broken)
    assert record.crowd.tolist() == [False, True]


def test_ids_may_be_unordered_and_zero(one_picture_coco, annotation):
    categories = [{"id": 9, "name": "ž"}, {"id": 0, "name": "b"}, {"id": 4, "name": "c"}]
    path = one_picture_coco(
        [annotation(70, 1, (1, 1, 4, 4), 9), annotation(3, 1, (1, 1, 5, 4), 0)],
        categories=categories,
    )
    folder = read_data(path)
    assert folder.class_names == ("b", "c", "ž")
    assert folder.category_ids == (0, 4, 9)
    assert only_record(folder).labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"bbox": [1, 1, 0, 5]}, "zero width"),
        ({"bbox": [1, 1, 5, -2]}, "negative height"),
        ({"bbox": [float("nan"), 1, 5, 5]}, "no number"),
        ({"bbox": [50, 1, 5, 5]}, "outside the picture"),
        ({"bbox": [1, 1, 5]}, "bbox is"),
        ({"bbox": ["1", 1, 5, 5]}, "no number"),
        ({"bbox": None}, "bbox is missing"),
        ({"bbox": [10**400, 1, 5, 5]}, "no number"),
        ({"category_id": 8}, "class 8"),
        ({"category_id": [1]}, "class [1]"),
        ({"image_id": 8}, "image 8"),
        ({"id": 1}, "used twice"),
    ],
)
def test_bad_annotations_are_left_out_and_named(one_picture_coco, annotation, change, what):
    good = annotation(1, 1, (2, 2, 9, 9))
    folder = read_data(one_picture_coco([good, annotation(2, 1, (1, 1, 5, 5)) | change]))
    assert only_record(folder).annotation_ids == (1,)
    (error,) = errors(folder)
    assert what in error
    assert f"train.json: annotation {change.get('id', 2)}" in error


def test_entries_that_are_no_objects(one_picture_coco):
    folder = read_data(one_picture_coco([7, None, {"no": "id"}, []]))
    assert len(folder.errors) == 4
    assert "annotations[2]" in errors(folder)[2]


def test_bad_images_are_left_out_with_their_boxes(tmp_path, make_picture, make_coco, annotation):
    make_picture(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "broken.png").write_text("x")
    images = [
        {"id": 1, "file_name": "a.png"},
        {"id": 1, "file_name": "b.png"},
        {"id": 2, "file_name": "a.png"},
        {"id": 3, "file_name": "missing.png"},
        {"id": 4, "file_name": "broken.png"},
        {"id": 5},
        "text",
    ]
    boxes = [annotation(k, k, (1, 1, 5, 5)) for k in (1, 3, 4)]
    folder = read_data(make_coco(tmp_path / "train.json", images, boxes))
    assert only_record(folder).annotation_ids == (1,)
    text = "\n".join(errors(folder))
    for part in ("id 1 is used twice", "listed twice", "missing.png: picture file is missing"):
        assert part in text
    for part in ("broken.png: picture cannot be read", "image 5 has no file_name", "images[6]"):
        assert part in text


def test_partly_outside_is_clipped_with_a_warning(one_picture_coco, annotation):
    folder = read_data(one_picture_coco([annotation(1, 1, (30, 20, 20, 20))]))
    assert only_record(folder).boxes.tolist() == [[30, 20, 40, 30]]
    assert any("annotation 1" in text and "clipped" in text for text in warnings(folder))


def test_size_of_the_file_counts(tmp_path, make_picture, make_coco):
    make_picture(tmp_path / "images" / "a.jpg", (30, 40), orientation=6)
    make_picture(tmp_path / "images" / "b.jpg", (30, 40))
    images = [
        {"id": k, "file_name": f"{n}.jpg", "width": 40, "height": 30 + 5 * (k - 1)}
        for k, n in enumerate("ab", start=1)
    ]
    folder = read_data(make_coco(tmp_path / "train.json", images, []))
    assert [r.image_size for r in folder.splits["train"].records] == [(40, 30), (30, 40)]
    turned, other = (text for text in warnings(folder) if "size is given" in text)
    assert "EXIF" in turned
    assert "EXIF" not in other


@pytest.mark.parametrize("content", ["", "not json", '{"images": [', "[1, 2]", '{"images": {}}'])
def test_unreadable_file_is_a_user_error(tmp_path, content):
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(UserError, match=r"train\.json"):
        read_data(tmp_path)


def test_json_error_has_line_and_column(tmp_path):
    (tmp_path / "train.json").write_text('{"images": [],\n  "annotations": [}')
    with pytest.raises(UserError, match=r"train\.json:2:19"):
        read_data(tmp_path)


def test_no_picture_found_says_where_it_looked(tmp_path, make_coco):
    path = make_coco(tmp_path / "train.json", [{"id": 1, "file_name": "a.png"}], [])
    with pytest.raises(UserError, match="Looked in"):
        read_coco(path)


def test_classes_of_splits_are_matched_by_name(tmp_path, make_picture, make_coco, annotation):
    make_picture(tmp_path / "images" / "a.png")
    make_picture(tmp_path / "images" / "b.png")
    for split, name, ids in (("train", "a", (1, 2)), ("val", "b", (2, 1))):
        categories = [{"id": ids[0], "name": "cat"}, {"id": ids[1], "name": "dog"}]
        boxes = [annotation(1, 1, (1, 1, 5, 5), ids[0])]
        image = {"id": 1, "file_name": f"{name}.png"}
        make_coco(tmp_path / f"{split}.json", [image], boxes, categories)
    folder = read_data(tmp_path)
    assert folder.class_names == ("cat", "dog")
    for split in ("train", "val"):
        assert folder.splits[split].records[0].labels.tolist() == [0]


def test_double_class_name_becomes_one_class(one_picture_coco, annotation):
    categories = [{"id": 0, "name": "part"}, {"id": 1, "name": "part"}]
    folder = read_data(one_picture_coco([annotation(1, 1, (1, 1, 5, 5))], categories=categories))
    assert folder.class_names == ("part",)
    assert folder.category_ids == (1,)
    assert any("used twice" in text for text in warnings(folder))


def test_a_category_without_a_name(one_picture_coco, annotation):
    path = one_picture_coco([annotation(1, 1, (1, 1, 4, 4))], categories=[{"id": 1}])
    folder = read_data(path)
    assert folder.class_names == ("1",)
    assert "category 1 has no name" in "\n".join(warnings(folder))


def test_text_ids(tmp_path, make_picture, make_coco, annotation):
    make_picture(tmp_path / "a.png")
    path = make_coco(
        tmp_path / "train.json",
        [{"id": "x", "file_name": "a.png"}],
        [annotation("one", "x", (1, 1, 5, 5), "c")],
        [{"id": "c", "name": "cat"}],
    )
    record = only_record(read_data(path))
    assert (record.image_id, record.annotation_ids) == (1, ("one",))


@pytest.mark.parametrize(
    ("json_name", "picture"),
    [
        ("train.json", "a.png"),
        ("train.json", "images/a.png"),
        ("train.json", "train/a.png"),
        ("train.json", "train/images/a.png"),
        ("train.json", "images/train/a.png"),
        ("annotations.json", "images/a.png"),
        ("annotations/train.json", "images/a.png"),
        ("annotations/instances_train2017.json", "train2017/a.png"),
        ("annotations/instances_train2017.json", "images/train2017/a.png"),
        ("annotations/instances_train2017.json", "train/a.png"),
        ("train/_annotations.coco.json", "train/a.png"),
        ("train/labels.json", "train/data/a.png"),
        ("annotations/instances_default.json", "images/default/a.png"),
        ("annotations/instances_default.json", "images/a.png"),
        ("annotations/instances_Train.json", "images/Train/a.png"),
    ],
)
def test_pictures_are_found(tmp_path, make_picture, make_coco, json_name, picture):
    make_picture(tmp_path / picture)
    make_coco(tmp_path / json_name, [{"id": 1, "file_name": "a.png"}], [])
    folder = read_data(tmp_path)
    assert only_record(folder).path.samefile(tmp_path / picture)
    assert folder.format == "coco"


def test_cvat_export_with_keypoints_and_sub_folders(tmp_path, make_picture, make_coco):
    make_picture(tmp_path / "images" / "default" / "first" / "a.png")
    for task in ("instances", "person_keypoints"):
        file = tmp_path / "annotations" / f"{task}_default.json"
        make_coco(file, [{"id": 1, "file_name": "first/a.png"}], [])
    folder = read_data(tmp_path)
    assert folder.splits["train"].source.name == "instances_default.json"
    assert only_record(folder).name == "first/a.png"


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("kind", [int, float, bool, str, " {:d} ".format, "{!s}".format])
def test_crowd_marks_of_any_type(one_picture_coco, annotation, kind, crowd):
    given = kind(int(crowd)) if kind is str else kind(crowd)
    folder = read_data(one_picture_coco([annotation(5, 1, (1, 2, 10, 20), iscrowd=given)]))
    assert only_record(folder).crowd.tolist() == [crowd]
    assert not folder.errors


@pytest.mark.parametrize("given", ["maybe", 2, -1, [], {}, 0.5])
def test_senseless_crowd_marks(one_picture_coco, annotation, given):
    folder = read_data(one_picture_coco([annotation(5, 1, (1, 2, 10, 20), iscrowd=given)]))
    assert errors(folder) == [f"train.json: annotation 5  iscrowd is {given!r}, expected 0 or 1"]


@pytest.mark.parametrize(
    ("width", "height", "told"),
    [("40", "30", False), (40.0, 30.0, False), ("41", "30", True), ("wide", "30", False)],
)
def test_sizes_as_text(tmp_path, make_picture, make_coco, width, height, told):
    make_picture(tmp_path / "a.png", (30, 40))
    image = {"id": 1, "file_name": "a.png", "width": width, "height": height}
    folder = read_data(make_coco(tmp_path / "train.json", [image], []))
    assert only_record(folder).image_size == (30, 40)
    assert any("size is given as 41 x 30" in text for text in warnings(folder)) == told


def test_names_keep_sub_folders_and_unicode(tmp_path, make_picture, make_coco):
    make_picture(tmp_path / "images" / "süß" / "日 本.png")
    make_coco(tmp_path / "train.json", [{"id": 1, "file_name": "süß\\日 本.png"}], [])
    assert only_record(read_data(tmp_path)).name == "süß/日 本.png"


@pytest.mark.parametrize(("given", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_umlauts_in_either_form(tmp_path, make_picture, make_coco, given, disk):
    names = {form: normalize(form, "süß/Käfer.png") for form in ("NFC", "NFD")}
    make_picture(tmp_path / "images" / names[disk])
    make_coco(tmp_path / "train.json", [{"id": 1, "file_name": names[given]}], [])
    assert only_record(read_data(tmp_path)).path.name == normalize(disk, "Käfer.png")


def test_the_exact_name_comes_before_another_form(tmp_path, make_picture, make_coco):
    names = [normalize(form, "Käfer.png") for form in ("NFC", "NFD")]
    for name in names:
        make_picture(tmp_path / "images" / name)
    images = [{"id": k, "file_name": name} for k, name in enumerate(names)]
    records = read_data(make_coco(tmp_path / "train.json", images, [])).splits["train"].records
    assert [record.path.name for record in records] == names


def test_missing_picture_is_not_taken_from_next_door(tmp_path, make_picture, make_coco):
    make_picture(tmp_path / "images" / "b.png")
    make_picture(tmp_path / "set" / "images" / "a.png")
    images = [{"id": k, "file_name": f"{name}.png"} for k, name in enumerate("ab")]
    folder = read_data(make_coco(tmp_path / "set" / "train.json", images, []))
    assert only_record(folder).name == "a.png"
    assert "missing" in errors(folder)[0]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("./s/a.jpg", "s/a.jpg"),
        ("s\\a.jpg", "s/a.jpg"),
        ("C:\\data\\a.jpg", "a.jpg"),
        ("/data/a.jpg", "a.jpg"),
        ("../images/a.jpg", "a.jpg"),
        ("..", "picture"),
    ],
)
def test_safe_name(given, name):
    assert safe_name(given) == name


def test_file_with_byte_order_mark(tmp_path, make_picture):
    make_picture(tmp_path / "a.png")
    content = {"images": [{"id": 1, "file_name": "a.png"}], "categories": []}
    (tmp_path / "train.json").write_text(json.dumps(content), encoding="utf-8-sig")
    assert only_record(read_data(tmp_path)).name == "a.png"
