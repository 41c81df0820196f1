"""Accuracy on real data: trains a list of methods and seeds, goes on where it stopped, one table.

`python -m boxmask.benchmark.accuracy DATA... --methods boxinst full --seeds 0 1 2`
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from boxmask.api.train import train

Say = Callable[[str], None]

COLUMNS = {
    "box_ap": "box AP",
    "mask_ap": "mask AP",
    "mask_ap50": "mask AP50",
    "label_iou": "label IoU",
    "fill": "fill",
    "minutes": "minutes",
}


@dataclass(frozen=True, kw_only=True)
class AccuracySettings:
    """What is trained.

    Attributes:
        data: data sets, folders or COCO files.
        methods: see `TrainOptions.method`.
        seeds: one run for each.
        out: folder of all runs; finished ones are not done again.
        options: further options of `boxmask.train`.
    """

    data: Sequence[Path]
    methods: Sequence[str]
    seeds: Sequence[int]
    out: Path
    options: dict[str, Any]


def measure(settings: AccuracySettings, say: Say = print) -> str:
    """Trains all that is missing and gives the table, in Markdown."""
    rows = []
    for data in settings.data:
        for method in settings.methods:
            found = [_metrics(settings, data, method, seed, say) for seed in settings.seeds]
            rows.append((data.stem, method, found))
    return table(rows)


def table(rows: Sequence[tuple[str, str, Sequence[dict[str, float]]]]) -> str:
    """A Markdown table; over several seeds each cell is mean and standard deviation."""
    lines = [
        "| data | method | seeds | " + " | ".join(COLUMNS.values()) + " |",
        "|" + " --- |" * (len(COLUMNS) + 3),
    ]
    for data, method, found in rows:
        columns = {name: [metrics.get(name) for metrics in found] for name in COLUMNS}
        cells = " | ".join(_cell(values, name) for name, values in columns.items())
        lines.append(f"| {data} | {method} | {len(found)} | {cells} |")
    return "\n".join(lines)


def _cell(values: Sequence[float | None], name: str) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "-"
    digits = 0 if name == "minutes" else 3
    mean = f"{statistics.mean(known):.{digits}f}"
    return f"{mean} ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else mean


def _metrics(
    settings: AccuracySettings, data: Path, method: str, seed: int, say: Say
) -> dict[str, float]:
    """Numbers of one run: trained, resumed or read."""
    out = settings.out / f"{data.stem}-{method}-{seed}"
    done = out / "done.json"
    if done.is_file():
        return json.loads(done.read_text(encoding="utf-8"))
    say(f"\n{out}")
    if (out / "weights" / "last.ckpt").is_file():
        run = train(out=out, resume=True, say=say)
    else:
        run = train(
            data, method=method, seed=seed, out=out, overwrite=True, say=say, **settings.options
        )
    done.write_text(json.dumps(run.metrics, indent=2), encoding="utf-8")
    return run.metrics


def main() -> None:
    """Reads the command line, measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--methods", nargs="+", default=["boxinst", "full"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch", type=int)
    given = parser.parse_args()
    chosen = {"epochs": given.epochs, "image_size": given.image_size, "batch": given.batch}
    text = measure(
        AccuracySettings(
            data=given.data,
            methods=given.methods,
            seeds=given.seeds,
            out=given.out,
            options={name: value for name, value in chosen.items() if value is not None},
        ),
        say=partial(print, flush=True),
    )
    (given.out / "table.md").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(f"\n{text}\n")


if __name__ == "__main__":
    main()
