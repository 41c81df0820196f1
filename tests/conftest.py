"""What all tests share: the slow references, fixed seeds, and GPU tests that wait for a GPU."""

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# `references` is a folder of loops that several tests compare with.
sys.path.insert(0, str(Path(__file__).parent))

# Without a GPU, Triton's kernels run in its interpreter.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# The same examples every time, and no limit on their time: machines differ.
settings.register_profile("boxmask", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("boxmask")


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a CUDA device; skipped where there is none")


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


@pytest.fixture
def set_threads():
    """Sets torch's threads for this test alone."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
