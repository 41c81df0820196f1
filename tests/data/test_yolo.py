from unicodedata import normalize

import pytest
import yaml

from boxmask.data.folder import read_data
from boxmask.data.masks import decode_segmentation
from boxmask.data.yolo_layout import beside_images
from boxmask.data.yolo_lines import parse_yolo_line
from boxmask.errors import UserError


@pytest.fixture
def make_yolo(tmp_path, make_picture):
    def build(lines, names=("bolt", "nut"), data=True, **more):
        for split in ("train", "val"):
            make_picture(tmp_path / "images" / split / f"{split}.png")
            (tmp_path / "labels" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "labels" / split / f"{split}.txt").write_text("\n".join(lines))
        content = {"train": "images/train", "val": "images/val", "names": names, **more}
        if data:
            names = list(names) if isinstance(names, tuple) else names
            (tmp_path / "data.yaml").write_text(yaml.safe_dump(content | {"names": names}))
        return tmp_path

    return build


def train_record(folder):
    (record,) = folder.splits["train"].records
    return record


def texts(folder, level="error"):
    return [str(problem) for problem in folder.problems if problem.level == level]


def test_boxes_and_polygons(make_yolo):
    folder = read_data(make_yolo(["1 0.5 0.5 0.5 0.5", "", "0 0.1 0.1 0.5 0.1 0.5 0.5"]))
    record = train_record(folder)
    assert folder.format == "yolo"
    assert record.boxes.tolist() == [[10, 7.5, 30, 22.5], [4, 3, 20, 15]]
    assert record.labels.tolist() == [1, 0]
    assert record.annotation_ids == ("labels/train/train.txt:1", "labels/train/train.txt:3")
    assert record.segmentations[0] is None
    assert decode_segmentation(record.segmentations[1], (30, 40)).any()
    assert not folder.errors


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("a", "b"), ("a", "b")),
        ({1: "b", 0: "a"}, ("a", "b")),
        ({0: "a", 2: "c"}, ("a", "1", "c")),
    ],
)
def test_names(make_yolo, names, expected):
    assert read_data(make_yolo([], names)).class_names == expected


def test_nc_without_names(make_yolo):
    root = make_yolo([])
    (root / "data.yaml").write_text("train: images/train\nnc: 3\n")
    assert read_data(root).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("0 0.5 0.5 0.5", "4 values"),
        ("0 0.5 0.5 0.5 0.5 0.9", "6 values"),
        ("0 0.5 x 0.5 0.5", "'x' is no number"),
        ("a 0.5 0.5 0.5 0.5", "'a' is no number"),
        ("0.5 0.5 0.5 0.5 0.5", "expected a whole number"),
        ("-1 0.5 0.5 0.5 0.5", "expected a whole number"),
        ("nan 0.5 0.5 0.5 0.5", "expected a whole number"),
        ("7 0.5 0.5 0.5 0.5", "class 7, but data.yaml names 2 classes"),
        ("0 0.5 0.5 0 0.5", "zero width"),
        ("0 nan 0.5 0.5 0.5", "no number"),
        ("0 nan 0.5 0.5 0.5 0.1 0.1", "no number"),
        ("0 2 2 0.1 0.1", "outside"),
    ],
)
def test_bad_lines_are_left_out_and_named(make_yolo, line, what):
    folder = read_data(make_yolo(["0 0.5 0.5 0.2 0.2", line]))
    assert len(train_record(folder)) == 1
    error = texts(folder)[0]
    assert error.startswith("labels/train/train.txt:2")
    assert what in error


def test_missing_label_files_are_one_warning_and_lone_ones_errors(make_yolo):
    root = make_yolo([])
    (root / "labels" / "train" / "train.txt").rename(root / "labels" / "train" / "other.txt")
    folder = read_data(root)
    assert len(train_record(folder)) == 0
    assert any("1 pictures have no label file" in text for text in texts(folder, "warning"))
    assert texts(folder) == ["labels/train/other.txt  label file has no picture"]


def test_without_yaml(make_yolo):
    root = make_yolo(["1 0.5 0.5 0.5 0.5"], data=False)
    (root / "classes.txt").write_text("bolt\nnut\n")
    folder = read_data(root)
    assert folder.class_names == ("bolt", "nut")
    assert list(folder.splits) == ["train", "val"]


def test_without_any_names(make_yolo):
    folder = read_data(make_yolo(["1 0.5 0.5 0.5 0.5"], data=False))
    assert folder.class_names == ("0", "1")
    assert any("called by their numbers" in text for text in texts(folder, "warning"))


