"""`explain`: a run of two epochs that corrects itself, looked at."""

import json
import shutil

import pytest
import yaml
from PIL import Image

import boxmask
from boxmask.data.synthetic import SyntheticSettings, write_synthetic
from boxmask.errors import UserError

SHEETS = ["masks.png", "pasted.png", "prototypes.png", "weights.png"]


def silent(line):
    """Takes lines of progress."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    settings = SyntheticSettings(num_train=4, num_val=2, image_size=(64, 80), num_shapes=(2, 3))
    folder = write_synthetic(tmp_path_factory.mktemp("sets") / "drawn", settings)
    file = folder / "val.json"
    content = json.loads(file.read_text())
    last = content["images"][-1]["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != last]
    file.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def learned(pictures, tmp_path_factory):
    """A run of two epochs of four steps, of which some paste."""
    trained = boxmask.train(
        pictures,
        say=silent,
        method="sim",
        settings=["bank_capacity=1", "warmup=0.3", "prototypes=4", "paste_fit=0", "paste_passes=0"],
        epochs=2,
        batch=1,
        image_size=64,
        workers=0,
        pretrained=False,
        out=tmp_path_factory.mktemp("runs") / "learned",
    )
    return trained.dir


def explain(run, names, **options):
    return boxmask.explain(run, names, say=options.pop("say", silent), **options)


def sheets_in(folder):
    return sorted(file.name for file in folder.iterdir())


def test_training_draws_what_it_teaches(learned):
    assert (learned / "train_pseudo.jpg").is_file()
    assert (learned / "train_pasted.jpg").is_file()


def test_one_picture_gives_all_sheets(learned, tmp_path):
    said = []
    drawn = explain(learned, "train_0000.png", out=tmp_path / "out", say=said.append)
    assert sheets_in(tmp_path / "out") == SHEETS
    assert sorted(file.name for file in drawn.files) == SHEETS
    assert drawn.dir == tmp_path / "out"
    for file in drawn.files:
        with Image.open(file) as image:
            assert image.width > 400
        assert str(file) in said
    assert len(drawn.objects) >= 2
    for number, one in enumerate(drawn.objects, start=1):
        assert one.number == number
        assert one.class_name in ("disc", "star", "crescent")
        if one.taught:
            assert one.foreground + one.background + one.ignored == pytest.approx(1)
        assert any(line.startswith(f"  {number} {one.class_name}  box") for line in said)


def test_the_same_sheets_each_time(learned, tmp_path):
    for name in ("a", "b"):
        explain(learned, "train_0001", out=tmp_path / name)
    for sheet in SHEETS:
        assert (tmp_path / "a" / sheet).read_bytes() == (tmp_path / "b" / sheet).read_bytes()


def test_several_pictures_get_folders(learned, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["train_0001", pictures / "images" / "val_0000.png", "train_0001.png"]
    drawn = explain(learned, names)
    assert drawn.dir.as_posix() == "runs/explain/learned-2-pictures-1"
    assert sorted(folder.name for folder in drawn.dir.iterdir()) == ["train_0001", "val_0000"]
    assert {one.picture for one in drawn.objects} == {"train_0001.png", "val_0000.png"}


def test_one_picture_names_its_folder(learned, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = explain(learned, "train_0001", image_size=96)
    assert drawn.dir.as_posix() == "runs/explain/learned-train_0001-1"


def test_a_full_folder_is_kept(learned, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        explain(learned, "train_0000", out=tmp_path)
    explain(learned, "train_0000", out=tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("names", "what", "fix"),
    [
        ("train_0009.png", "no picture 'train_0009", "did you mean train_000"),
        ("val_0001.png", "has no boxes", "with boxes"),
        ([], "no picture to explain", "boxmask explain RUN PICTURE"),
    ],
)
def test_pictures_that_cannot_be_explained(learned, tmp_path, names, what, fix):
    with pytest.raises(UserError, match=what) as error:
        explain(learned, names, out=tmp_path / "out")
    assert fix in error.value.fix
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_method_is_refused(learned, tmp_path):
    other = shutil.copytree(learned, tmp_path / "other")
    file = other / "args.yaml"
    saved = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**saved, "method": "boxinst", "settings": []}))
    with pytest.raises(UserError, match="--method boxinst") as error:
        explain(other, "train_0000")
    assert "--method sim" in error.value.fix


def test_unknown_options_are_named(learned):
    with pytest.raises(UserError, match="image_sizes") as error:
        explain(learned, "train_0000", image_sizes=64)
    assert "image_size" in error.value.fix
    with pytest.raises(UserError, match="at least 64"):
        explain(learned, "train_0000", image_size=8)


def test_runs_that_cannot_be_loaded(learned, run, tmp_path):
    with pytest.raises(UserError, match="no such run"):
        explain(tmp_path / "nowhere", "train_0000")
    with pytest.raises(UserError, match="no run folder"):
        explain(tmp_path, "train_0000")
    with pytest.raises(UserError, match="no checkpoint"):
        explain(run, "train_0000")  # weights, but nothing to go on from
    broken = shutil.copytree(learned, tmp_path / "broken")
    (broken / "weights" / "last.ckpt").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        explain(broken, "train_0000")


def test_a_checkpoint_of_other_classes_does_not_fit(learned, pictures, tmp_path):
    data = shutil.copytree(pictures, tmp_path / "data")
    for split in ("train", "val"):
        file = data / f"{split}.json"
        content = json.loads(file.read_text())
        content["categories"].append({"id": 99, "name": "new"})
        file.write_text(json.dumps(content))
    other = shutil.copytree(learned, tmp_path / "other")
    file = other / "args.yaml"
    saved = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**saved, "data": str(data)}))
    with pytest.raises(UserError, match="does not fit") as error:
        explain(other, "train_0000")
    assert "size mismatch" in error.value.where
