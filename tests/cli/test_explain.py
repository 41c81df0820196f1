import json

import pytest

from boxmask.api.explain import ExplainedObject, Explanation
from boxmask.cli import main as cli


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What the command asks its function for; there is a folder called run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    given = {}

    def explain(run, pictures, *, say, **options):
        given.update(options, run=run, pictures=pictures)
        say("drawn")
        one = ExplainedObject(
            picture="a.png", number=1, class_name="disc", box=(1, 2, 3, 4), foreground=0.5,
            background=0.25, ignored=0.25, taught=True,
        )  # fmt: skip
        return Explanation(dir=tmp_path, files=(tmp_path / "masks.png",), objects=(one,))

    monkeypatch.setattr("boxmask.api.explain.explain", explain)
    return given


def test_several_pictures_and_options(capsys, asked):
    words = ["explain", "run", "a.png", "b", "--image-size", "96", "--overwrite"]
    assert cli.run(words) == 0
    assert capsys.readouterr().out == "drawn\n"
    assert str(asked["run"]) == "run"
    assert [*asked["pictures"]] == ["a.png", "b"]
    assert (asked["image_size"], asked["overwrite"], asked["out"]) == (96, True, None)


def test_speaks_json(capsys, asked):
    assert cli.run(["explain", "run", "a.png", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["objects"][0]["foreground"] == 0.5
    assert said["files"][0].endswith("masks.png")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["explain", "nowhere", "a.png"], "no such run"),
        (["explain", "."], "no picture to explain"),
        (["explain"], "RUN"),
        (["explain", "x", "picture=a.png"], "did you mean boxmask explain a.png?"),
        (["explain", "x", "a", "imgsz=64"], "did you mean --image-size 64?"),
    ],
)
def test_mistakes(capsys, words, answer):
    assert cli.run(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert answer in err
