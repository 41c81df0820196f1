"""Memory that is freed: kept for the next step, or given back to the system."""

import ctypes
import os
from functools import lru_cache

# Of glibc's `mallopt`.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
NEVER = -1
AHEAD = 2**26
"""Bytes that are asked for beyond what is needed, so that the system is asked less often."""


def keep_freed_memory() -> None:
    """Freed memory stays with this process, and large blocks lie on large pages.

    A step on a CPU frees what the next one needs again. By default glibc gives large blocks back
    at once, and the system clears each page anew, up to a tenth of a step. For a process that
    trains and ends, not for a program that boxmask is only a part of. Does nothing where the C
    library is another one. Call it before torch has memory, for torch looks at its own setting
    once.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    change = getattr(_c_library(), "mallopt", None)
    if change is not None:
        for name, value in ((TRIM_THRESHOLD, NEVER), (TOP_PAD, AHEAD), (MMAP_MAX, 0)):
            change(name, value)


def give_back_memory() -> None:
    """Gives freed memory back to the system, where its C library can."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@lru_cache
def _c_library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if os.name == "posix" else None