def test_roboflow_paths_that_are_one_folder_off(tmp_path, make_picture):
    for split in ("train", "valid"):
        make_picture(tmp_path / split / "images" / "a.png")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    text = "train: ../train/images\nval: ../valid/images\nnames: [x]\n"
    (tmp_path / "data.yaml").write_text(text)
    folder = read_data(tmp_path)
    assert {name: len(split.records[0]) for name, split in folder.splits.items()} == {
        "train": 1,
        "val": 1,
    }


def test_list_file_and_several_folders(make_yolo):
    root = make_yolo(["0 0.5 0.5 0.5 0.5"])
    (root / "train.txt").write_text(f"{root}/images/train/train.png\n./images/val/val.png\n")
    text = "train: train.txt\nval: [images/train, images/val, images/none]\nnames: [x]\n"
    (root / "data.yaml").write_text(text)
    folder = read_data(root)
    names = {name: [r.name for r in split.records] for name, split in folder.splits.items()}
    assert names == {"train": ["train/train.png", "val/val.png"]} | {
        "val": ["train/train.png", "val/val.png"]
    }
    assert texts(folder) == ["data.yaml: val  images/none does not exist"]


def test_labels_beside_pictures(tmp_path, make_picture):
    make_picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "readme.txt").write_text("hello there")
    (tmp_path / "gone.txt").write_text("0 0.5 0.5 0.5 0.5")
    folder = read_data(tmp_path)
    assert len(train_record(folder)) == 1
    assert texts(folder) == ["gone.txt  label file has no picture"]


def test_yaml_by_name_and_missing_path(make_yolo):
    root = make_yolo(["0 0.5 0.5 0.5 0.5"], path="/not/on/this/machine")
    assert len(train_record(read_data(root / "data.yaml"))) == 1


@pytest.mark.parametrize(
    "text", ["names: [", "just text", "names: {a: b}\ntrain: images/train", "train: nowhere"]
)
def test_broken_yaml(make_yolo, text):
    root = make_yolo([])
    (root / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=r"data\.yaml"):
        read_data(root)


def test_exif_size_is_used(tmp_path, make_picture):
    make_picture(tmp_path / "images" / "a.jpg", (30, 40), orientation=6)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 1 1")
    assert train_record(read_data(tmp_path)).boxes.tolist() == [[0, 0, 30, 40]]


def test_parsed_line_keeps_its_number():
    line = parse_yolo_line("3 0 0 1 0 1 1", 12, (10, 20))
    assert (line.number, line.class_number, line.box) == (12, 3, (0, 0, 20, 10))


def test_last_images_folder_is_replaced(tmp_path):
    path = tmp_path / "images" / "x" / "images" / "s" / "a.b.jpg"
    assert beside_images(path, "labels") == tmp_path / "images/x/labels/s/a.b.txt"


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_missing_val_or_test_folder_is_a_warning(make_yolo, split):
    root = make_yolo(["0 0.5 0.5 0.5 0.5"], **{split: f"../{split}/images"})
    folder = read_data(root, val_fraction=0.5)
    assert not folder.errors
    missing = f"data.yaml: {split}  ../{split}/images does not exist"
    assert missing in texts(folder, "warning")
    assert list(folder.splits) == (["train"] if split == "val" else ["train", "val"])


def test_a_missing_val_folder_lets_training_put_pictures_aside(make_yolo, make_picture):
    root = make_yolo(["0 0.5 0.5 0.5 0.5"], val="nowhere")
    make_picture(root / "images" / "train" / "b.png")
    folder = read_data(root, val_fraction=0.5)
    assert len(folder.splits["val"].records) == 1
    (problem,) = [p for p in folder.problems if "nowhere" in p.what]
    assert "--val-fraction" in problem.fix


def test_a_missing_train_folder_is_an_error(make_yolo):
    folder = read_data(make_yolo([], train="nowhere"))
    assert texts(folder) == ["data.yaml: train  nowhere does not exist"]


@pytest.mark.parametrize(
    "place", ["labels/train", "images/train", "labels", "images", "labels/train/deeper"]
)
@pytest.mark.parametrize("data", [None, {"train": "images/train"}])
def test_class_list_among_labels_or_pictures(make_yolo, place, data):
    root = make_yolo(["1 0.5 0.5 0.5 0.5"], data=False)
    if data:
        (root / "data.yaml").write_text(yaml.safe_dump(data))
    (root / place).mkdir(exist_ok=True)
    (root / place / "classes.txt").write_text("bolt\nnut\n")
    folder = read_data(root)
    assert not folder.errors
    if "deeper" not in place:
        assert folder.class_names == ("bolt", "nut")


