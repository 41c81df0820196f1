"""`boxmask benchmark`: words become settings."""

from pathlib import Path

import pytest

from boxmask.benchmark.settings import AccuracySettings, ChallengeSettings
from boxmask.benchmark.variants import VARIANTS
from boxmask.cli import main as cli
from boxmask.cli.benchmark import BENCHMARKS, accuracy, challenges
from boxmask.cli.main import build_app


def parse(*words):
    command, bound, _ = build_app().parse_args(
        ["benchmark", *words], exit_on_error=False, print_error=False
    )
    return command, bound


def test_lists_of_values_follow_their_option():
    command, bound = parse(
        "challenges", "--camouflage", "0", "1", "--crowding", "0.5", "--seeds", "3", "4",
        "--variants", "boxinst", "sim-without-copy-paste", "--num-train", "8", "--score", "best",
        "--out", "there",
    )  # fmt: skip
    assert command is challenges
    assert bound.arguments["settings"] == ChallengeSettings(
        camouflage=(0.0, 1.0),
        crowding=(0.5,),
        seeds=(3, 4),
        variants=("boxinst", "sim-without-copy-paste"),
        num_train=8,
        score="best",
        out=Path("there"),
    )
    assert not bound.arguments.get("plot_only", False)


def test_nothing_said_means_the_defaults():
    _, bound = parse("challenges", "--plot-only")
    assert bound.arguments["plot_only"] is True
    assert bound.arguments.get("settings", ChallengeSettings()) == ChallengeSettings()
    assert ChallengeSettings().variants == tuple(variant.name for variant in VARIANTS)


def test_accuracy_takes_several_data_sets():
    command, bound = parse(
        "accuracy", "a", "b/c.json", "--methods", "boxinst", "full", "--epochs", "2"
    )
    assert command is accuracy
    assert bound.arguments["data"] == (Path("a"), Path("b/c.json"))
    assert bound.arguments["settings"] == AccuracySettings(methods=("boxinst", "full"), epochs=2)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["challenges", "--variants", "sam"], 'Invalid value "sam"'),
        (["challenges", "--camouflage", "7"], "camouflage: expected 0 to 1, got 7"),
        (["challenges", "--plot-only", "--out", "nowhere"], "no run is finished yet"),
        (["chalenges"], 'Did you mean "challenges"?'),
        (["accuracy"], "requires an argument"),
    ],
)
def test_mistakes_are_answered_in_short_lines(capsys, words, answer):
    assert cli.run(["benchmark", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert answer in err
    assert len(err.splitlines()) <= 3


def test_help_names_every_benchmark(capsys):
    assert cli.run(["benchmark", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in BENCHMARKS)


def test_an_interrupted_list_says_how_to_go_on(capsys, monkeypatch):
    def stop(settings, *, say):
        raise KeyboardInterrupt

    monkeypatch.setattr("boxmask.benchmark.challenges.measure", stop)
    assert cli.run(["benchmark", "challenges"]) == 130
    assert "go on with: the same command" in capsys.readouterr().err
