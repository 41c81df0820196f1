"""Looks at a data set before it is used."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from boxmask.api.check_pictures import draw_class_and_size_plot, draw_picture_sheet
from boxmask.api.options import CheckOptions, options_from
from boxmask.data.check import DataSummary, summarise
from boxmask.data.folder import read_data
from boxmask.data.records import Problem
from boxmask.data.same_pictures import copy_warnings

Say = Callable[[str], None]

SHOWN = 20
"""Problems of a level that are printed; all are in problems.csv."""

SHOWN_CLASSES = 8


@dataclass(frozen=True, kw_only=True)
class DataCheck:
    """What was seen of a data set.

    Attributes:
        summary: its numbers and advice.
        problems: everything wrong ("error") or doubtful ("warning").
        dir: folder of `labels.jpg`, `boxes_0.jpg` and `problems.csv`.
    """

    summary: DataSummary
    problems: tuple[Problem, ...]
    dir: Path

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return self.summary.num_errors == 0


def check(data: Path | str, *, say: Say = print, **options: Any) -> DataCheck:
    """Reads a data set, counts and measures it, and draws what a person should see.

    Args:
        data: a folder in COCO, VOC or YOLO form, or one COCO file.
        say: takes each line.
        **options: see `CheckOptions`.

    Raises:
        UserError: If there is no data set, or a file of it cannot be read at all.
    """
    chosen = options_from(CheckOptions, options)
    folder = read_data(data)
    folder = replace(folder, problems=(*folder.problems, *copy_warnings(folder)))
    summary = summarise(folder, image_size=chosen.image_size)
    out = chosen.out or Path("runs", "check", Path(data).resolve().stem or "data")
    out.mkdir(parents=True, exist_ok=True)
    _write_problems(out / "problems.csv", folder.problems)
    draw_class_and_size_plot(folder, out / "labels.jpg", chosen.image_size)
    draw_picture_sheet(folder, out / "boxes_0.jpg")
    for line in [*_summary_lines(summary), *_problem_lines(folder.problems)]:
        say(line)
    for advice in summary.advice:
        say(f"  -> {advice}")
    say(f"Pictures: {out / 'labels.jpg'}, {out / 'boxes_0.jpg'}")
    say(f"Next: {_next_step(summary, data)}")
    return DataCheck(summary=summary, problems=folder.problems, dir=out)


def _next_step(summary: DataSummary, data: Path | str) -> str:
    """What to do next: training, if there is something to train on."""
    train = summary.splits.get("train")
    if train is None:
        return "name a data set with a train split; there is nothing to train on"
    if not train.num_boxes:
        return "draw boxes: no picture of train has one, so there is nothing to train on"
    command = f"boxmask train {quote(str(data))}"
    if summary.num_errors:
        return f"correct the errors, or leave them out: {command} --skip-bad"
    return command


def _summary_lines(summary: DataSummary) -> list[str]:
    names = summary.class_names
    shown = ", ".join(names[:SHOWN_CLASSES]) + (", ..." if len(names) > SHOWN_CLASSES else "")
    lines = [
        f"{summary.root}  {summary.format.upper()}, {_count(len(summary.splits), 'split')}, "
        f"{_count(len(names), 'class')} ({shown})"
    ]
    for split in summary.splits.values():
        crowd = f" + {split.num_crowd} crowd" if split.num_crowd else ""
        empty = f"   {split.num_empty} without a box" if split.num_empty else ""
        lines.append(
            f"  {split.name:<6} {split.num_pictures:,} pictures  {split.num_boxes:,} boxes{crowd}"
            f"   at most {split.most_boxes} in one{empty}   masks: {_mask_words(split.masks)}"
        )
    return lines


def _problem_lines(problems: Sequence[Problem]) -> list[str]:
    lines = []
    for level, mark in (("error", "x"), ("warning", "!")):
        found = [problem for problem in problems if problem.level == level]
        if not found:
            continue
        lines.append(f"  {mark} {_count(len(found), level)}")
        lines += [f"      {problem}" for problem in found[:SHOWN]]
        if len(found) > SHOWN:
            lines.append(f"      ... and {len(found) - SHOWN} more in problems.csv")
        fixes = dict.fromkeys(problem.fix for problem in found if problem.fix)
        lines += [f"      fix: {fix}" for fix in [*fixes][:3]]
    return lines


def _write_problems(file: Path, problems: Sequence[Problem]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["level", "where", "what", "fix"])
        writer.writerows([p.level, p.where, p.what, p.fix] for p in problems)


def _mask_words(masks: str) -> str:
    return "none (not needed)" if masks == "none" else masks


def _count(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number} {noun if number == 1 else plural}"
