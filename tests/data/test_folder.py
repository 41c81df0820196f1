from pathlib import Path

import pytest

from boxmask.data.folder import read_data, require_usable
from boxmask.data.splits import name_share
from boxmask.errors import UserError

REAL_DATA = Path(__file__).resolve().parents[2] / "../shared/data"


@pytest.fixture
def make_split(make_picture, make_coco, annotation):
    def build(file, name, pictures=1, box=(1, 1, 9, 9)):
        images, boxes = [], []
        for k in range(1, pictures + 1):
            make_picture(file.parent / "images" / f"{name}{k}.png")
            images.append({"id": k, "file_name": f"{name}{k}.png"})
            boxes.append(annotation(k, k, box))
        return make_coco(file, images, boxes)

    return build


def sources(folder):
    return {name: split.source.name for name, split in folder.splits.items()}


def test_exact_names_are_preferred(tmp_path, make_split):
    for name in ("train", "train_super", "val", "val_super"):
        make_split(tmp_path / f"{name}.json", name)
    assert sources(read_data(tmp_path)) == {"train": "train.json", "val": "val.json"}
    named = read_data(tmp_path / "train_super.json")
    assert sources(named) == {"train": "train_super.json", "val": "val_super.json"}


def test_val_follows_the_name_of_train(tmp_path, make_split):
    for name in ("instances_train2017", "instances_val2017", "a_valid", "keypoints_train2017"):
        make_split(tmp_path / "annotations" / f"{name}.json", name)
    expected = {"train": "instances_train2017.json", "val": "instances_val2017.json"}
    assert sources(read_data(tmp_path)) == expected


def test_roboflow(tmp_path, make_split):
    for name in ("train", "valid", "test"):
        make_split(tmp_path / name / "_annotations.coco.json", name)
    folder = read_data(tmp_path)
    assert list(folder.splits) == ["train", "val", "test"]
    assert folder.splits["val"].source.parent.name == "valid"
    named = read_data(tmp_path / "train" / "_annotations.coco.json")
    assert list(named.splits) == ["train", "val", "test"]


def test_val_alone(tmp_path, make_split):
    make_split(tmp_path / "train.json", "a")
    assert list(read_data(make_split(tmp_path / "val.json", "b")).splits) == ["val"]


def test_one_file_is_train_with_a_warning(tmp_path, make_split):
    make_split(tmp_path / "annotations.json", "a")
    folder = read_data(tmp_path)
    assert list(folder.splits) == ["train"]
    assert any("no split for validation" in p.what for p in folder.problems)


def test_several_files_without_a_split_are_refused(tmp_path, make_split):
    make_split(tmp_path / "one.json", "a")
    make_split(tmp_path / "two.json", "b")
    with pytest.raises(UserError, match=r"one\.json, two\.json"):
        read_data(tmp_path)


def test_val_fraction_depends_on_names_alone(tmp_path, make_split):
    path = make_split(tmp_path / "annotations.json", "a", pictures=40)
    folder = read_data(path, val_fraction=0.3)
    names = {s: {r.name for r in split.records} for s, split in folder.splits.items()}
    assert names["train"] | names["val"] == {f"a{k}.png" for k in range(1, 41)}
    assert names["val"] == {
        name for name in names["train"] | names["val"] if name_share(name) < 0.3
    }
    assert not any("validation" in p.what for p in folder.problems)


@pytest.mark.parametrize("fraction", [1e-9, 0.999999])
def test_each_side_gets_a_picture(tmp_path, make_split, fraction):
    path = make_split(tmp_path / "annotations.json", "a", pictures=3)
    folder = read_data(path, val_fraction=fraction)
    assert all(len(split.records) >= 1 for split in folder.splits.values())


def test_val_fraction_leaves_an_existing_val_alone(tmp_path, make_split):
    make_split(tmp_path / "train.json", "a", pictures=4)
    make_split(tmp_path / "val.json", "b")
    assert len(read_data(tmp_path, val_fraction=0.5).splits["val"].records) == 1


def test_val_fraction_out_of_range(tmp_path):
    with pytest.raises(ValueError, match="val_fraction"):
        read_data(tmp_path, val_fraction=1.0)


def test_overlap_unused_classes_and_tiny_boxes(tmp_path, make_split, make_coco, annotation):
    make_split(tmp_path / "train.json", "a", box=(1, 1, 3, 3))
    make_coco(
        tmp_path / "val.json",
        [{"id": 1, "file_name": "a1.png"}],
        [annotation(1, 1, (1, 1, 20, 20))],
        [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    )
    text = "\n".join(str(problem) for problem in read_data(tmp_path).problems)
    assert "train, val  share 1 picture: a1.png" in text
    assert "1 class has no boxes: dog" in text
    assert "100% of boxes are below 8 px" in text


def test_require_usable(tmp_path, make_split):
    path = make_split(tmp_path / "train.json", "a", pictures=9, box=(1, 1, 0, 3))
    folder = read_data(path)
    with pytest.raises(UserError) as caught:
        require_usable(folder, skip_bad=False)
    assert "9 errors" in caught.value.what
    assert "annotation 1  box has zero width" in caught.value.where
    assert "and 4 more" in caught.value.where
    assert "--skip-bad" in caught.value.fix
    require_usable(folder, skip_bad=True)


def test_a_picture_cut_short_is_an_error_that_can_be_skipped(tmp_path, make_picture, make_coco):
    names = ["a.jpg", "b.jpg"]
    for name in names:
        make_picture(tmp_path / "images" / name)
    cut = tmp_path / "images" / "b.jpg"
    cut.write_bytes(cut.read_bytes()[:-100])
    images = [{"id": k, "file_name": name} for k, name in enumerate(names)]
    folder = read_data(make_coco(tmp_path / "train.json", images, []))
    with pytest.raises(UserError, match="1 error") as caught:
        require_usable(folder, skip_bad=False)
    assert "b.jpg: picture cannot be read" in caught.value.where
    require_usable(folder, skip_bad=True)
    assert [record.name for record in folder.splits["train"].records] == ["a.jpg"]


def test_nothing_usable_is_refused_even_when_skipping(tmp_path, make_coco):
    folder = read_data(make_coco(tmp_path / "train.json", [], []))
    with pytest.raises(UserError, match="no picture"):
        require_usable(folder, skip_bad=True)


@pytest.mark.parametrize("name", ["none", "a.txt", ""])
def test_what_is_no_data_set(tmp_path, name):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError):
        read_data(tmp_path / name)


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="real data is not here")
@pytest.mark.parametrize(
    ("name", "train", "val"),
    [("pennfudan", 283, 61), ("coco_mini", 2599, 768), ("coco_mini/train_super12.json", 2599, 768)],
)
def test_real_data(name, train, val):
    folder = read_data(REAL_DATA / name)
    assert folder.splits["train"].num_instances == train
    assert folder.splits["val"].num_instances == val
    require_usable(folder, skip_bad=False)
