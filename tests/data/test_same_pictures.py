import shutil

import pytest
from PIL import Image

from boxmask.data import same_pictures
from boxmask.data.folder import read_data
from boxmask.data.same_pictures import copy_warnings


@pytest.fixture
def make_splits(tmp_path, make_picture, make_coco):
    """Writes splits with the named pictures, all different; gives back the data set's folder."""

    def build(**names):
        sizes = iter(range(20, 60))
        for split, pictures in names.items():
            images = [{"id": k, "file_name": name} for k, name in enumerate(pictures)]
            make_coco(tmp_path / f"{split}.json", images, [])
            for name in pictures:
                path = tmp_path / "images" / name
                if not path.exists():
                    make_picture(path, (30, next(sizes)))
        return tmp_path

    return build


def test_copies_under_other_names_are_named(make_splits):
    root = make_splits(train=["a.png", "b.jpg"], val=["c.png", "d.jpg"], test=["e.png"])
    shutil.copy(root / "images" / "b.jpg", root / "images" / "d.jpg")
    shutil.copy(root / "images" / "b.jpg", root / "images" / "e.png")
    texts = [str(problem) for problem in copy_warnings(read_data(root))]
    assert texts == [
        "train, val  hold 1 picture twice, as copies: b.jpg = d.jpg",
        "train, test  hold 1 picture twice, as copies: b.jpg = e.png",
        "val, test  hold 1 picture twice, as copies: d.jpg = e.png",
    ]


def test_the_same_file_in_both_splits_is_told_elsewhere(make_splits):
    folder = read_data(make_splits(train=["a.png"], val=["a.png"]))
    assert not copy_warnings(folder)
    assert any("share 1 picture: a.png" in problem.what for problem in folder.problems)


def test_copies_within_a_split_are_none_of_its_matter(make_splits):
    root = make_splits(train=["a.png", "b.png"], val=["c.png"])
    shutil.copy(root / "images" / "a.png", root / "images" / "b.png")
    assert not copy_warnings(read_data(root))


def test_only_files_of_equal_size_and_middle_are_read_whole(tmp_path, make_splits, monkeypatch):
    root = make_splits(train=["a.bmp", "b.bmp", "x.png"], val=["c.bmp", "d.bmp", "y.png"])
    for name, values in (("a", (9, 9)), ("b", (8, 9)), ("c", (9, 8)), ("d", (9, 9))):
        image = Image.new("L", (200, 200), values[0])  # 40 000 bytes of pixels
        image.paste(values[1], (0, 0, 200, 20))
        image.save(root / "images" / f"{name}.bmp")
    read = []
    whole = same_pictures._digest
    monkeypatch.setattr(same_pictures, "_digest", lambda p: read.append(p.name) or whole(p))
    (problem,) = copy_warnings(read_data(root))
    assert problem.what.endswith("a.bmp = d.bmp")
    assert sorted(read) == ["a.bmp", "c.bmp", "d.bmp"]


def test_a_file_that_has_gone_meanwhile(make_splits):
    root = make_splits(train=["a.png"], val=["b.png"])
    folder = read_data(root)
    (root / "images" / "a.png").unlink()
    assert not copy_warnings(folder)
