"""Work for several threads, on the very threads that torch's own operators run on."""

import ctypes
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import torch

Work = Callable[[], None]

RUNTIMES = ("libgomp", "libomp", "libiomp5")
"""Names that libraries of OpenMP begin with: GCC's, LLVM's and Intel's."""

_ON_EACH = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def own_cores() -> list[int]:
    """Numbers of the cores that this process may run on; all where the system cannot tell."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def even_parts(count: int, parts: int) -> list[slice]:
    """0 to `count` cut into `parts` runs of nearly one length; empty ones are left out."""
    edges = [count * part // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges) if stop > start]


def do_all(works: Sequence[Work]) -> None:
    """Does each piece of work once, on as many threads as torch may use, and waits for all.

    Torch's idle threads do not leave their cores for a while but look for more to do, so threads of
    our own would share the cores with them, and two would be no faster than one. Where torch runs
    on OpenMP, these are the same threads. Elsewhere they are threads of our own. As with torch's
    operators, a process that was forked away from one that has worked must set one thread.

    Args:
        works: of which each leaves Python while it works, or they would wait for each other.

    Raises:
        BaseException: What the first piece that failed raised; those that had begun have ended.
    """
    threads = min(torch.get_num_threads(), len(works))
    if threads <= 1:
        for work in works:
            work()
        return
    openmp = torch_openmp()
    if openmp is None:
        _on_own_threads(works, threads)
    else:
        _on_openmp(openmp, works, threads)


@lru_cache(maxsize=1)
def torch_openmp() -> ctypes.CDLL | None:
    """The OpenMP library that torch uses; None where that is not known, or it lacks what we need.

    Threads ask it for work by `GOMP_parallel`, which compiled code calls too: GCC's library, and
    those of LLVM and Intel, which take its place, all have it.
    """
    if not torch.backends.openmp.is_available():
        return None
    file = _of_torch(_loaded_files())
    if file is None:
        return None
    try:
        library = ctypes.CDLL(str(file))
        library.GOMP_parallel.argtypes = [_ON_EACH, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        library.GOMP_parallel.restype = None
        _ = library.omp_get_thread_num, library.omp_get_num_threads
    except (OSError, AttributeError):
        return None
    return library


def _loaded_files() -> set[Path]:
    """The files that this process has mapped; none where the system does not tell."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    parts = (line.split(maxsplit=5) for line in lines)
    return {Path(one[5]) for one in parts if len(one) == 6 and one[5].startswith("/")}


def _of_torch(files: Iterable[Path]) -> Path | None:
    """The OpenMP library among `files` that is torch's: the only one, or the one torch brought."""
    found = [one for one in files if one.name.startswith(RUNTIMES)]
    if len(found) > 1:
        home = Path(torch.__file__).resolve().parent
        found = [one for one in found if {home, home.with_name("torch.libs")} & {*one.parents}]
    return found[0] if len(found) == 1 else None


def _on_openmp(library: ctypes.CDLL, works: Sequence[Work], threads: int) -> None:
    failures: list[tuple[int, BaseException]] = []

    def on_each(_: int | None) -> None:
        # As many threads come as there are to be had, perhaps fewer.
        for index in range(library.omp_get_thread_num(), len(works), library.omp_get_num_threads()):
            try:
                works[index]()
            except BaseException as failure:  # noqa: BLE001: nothing passes through C
                failures.append((index, failure))

    library.GOMP_parallel(_ON_EACH(on_each), None, threads, 0)
    if failures:
        raise min(failures, key=lambda one: one[0])[1]


def _on_own_threads(works: Sequence[Work], threads: int) -> None:
    pool = _pool(threads - 1, os.getpid())
    waiting: list[Future[None]] = [pool.submit(work) for work in works[1:]]
    try:
        works[0]()  # this thread would only wait
    finally:
        failures = [failure for one in waiting if (failure := one.exception()) is not None]
    if failures:
        raise failures[0]


@lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads of this very process: those of a process that was forked away stay with it."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"boxmask-{process}")
