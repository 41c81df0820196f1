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

for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(size, 2**18) for size in (4, 24, 64)]
    del blocks
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
give_back_memory()
pages = int(open("/proc/self/statm").read().split()[1])
print(faults, pages * resource.getpagesize())
"""


def has_glibc():
    return os.name == "posix" and hasattr(ctypes.CDLL(None), "mallopt")


def faults_and_bytes(*, keep):
    env = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    code = SCRIPT.format(keep=keep)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
    )
    return [int(number) for number in done.stdout.split()]


@pytest.mark.skipif(not has_glibc(), reason="the C library cannot be told to keep memory")
def test_freed_blocks_are_used_again_and_can_be_given_back():
    faults, left = faults_and_bytes(keep=False)
    kept_faults, kept_left = faults_and_bytes(keep=True)
    assert kept_faults < 100
    assert faults > 5 * kept_faults
    assert kept_left < left + 40e6
