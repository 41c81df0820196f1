"""Loops compiled by numba: kept on disk, so that only the first use waits for them."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from numba import njit

# Sums may be taken in any order, but a NaN stays a NaN: training looks for them.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}}
"""What all our loops are compiled with; they leave Python while they run.

Code that numba keeps on disk knows of changes in its own file alone, and not of these: delete it
after a change (`*.nbc`, `*.nbi`). What loops need from other files is handed to them.
"""


@lru_cache
def compiled(function: Callable[..., None], signature: Any) -> Callable[..., None]:
    """A function of arrays, compiled for one signature of numba's types."""
    try:
        return njit(signature, cache=True, **OPTIONS)(function)
    except RuntimeError:  # there is no folder to write to
        return njit(signature, **OPTIONS)(function)
