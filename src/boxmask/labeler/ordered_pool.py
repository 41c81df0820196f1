"""Work in other processes whose results come back in order, with bounded memory."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Items for each process that may wait for it."""


class OrderedPool:
    """Runs a function on items in other processes while the caller makes more of them.

    Args:
        num_processes: 0 does the work in the caller's process.
    """

    def __init__(self, num_processes: int) -> None:
        self.num_processes = num_processes
        self._processes: ProcessPoolExecutor | None = None
        if num_processes:
            self._processes = ProcessPoolExecutor(num_processes, initializer=_begin)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._processes is not None:
            self._processes.shutdown(wait=True, cancel_futures=True)

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Each item with its result, in the order of the items.

        At most `AHEAD` items for each process are taken before the first one's result is asked
        for. What the function raises comes out here.
        """
        if self._processes is None:
            for item in items:
                yield item, function(item)
            return
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, self._processes.submit(function, item)))
            while waiting and (waiting[0][1].done() or len(waiting) > AHEAD * self.num_processes):
                yield _next(waiting)
        while waiting:
            yield _next(waiting)


def _next(waiting: deque[tuple[Item, Future[Result]]]) -> tuple[Item, Result]:
    item, result = waiting.popleft()
    return item, result.result()


def _begin() -> None:
    """Makes a process one thread wide, deaf to Ctrl-C, and mortal with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends this process
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent cannot end its processes; they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
