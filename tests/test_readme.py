"""README and docs: their commands run, their links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from boxmask.cli.main import run
from boxmask.data.synthetic import SyntheticSettings, write_synthetic

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```(?:\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")


def commands(page: Path) -> list[str]:
    """Every `boxmask ...` line in the code blocks of a page."""
    lines = [line for block in CODE.findall(page.read_text()) for line in block.splitlines()]
    return [line.split("#")[0].strip() for line in lines if line.startswith("boxmask ")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """A small data set and a run on it."""
    folder = tmp_path_factory.mktemp("readme")
    data = write_synthetic(
        folder / "parts", SyntheticSettings(num_train=4, num_val=2, image_size=(64, 64))
    )
    small = ["--epochs", "1", "--image-size", "64", "--workers", "0", "--no-pretrained"]
    assert run(["train", str(data), *small, "--out", str(folder / "run")]) == 0
    return {
        "data": data,
        "run": folder / "run",
        "pictures": data / "images",
        "picture": data / "images" / "train_0000.png",
    }


def test_readme_commands_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {"DATA": "data", "RUN": "run", "PICTURES": "pictures", "PICTURE": "picture"}
    extra = {
        "train": ["--epochs", "1", "--image-size", "64", "--workers", "0", "--no-pretrained"],
        "label": ["--workers", "0"],
        "predict": ["--workers", "0"],
        "val": ["--workers", "0"],
    }
    found = commands(ROOT / "README.md")
    assert len(found) >= 5
    for line in found:
        words = shlex.split(line)[1:]
        words = [str(trained[places[word]]) if word in places else word for word in words]
        assert run([*words, *extra.get(words[0], [])]) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_parses(page):
    from cyclopts import CycloptsError

    from boxmask.cli.main import build_app, resume_sugar

    for line in commands(page):
        words = resume_sugar(shlex.split(line)[1:])
        try:
            build_app().parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            raise AssertionError(f"{page.name}: {line}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in LINK.findall(page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_make_has_the_two_commands():
    text = (ROOT / "Makefile").read_text()
    for target in ("quickstart", "test"):
        assert re.search(rf"^{target}:", text, re.MULTILINE)


@pytest.mark.slow
def test_quickstart_runs_small(tmp_path):
    from boxmask.benchmark.quickstart import QuickstartSettings, quickstart

    table = quickstart(
        QuickstartSettings(
            out=tmp_path / "out",
            data=SyntheticSettings(num_train=4, num_val=2, image_size=(64, 64)),
            epochs=1,
            image_size=64,
        ),
        say=lambda line: None,
    )
    assert len(table.splitlines()) == 3
