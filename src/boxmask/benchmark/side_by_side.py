"""Work in several processes, each with its share of the cores."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.queues import Queue
from typing import Any, TypeVar

import torch

from boxmask.errors import UserError
from boxmask.freed_memory import keep_freed_memory
from boxmask.ops.threads import even_parts, own_cores

Given = TypeVar("Given")
Made = TypeVar("Made")

_stop = threading.Event()  # Ctrl+C came between two pieces of work


def side_by_side(
    work: Callable[[Given], Made], given: Sequence[Given], jobs: int
) -> Iterator[Made]:
    """What `work` makes of each, in the order in which they are done.

    Args:
        work: a function that other processes find; what it takes and makes is sent between them.
        given: one piece of work each.
        jobs: processes.

    Raises:
        UserError: If the system ends a process; the others end with it.
        BaseException: What a piece of work raised. Work that has begun is waited for; the rest is
            left out.
    """
    context = get_context("spawn")  # a process that was forked away cannot use a GPU
    shares = context.Queue()
    threads = max(torch.get_num_threads() // jobs, 1)
    for cores in shares_of_cores(jobs):
        shares.put((cores, min(len(cores), threads)))
    rest, running = iter(given), set[Future[Made]]()
    try:
        with ProcessPoolExecutor(jobs, context, _begin, (shares,)) as pool:
            while True:
                # No more than can begin at once: what the pool has been given is not taken back.
                for one in islice(rest, jobs - len(running)):
                    running.add(pool.submit(_interruptible, work, one))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (one.result() for one in done)
    except BrokenProcessPool as error:
        raise UserError(
            "the system ended one of the processes, perhaps because memory ran out",
            fix="the same command with fewer --jobs; what is finished is kept",
        ) from error


def shares_of_cores(jobs: int) -> list[list[int]]:
    """The cores of this process dealt out to `jobs`; those that get none of their own share one."""
    cores = own_cores()
    shares = [cores[part] for part in even_parts(len(cores), jobs)]
    return [shares[job % len(shares)] for job in range(jobs)]


def _begin(shares: "Queue[tuple[list[int], int]]") -> None:
    """Takes a share of cores and threads.

    Where the system can hold a process to its cores, whoever asks how many there are is told of
    these alone.
    """
    signal.signal(signal.SIGINT, _stop_later)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    cores, threads = shares.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)


def _stop_later(*_: Any) -> None:
    """Ctrl+C while nothing is being done: what comes next does not begin."""
    _stop.set()


def _end_with_parent() -> None:
    """Nobody would take what this process makes once the first one is gone."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _interruptible(work: Callable[[Given], Made], given: Given) -> Made:
    """Work that Ctrl+C ends, so that a training writes down where it stopped."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if _stop.is_set():
            raise KeyboardInterrupt
        return work(given)
    finally:
        signal.signal(signal.SIGINT, _stop_later)
