"""Stored values of one file, and how far ours are from them."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from boxmask.errors import UserError

# What arrays become, by NumPy's letter for the kind of their numbers.
KINDS = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a value may be off: `absolute` + `relative` * |stored value|."""

    relative: float = 1e-4
    absolute: float = 1e-5


STANDARD = Tolerance()
WHOLE = Tolerance(relative=0.0, absolute=0.5)  # whole numbers must be equal


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One stored array beside ours.

    Attributes:
        name: what was compared, the array's key first.
        count: values compared.
        largest_error: largest absolute difference; infinite where a value is missing or no number.
        of_tolerance: largest difference as a share of what its value may be off; more than 1 is
            beyond tolerance.
    """

    name: str
    count: int
    largest_error: float
    of_tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every value is within tolerance."""
        return self.of_tolerance <= 1


class StoredValues:
    """The arrays of one file as tensors: float32, int64 or bool. Texts are left out.

    Args:
        file: an `.npz` file.

    Raises:
        UserError: If the file cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._values = _read(file)

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._values:
            raise UserError(
                f"{self.file.name}: the key {key!r} is missing",
                where=str(self.file),
                fix=f"it has {', '.join(self._values) or 'no numbers'}",
            )
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def matching(self, pattern: str) -> dict[str, re.Match[str]]:
        """Keys that a regular expression matches in full.

        Raises:
            UserError: If there is none.
        """
        matches = {key: match for key in self if (match := re.fullmatch(pattern, key))}
        if not matches:
            raise UserError(
                f"{self.file.name}: no key looks like {pattern!r}",
                where=str(self.file),
                fix=f"it has {', '.join(self._values) or 'no numbers'}",
            )
        return matches

    def compare(
        self,
        key: str,
        ours: Tensor,
        tolerance: Tolerance = STANDARD,
        *,
        where: Tensor | None = None,
        name: str = "",
    ) -> Comparison:
        """Compares an array with ours.

        Args:
            key: of the stored array.
            ours: of the same shape, but for dimensions of length 1.
            tolerance: how far values may be off.
            where: bool, which values to compare, in the shape of ours; None for all.
            name: what is compared, where that is not the whole array.

        Raises:
            UserError: If the shapes differ.
        """
        stored = self[key]
        if stored.squeeze().shape != ours.squeeze().shape:
            raise UserError(
                f"{self.file.name}: {key!r} has shape {tuple(stored.shape)}, but "
                f"{tuple(ours.shape)} follows from the inputs",
                where=str(self.file),
            )
        stored = stored.reshape(ours.shape)
        if where is not None:
            ours, stored = ours[where], stored[where]
        return compared(name or key, ours, stored, tolerance)


def compared(
    name: str, ours: Tensor, stored: Tensor, tolerance: Tolerance = STANDARD
) -> Comparison:
    """Compares two tensors of one shape, value by value, in float64."""
    ours, stored = ours.detach().double().flatten(), stored.double().flatten()
    error = _or_infinite((ours - stored).abs()).masked_fill(ours == stored, 0.0)
    allowed = tolerance.absolute + tolerance.relative * stored.abs()
    share = _or_infinite(error / allowed).masked_fill(error == 0, 0.0)
    return Comparison(
        name=name,
        count=error.numel(),
        largest_error=float(error.max()) if error.numel() else 0.0,
        of_tolerance=float(share.max()) if share.numel() else 0.0,
    )


def _or_infinite(values: Tensor) -> Tensor:
    """Infinity where a value is no number."""
    return values.masked_fill(values.isnan(), torch.inf)


def _read(file: Path) -> dict[str, Tensor]:
    broken = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        stored = np.load(file, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array without a name")
        with stored:
            arrays = {key: np.asarray(stored[key]) for key in stored}
    except broken as error:
        raise UserError(
            f"{file.name}: cannot be read as .npz",
            where=f"{file}: {error}",
            fix="write it with numpy.savez, without pickled objects",
        ) from error
    return {key: _as_tensor(array) for key, array in arrays.items() if array.dtype.kind in KINDS}


def _as_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=KINDS[array.dtype.kind]))