def test_class_list_of_labels_beside_pictures(tmp_path, make_picture):
    for split in ("train", "val"):
        make_picture(tmp_path / split / "a.png")
        (tmp_path / split / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
        (tmp_path / split / "classes.txt").write_text("0\n1\n")
    folder = read_data(tmp_path)
    assert folder.class_names == ("0", "1")
    assert not folder.errors
    assert not any("names the classes" in text for text in texts(folder, "warning"))


def test_names_of_the_yaml_come_before_a_class_list(make_yolo):
    root = make_yolo(["7 0.5 0.5 0.5 0.5"], names=("bolt", "nut"))
    (root / "labels" / "train" / "classes.txt").write_text("other\n")
    folder = read_data(root)
    assert folder.class_names == ("bolt", "nut")
    assert "data.yaml names 2 classes" in texts(folder)[0]
    (root / "data.yaml").write_text("train: images/train\nnc: 3\n")
    folder = read_data(root)
    assert folder.class_names == ("other",)
    assert "classes.txt names 1 classes" in texts(folder)[0]


def test_nc_that_differs_from_names(make_yolo):
    folder = read_data(make_yolo([], nc=3))
    assert folder.class_names == ("bolt", "nut")
    assert any("`nc` is 3, but `names` has 2" in text for text in texts(folder, "warning"))
    assert not any("nc" in text for text in texts(read_data(make_yolo([], nc=2)), "warning"))


@pytest.mark.parametrize("names", [(), {}])
def test_an_empty_list_of_names_is_none(make_yolo, names):
    folder = read_data(make_yolo(["1 0.5 0.5 0.5 0.5"], names=names))
    assert folder.class_names == ("0", "1")
    assert not folder.errors
    assert any("called by their numbers" in text for text in texts(folder, "warning"))


@pytest.mark.parametrize(
    ("shape", "points"),
    [([2, 2], "0.4 0.4 0.6 0.6"), ([1, 3], "0.4 0.4 2"), ([2, 3], "0.4 0.4 1 0.6 0.6 0")],
)
def test_pose_lines_are_boxes(make_yolo, shape, points):
    lines = [f"0 0.5 0.5 0.5 0.5 {points}", "1 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5 0.1 0.1 0 1 1"]
    folder = read_data(make_yolo(lines, kpt_shape=shape))
    record = train_record(folder)
    assert record.boxes.tolist() == [[10, 7.5, 30, 22.5]] * 2
    assert record.segmentations == (None, None)
    assert "as `kpt_shape` says" in texts(folder)[0]


@pytest.mark.parametrize("shape", ["17", [17], [0, 3], [17, 4], ["a", 3]])
def test_senseless_keypoint_shape(make_yolo, shape):
    with pytest.raises(UserError, match="kpt_shape"):
        read_data(make_yolo([], kpt_shape=shape))


@pytest.mark.parametrize(
    ("points", "is_box"),
    [
        ("0.4 0.4 1", True),  # an even number of values is no polygon
        ("0.4 0.4 2.0 0.6 0.6 0.000000", True),  # a polygon's point would be far outside
        ("0.4 0.4 1 0.6 0.6 0", False),
        ("0.4 0.4 0.6 0.6", False),
    ],
)
def test_keypoints_that_no_yaml_speaks_of(points, is_box):
    line = parse_yolo_line(f"0 0.5 0.5 0.5 0.5 {points}", 1, (30, 40))
    assert (line.polygon is None) == is_box
    if is_box:
        assert line.box == (10, 7.5, 30, 22.5)


@pytest.mark.parametrize(("label", "disk"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("listed", [True, False])
def test_umlauts_in_either_form(tmp_path, make_picture, label, disk, listed):
    make_picture(tmp_path / "images" / f"{normalize(disk, 'Käfer')}.png")
    (tmp_path / "labels").mkdir()
    file = tmp_path / "labels" / f"{normalize(label, 'Käfer')}.txt"
    file.write_text("0 0.5 0.5 0.5 0.5")
    if listed:
        text = f"images/{normalize(label, 'Käfer')}.png"
        (tmp_path / "train.txt").write_text(text, encoding="utf-8")
        (tmp_path / "data.yaml").write_text("train: train.txt\nnames: [x]")
    folder = read_data(tmp_path)
    assert len(train_record(folder)) == 1
    assert not folder.errors
