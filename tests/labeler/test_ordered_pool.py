"""Results of other processes come in order, few at a time, and no process outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from boxmask.labeler.ordered_pool import AHEAD, OrderedPool

PARENT = """
import os
from boxmask.labeler.ordered_pool import OrderedPool

def told(_):
    return os.getpid()

with OrderedPool(2) as pool:
    for _, number in pool.map(told, range(8)):
        print(number, flush=True)
    input()
"""


def late_if_even(number):
    if number % 2 == 0:
        time.sleep(0.05)
    return number * 10, os.getpid()


def fails_at_three(number):
    if number == 3:
        raise ValueError("three")
    return number


@pytest.mark.parametrize("num_processes", [0, 2])
def test_results_come_in_order(num_processes):
    with OrderedPool(num_processes) as pool:
        made = [*pool.map(late_if_even, range(9))]
    assert [(item, result[0]) for item, result in made] == [(i, i * 10) for i in range(9)]
    here = {result[1] == os.getpid() for _, result in made}
    assert here == {num_processes == 0}


def test_few_items_wait():
    taken = []

    def items():
        for number in range(30):
            taken.append(number)
            yield number

    with OrderedPool(2) as pool:
        for count, _ in enumerate(pool.map(late_if_even, items()), start=1):
            assert len(taken) - count <= AHEAD * 2 + 1
    assert taken == [*range(30)]


@pytest.mark.parametrize("num_processes", [0, 2])
def test_errors_come_out_at_their_place(num_processes):
    with OrderedPool(num_processes) as pool:
        made = pool.map(fails_at_three, range(8))
        assert [next(made)[1] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(made)


def test_a_killed_parent_leaves_no_process():
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    children = {int(parent.stdout.readline()) for _ in range(8)}
    assert children
    assert all(alive(child) for child in children)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until = time.monotonic() + 20
    while any(alive(child) for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(child) for child in children)


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
