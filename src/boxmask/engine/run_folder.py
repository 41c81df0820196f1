"""What a run leaves behind."""

import csv
import json
import math
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from boxmask.errors import UserError, require_folder
from boxmask.whole_files import written_beside

_PACKAGES = ("boxmask", "torch", "torchvision", "pytorch-lightning", "timm", "hotcoco", "numpy")


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Paths of a run, and how each file is written.

    Attributes:
        root: the run's folder.
    """

    root: Path

    @property
    def best(self) -> Path:
        """Weights of the best epoch."""
        return self.root / "weights" / "best.safetensors"

    @property
    def last(self) -> Path:
        """Checkpoint of the last finished epoch, with everything that resuming needs."""
        return self.root / "weights" / "last.ckpt"

    @property
    def arguments(self) -> Path:
        """All settings of the run."""
        return self.root / "args.yaml"

    @property
    def log(self) -> Path:
        """Every line that was printed."""
        return self.root / "train.log"

    @property
    def results(self) -> Path:
        """One row an epoch."""
        return self.root / "results.csv"

    @property
    def metrics(self) -> Path:
        """Numbers of the best epoch."""
        return self.root / "metrics.json"

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Looks whether a run can be kept here; a folder with a run needs `resume` or `overwrite`.

        Raises:
            UserError: If a file is in the way, there is a run already, or none to resume.
        """
        require_folder(self.root)
        if resume and not self.last.is_file() and len(self.read_results()) > 1:
            raise UserError(
                "there is no checkpoint to resume from",
                where=str(self.last),
                fix="train again, with --overwrite or another --out",
            )
        if not resume and not overwrite and self.root.is_dir() and any(self.root.iterdir()):
            raise UserError(
                "the run folder is not empty",
                where=str(self.root),
                fix="pass --resume to go on, --overwrite to start anew, or another --out",
            )

    def create(self, *, resume: bool, overwrite: bool) -> None:
        """Makes the folder, see `check`; without a checkpoint to resume from, the run begins anew.

        The checkpoint follows the first epoch's row of `results.csv`, so that there may be a row.
        """
        self.check(resume=resume, overwrite=overwrite)
        (self.root / "weights").mkdir(parents=True, exist_ok=True)
        if not resume or not self.last.is_file():
            for file in (self.results, self.log, self.metrics, self.best, self.last):
                file.unlink(missing_ok=True)

    def finished_epochs(self) -> int:
        """Epochs that the checkpoint knows; 0 where there is none. Results may be an epoch ahead.

        Raises:
            UserError: If the checkpoint cannot be read.
        """
        return self.read_checkpoint()["epoch"] + 1 if self.last.is_file() else 0

    def read_checkpoint(self) -> dict[str, Any]:
        """The checkpoint, its tensors read when they are needed.

        Raises:
            UserError: If there is none, or it cannot be read.
        """
        if not self.last.is_file():
            raise UserError(
                "this run has no checkpoint yet",
                where=str(self.last),
                fix="wait until `boxmask train` has finished an epoch",
            )
        try:
            return torch.load(self.last, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # a broken file can raise nearly anything
            raise UserError(
                "the checkpoint cannot be read",
                where=f"{self.last}: {str(error).splitlines()[0]}",
                fix="train again, with --overwrite or another --out",
            ) from error

    def write_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Writes `args.yaml` and `env.txt`."""
        text = yaml.safe_dump(dict(arguments), sort_keys=False, allow_unicode=True)
        self.arguments.write_text(text, encoding="utf-8")
        (self.root / "env.txt").write_text(describe_machine() + "\n", encoding="utf-8")

    def read_arguments(self) -> dict[str, Any] | None:
        """What `args.yaml` holds; None where there is no such file.

        Raises:
            UserError: If it holds something else.
        """
        if not self.arguments.is_file():
            return None
        try:
            content = yaml.safe_load(self.arguments.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            content = None
        if not isinstance(content, dict) or "data" not in content:
            raise UserError(
                "the file does not hold the arguments of a run",
                where=str(self.arguments),
                fix="bring it back as `boxmask train` wrote it, or train again",
            )
        return content

    def add_results(self, row: Mapping[str, Any]) -> None:
        """Appends an epoch to `results.csv`; rows of epochs that are done again are replaced."""
        rows = self.read_results()
        rows = [old for old in rows if int(old["epoch"]) < int(row["epoch"])]
        rows.append({name: _cell(value) for name, value in row.items()})
        header = list(dict.fromkeys(name for one in rows for name in one))
        with self.results.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            writer.writerows(rows)

    def read_results(self) -> list[dict[str, str]]:
        """The rows of `results.csv` so far."""
        if not self.results.is_file():
            return []
        with self.results.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Writes `metrics.json`; numbers that are not defined become null."""
        clean = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in metrics.items()
        }
        self.metrics.write_text(json.dumps(clean, indent=2) + "\n", encoding="utf-8")


def save_weights(file: Path, model: nn.Module, description: Mapping[str, Any]) -> None:
    """Writes weights with what is needed to build the model again.

    Args:
        file: a `.safetensors` file; its folder exists.
        model: whose state dict is saved.
        description: plain data: recipe, class names, ...
    """
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    with written_beside(file) as partial:
        save_file(tensors, partial, metadata={"boxmask": json.dumps(description)})


def load_weights(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and description from a file of `save_weights`.

    Raises:
        UserError: If the file is none of ours.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            description = json.loads((opened.metadata() or {})["boxmask"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except Exception as error:
        raise UserError(
            "these are not weights that boxmask saved",
            where=f"{file}: {error}",
            fix="name a run folder or its weights/best.safetensors",
        ) from error
    return tensors, description


def describe_machine() -> str:
    """Versions and hardware, one fact a line."""
    lines = [f"python {sys.version.split()[0]}", platform.platform()]
    for package in _PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    lines.append(f"cpu threads {torch.get_num_threads()}")
    if torch.cuda.is_available():
        lines += [f"gpu {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if not math.isfinite(value) else f"{value:.6g}"
    return str(value)
