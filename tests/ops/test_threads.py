"""Work is done once each, side by side, and no failure is lost."""

import threading
from pathlib import Path

import pytest
import torch

from boxmask.ops import threads
from boxmask.ops.threads import do_all


@pytest.fixture(params=["torch's threads", "own threads"])
def kind(request, monkeypatch):
    if request.param == "own threads":
        monkeypatch.setattr(threads, "torch_openmp", lambda: None)
    elif threads.torch_openmp() is None:
        pytest.skip("this torch does not run on an OpenMP library that can be found")


@pytest.fixture(params=[1, 2, 5])
def count(request, set_threads):
    set_threads(request.param)
    return request.param


@pytest.mark.usefixtures("kind", "count")
@pytest.mark.parametrize("number", [0, 1, 2, 7])
def test_each_is_done_once(number):
    done = [0] * number

    def one(index):
        done[index] += 1

    for _ in range(50):
        do_all([lambda index=index: one(index) for index in range(number)])
    assert done == [50] * number


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("count", [2], indirect=True)
def test_two_are_done_side_by_side(count):
    """Each waits until the other has come."""
    meeting = threading.Barrier(count, timeout=20)
    do_all([meeting.wait] * count)
    assert not meeting.broken


@pytest.mark.usefixtures("kind", "count")
@pytest.mark.parametrize("count", [1], indirect=True)
def test_one_thread_is_the_callers_own():
    seen = []
    do_all([lambda: seen.append(threading.get_ident())] * 3)
    assert seen == [threading.get_ident()] * 3


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("count", [2, 5], indirect=True)
@pytest.mark.parametrize("failing", [(0,), (1,), (1, 2)])
@pytest.mark.parametrize("kind_of_failure", [ValueError, KeyboardInterrupt])
def test_the_first_failure_comes_out_after_all_others_are_done(count, failing, kind_of_failure):
    done = []

    def work(index):
        if index in failing:
            raise kind_of_failure(f"work {index}")
        done.append(index)

    with pytest.raises(kind_of_failure, match=f"work {failing[0]}"):
        do_all([lambda index=index: work(index) for index in range(count + 2)])
    if 0 not in failing:
        assert sorted(done) == [index for index in range(count + 2) if index not in failing]
    do_all([lambda: done.append(-1)] * 3)  # and the threads can go on
    assert done.count(-1) == 3


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), None),
        (("/usr/lib/libc.so.6",), None),
        (("/usr/lib/libgomp.so.1", "/usr/lib/libc.so.6"), "/usr/lib/libgomp.so.1"),
        (("/opt/conda/lib/libiomp5.so",), "/opt/conda/lib/libiomp5.so"),
        (("/usr/lib/libgomp.so.1", "TORCH/lib/libgomp-a1.so.1"), "TORCH/lib/libgomp-a1.so.1"),
        (("/x/sklearn.libs/libgomp.so", "TORCH.libs/libgomp.so"), "TORCH.libs/libgomp.so"),
        (("/usr/lib/libgomp.so.1", "/usr/lib/libomp.so.5"), None),
    ],
)
def test_the_library_of_torch_is_told_from_others(names, expected):
    home = str(Path(torch.__file__).resolve().parent)
    files = {Path(name.replace("TORCH", home)) for name in names}
    found = threads._of_torch(files)
    assert found == (None if expected is None else Path(expected.replace("TORCH", home)))
