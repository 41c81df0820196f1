"""Runs for tests, by functions that other processes find."""

import os
import signal
import time

import torch

from boxmask.api.train import TrainedRun
from boxmask.benchmark.run_list import ListedRun, RunSteps
from boxmask.errors import UserError


def train(data, *, out, say, **options):
    """Says who it is, and waits for another; fails or stays where the options say so."""
    say("not heard")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    (out / "begun").touch()
    if options.get("fails"):
        raise UserError("no such picture", where="a.json:3", fix="look there")
    others = options.get("others", 1)
    stop = time.monotonic() + 60
    while len(list(out.parent.glob("*/begun"))) < others and time.monotonic() < stop:
        time.sleep(0.02)
    time.sleep(options.get("seconds", 0))
    numbers = {"process": os.getpid(), "threads": torch.get_num_threads(), "cores": sum(cores)}
    return TrainedRun(dir=out, best=out, metrics=numbers)


STEPS = RunSteps(train=train)


def listed(folder, *options):
    return [
        ListedRun(folder=folder / f"run{n}", data=folder / "data", options=one)
        for n, one in enumerate(options)
    ]


class SlowToArrive:
    """Takes two seconds until another process has it; touches `begun` as it starts to."""

    def __init__(self, begun):
        self.begun = begun

    def __reduce__(self):
        return _arrive, (self.begun,)


def _arrive(begun):
    begun.touch()
    time.sleep(2)
    return SlowToArrive(begun)


def touch_beside(given):
    """Shows that the work was done."""
    (given.begun.parent / "done.json").touch()


def die(_):
    """As the system ends a process when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
