"""The quickstart: draws a small data set, learns masks from its boxes, and shows the result.

`python -m boxmask.benchmark.quickstart` needs no data and no download.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from boxmask.api.train import TrainedRun, train
from boxmask.data.synthetic import SyntheticSettings, write_synthetic

Say = Callable[[str], None]

TITLES = {
    "sim": "boxes only (sim)",
    "full": "full masks (upper bound)",
}
COLUMNS = {"box_ap": "box AP", "mask_ap": "mask AP", "label_iou": "label IoU", "minutes": "minutes"}


@dataclass(frozen=True, kw_only=True)
class QuickstartSettings:
    """Size of the quickstart.

    Attributes:
        out: folder of data and runs; replaced if it is there.
        data: what is drawn.
        epochs: passes over it, for each method.
        image_size: short side in pixels.
    """

    out: Path = Path("runs/quickstart")
    data: SyntheticSettings = field(
        default_factory=lambda: SyntheticSettings(num_train=80, num_val=24)
    )
    epochs: int = 25
    image_size: int = 160


def quickstart(settings: QuickstartSettings | None = None, say: Say = print) -> str:
    """Draws, trains from boxes and from masks, and compares.

    Returns:
        The table that was printed.
    """
    settings = settings or QuickstartSettings()
    if settings.out.exists():
        shutil.rmtree(settings.out)
    say(f"drawing {settings.data.num_train + settings.data.num_val} pictures of textured shapes")
    data = write_synthetic(settings.out / "data", settings.data)
    runs = {}
    for method, title in TITLES.items():
        say(f"\n{title}")
        runs[method] = train(
            data,
            say=say,
            method=method,
            epochs=settings.epochs,
            image_size=settings.image_size,
            out=settings.out / method,
        )
    table = comparison(runs)
    say("\n" + table)
    say(f"\nLook at {settings.out / 'sim' / 'val_labels.jpg'}: given boxes, found masks.")
    say("Your own data: boxmask train DATA, then boxmask label DATA --weights RUN")
    return table


def comparison(runs: dict[str, TrainedRun]) -> str:
    """One row a run: box AP, mask AP, label IoU, minutes of training."""
    lines = [f"{'':28}" + "".join(f"{title:>11}" for title in COLUMNS.values())]
    for method, run in runs.items():
        cells = "".join(_cell(run.metrics.get(name), name) for name in COLUMNS)
        lines.append(f"{TITLES[method]:28}{cells}")
    return "\n".join(lines)


def _cell(value: float | None, name: str) -> str:
    if value is None:
        return f"{'-':>11}"
    return f"{value:11.1f}" if name == "minutes" else f"{value:11.3f}"


def main() -> None:
    """Runs the quickstart and prints."""
    quickstart(say=partial(print, flush=True))


if __name__ == "__main__":
    main()
