"""Real processes: what the system is asked for when blocks are freed and taken again."""

import ctypes
import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from boxmask.freed_memory import give_back_memory, keep_freed_memory

if {keep}:
    keep_freed_memory()
import torch


def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()


told = []
for turn in range(60):
    blocks = [torch.ones(size, 2**18) for size in (4, 24, 64)]
    if turn in (40, 59):
        told.append(resident())
    del blocks
told.append(resident())
give_back_memory()
print(*told, resident())
"""
LARGEST = 64 * 2**20


def has_glibc():
    return os.name == "posix" and hasattr(ctypes.CDLL(None), "mallopt")


def resident_bytes(*, keep):
    env = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    code = SCRIPT.format(keep=keep)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    return [int(number) for number in done.stdout.split()]


@pytest.mark.skipif(not has_glibc(), reason="the C library cannot be told to keep memory")
def test_freed_blocks_are_used_again_and_can_be_given_back():
    used, _, freed, _ = resident_bytes(keep=False)
    assert freed < used - LARGEST / 2
    early, used, freed, left = resident_bytes(keep=True)
    assert freed > used - LARGEST / 2
    assert used < early + LARGEST / 2  # turns take the same blocks in the end
    assert left < freed - LARGEST / 2
