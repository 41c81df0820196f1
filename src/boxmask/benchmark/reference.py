"""Compares stored values of the published BoxInst and SIM code with what this package computes.

`python -m boxmask.benchmark.reference DIR` reads the `.npz` files of a folder and prints one line
for each: how many values were compared, the largest absolute error, the largest error as a share
of what its value may be off (rtol 1e-4, atol 1e-5, unless a comment in `reference_terms`,
`reference_correction` or `reference_heads` says why not), and "ok", "BEYOND" that tolerance, or
"missing". The exit code is 0 when all files that are there agree, else 1; 2 without a folder.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from boxmask.benchmark.reference_comparison import Comparison, StoredValues
from boxmask.benchmark.reference_correction import copy_paste, self_correction
from boxmask.benchmark.reference_heads import condinst_heads_infer, condinst_heads_weights
from boxmask.benchmark.reference_terms import (
    aligned_bilinear,
    color_affinity,
    dice_loss,
    feature_affinity,
    focal_loss_official,
    pairwise_loss,
    projection_loss,
    sinkhorn_assignment,
)
from boxmask.benchmark.reference_training import condinst_heads_train
from boxmask.errors import UserError

Say = Callable[[str], None]

COMPARED: dict[str, Callable[[StoredValues], list[Comparison]]] = {
    "aligned_bilinear": aligned_bilinear,
    "color_affinity": color_affinity,
    "condinst_heads_infer": condinst_heads_infer,
    "condinst_heads_train": condinst_heads_train,
    "condinst_heads_weights": condinst_heads_weights,
    "copy_paste": copy_paste,
    "dice_loss": dice_loss,
    "feature_affinity": feature_affinity,
    "focal_loss_official": focal_loss_official,
    "pairwise_loss": pairwise_loss,
    "projection_loss": projection_loss,
    "self_correction": self_correction,
    "sinkhorn": sinkhorn_assignment,
}
USER_ERROR = 2


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """How one file compares.

    Attributes:
        name: of the file.
        comparisons: one an array, or a part of one; empty where the file is missing or unusable.
        error: why the file cannot be compared; empty where it can.
        known: whether the name says what the file holds.
    """

    name: str
    comparisons: tuple[Comparison, ...] = ()
    error: str = ""
    known: bool = True

    @property
    def status(self) -> str:
        """`ok`, `BEYOND` (tolerance), `missing`, `unusable` or `unknown`."""
        if not self.known:
            return "unknown"
        if self.error:
            return "unusable"
        if not self.comparisons:
            return "missing"
        return "ok" if all(one.ok for one in self.comparisons) else "BEYOND"

    @property
    def count(self) -> int:
        """Values compared."""
        return sum(one.count for one in self.comparisons)

    @property
    def largest_error(self) -> float:
        """Largest absolute error; infinite where something is no number."""
        return max((one.largest_error for one in self.comparisons), default=0.0)

    @property
    def of_tolerance(self) -> float:
        """Largest error as a share of what its value may be off."""
        return max((one.of_tolerance for one in self.comparisons), default=0.0)

    def line(self) -> str:
        """One line for people; names the arrays that are beyond tolerance."""
        name = f"{self.name:<28}"
        if self.status in {"missing", "unknown"}:
            return f"{name}{self.status}"
        if self.status == "unusable":
            return f"{name}unusable: {self.error}"
        beyond = ", ".join(one.name for one in self.comparisons if not one.ok)
        return (
            f"{name}{self.count:>9,} values   largest error {self.largest_error:.1e}"
            f"   {self.of_tolerance:.3g} of tolerance   {self.status}"
            f"{': ' + beyond if beyond else ''}"
        )

    def as_json(self) -> dict[str, Any]:
        """For a JSON file; numbers that are not finite become None."""
        rows = [
            {key: _finite(value) for key, value in asdict(one).items()} for one in self.comparisons
        ]
        return {
            "file": self.name,
            "status": self.status,
            "values": self.count,
            "largest_error": _finite(self.largest_error),
            "of_tolerance": _finite(self.of_tolerance),
            "error": self.error,
            "comparisons": rows,
        }


def check_folder(folder: Path, say: Say = print) -> list[FileReport]:
    """Compares all files of a folder; those of other names are said to be unknown.

    Raises:
        UserError: If the folder does not exist, or holds none of the files.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", fix="name a folder with .npz files")
    if not any((folder / f"{name}.npz").is_file() for name in COMPARED):
        raise UserError(f"no file to compare in {folder}", fix=f"expected {', '.join(COMPARED)}")
    reports = []
    for name in sorted({*COMPARED, *(file.stem for file in folder.glob("*.npz"))}):
        reports.append(check_file(folder / f"{name}.npz"))
        say(reports[-1].line())
    return reports


def check_file(file: Path) -> FileReport:
    """Compares one file, whose name says what it holds."""
    if file.stem not in COMPARED:
        return FileReport(name=file.name, known=False)
    if not file.is_file():
        return FileReport(name=file.name)
    try:
        comparisons = COMPARED[file.stem](StoredValues(file))
    except UserError as error:
        return FileReport(name=file.name, error=_one_line(error))
    except (ValueError, RuntimeError, IndexError) as error:  # arrays that do not fit together
        first = str(error).partition("\n")[0]
        return FileReport(name=file.name, error=f"its arrays do not fit together: {first}")
    return FileReport(name=file.name, comparisons=tuple(comparisons))


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line, compares, prints.

    Returns:
        0 when all files that are there agree, 1 when one does not or cannot be used, 2 when there
        is nothing to compare.
    """
    parser = argparse.ArgumentParser(
        prog="python -m boxmask.benchmark.reference", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="with .npz files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there too")
    given = parser.parse_args(arguments)
    try:
        if given.folder is None:
            raise UserError("no folder given", fix="name a folder with .npz files")
        reports = check_folder(given.folder, say=partial(print, flush=True))
        if given.json is not None:
            _write_json(given.json, reports)
    except UserError as error:
        sys.stderr.write(f"error: {_one_line(error)}\n")
        return USER_ERROR
    return int(any(report.status in {"BEYOND", "unusable"} for report in reports))


def _write_json(file: Path, reports: list[FileReport]) -> None:
    rows = [report.as_json() for report in reports]
    try:
        file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {file}", where=error.strerror or "") from error


def _one_line(error: UserError) -> str:
    return "; ".join(part for part in (error.what, error.where, error.fix) if part)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.exit(main())
