"""Work in several processes, each with its share of the cores."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from multiprocessing.queues import Queue
from typing import TypeVar

import torch

from boxmask.freed_memory import keep_freed_memory

Given = TypeVar("Given")
Made = TypeVar("Made")


def side_by_side(
    work: Callable[[Given], Made], given: Sequence[Given], jobs: int
) -> Iterator[Made]:
    """What `work` makes of each, in the order in which they are done.

    Args:
        work: a function that other processes find; what it takes and makes is sent between them.
        given: one piece of work each.
        jobs: processes.

    Raises:
        BaseException: What a piece of work raised. Work that has begun is waited for; the rest is
            left out.
    """
    context = get_context("spawn")  # a process that was forked away cannot use a GPU
    shares = context.Queue()
    for share in shares_of_cores(jobs):
        shares.put(share)
    rest, running = iter(given), set[Future[Made]]()
    with ProcessPoolExecutor(jobs, context, _begin, (shares,)) as pool:
        while True:
            # No more than can begin at once: what the pool has been given is not taken back.
            for one in islice(rest, jobs - len(running)):
                running.add(pool.submit(_interruptible, work, one))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (one.result() for one in done)


def shares_of_cores(jobs: int) -> list[list[int]]:
    """The cores of this process dealt out to `jobs`; those that get none of their own share one."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    cores = cores or list(range(os.cpu_count() or 1))
    edges = [len(cores) * job // jobs for job in range(jobs + 1)]
    return [cores[edges[job] : edges[job + 1]] or [cores[job % len(cores)]] for job in range(jobs)]


def _begin(shares: "Queue[list[int]]") -> None:
    """Takes a share of the cores; who asks how many there are, is told of these alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who waits for work is told by the first process
    keep_freed_memory()
    mine = shares.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, mine)
    torch.set_num_threads(len(mine))


def _interruptible(work: Callable[[Given], Made], given: Given) -> Made:
    """Work that Ctrl+C ends, so that a training writes down where it stopped."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return work(given)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
