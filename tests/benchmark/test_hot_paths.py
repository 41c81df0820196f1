"""Ours and the plain form give the same values and gradients."""

import pytest
import torch

from boxmask.benchmark.hot_paths import color_path, dynamic_path, hot_paths, pairwise_path
from boxmask.benchmark.speed import difference

CPU = torch.device("cpu")


@pytest.mark.parametrize("make", [pairwise_path, dynamic_path, color_path])
@pytest.mark.parametrize(("size", "num_objects"), [((64, 96), 1), ((72, 40), 5)])
def test_both_forms_agree(make, size, num_objects):
    path = make(size, num_objects, CPU)
    ours, plain = path.ours(), path.plain()
    assert len(ours) == len(plain)
    assert difference(ours, plain) < 1e-5
    assert all(one.abs().max() > 0 for one in ours)


def test_runs_can_be_repeated():
    for path in hot_paths((64, 64), 2, CPU):
        assert difference(path.ours(), path.ours()) < 1e-6


def test_least_work_by_hand():
    pairwise = pairwise_path((64, 96), 3, CPU)
    # 16 x 24 cells: logits in, gradients out, and eight bools a cell of the picture.
    assert pairwise.least_bytes == pytest.approx(16 * 24 * (3 * 4 * 2 + 8))
    dynamic = dynamic_path((64, 96), 3, CPU)
    # 8 x 12 cells of 3 objects, 18 x 8 + 8 x 8 + 8 products, thrice, two operations each.
    assert dynamic.least_flops == 3 * 8 * 12 * 216 * 3 * 2
