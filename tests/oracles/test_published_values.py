"""Every stored value of the published code, and where ours does the right thing instead."""

import pytest
import torch

from boxmask.benchmark.reference import COMPARED, check_file
from boxmask.ops.affinity import color_similarity, neighbor_valid

DILATION = 2


@pytest.mark.parametrize("name", COMPARED)
def test_stored_values(stored_file, name):
    report = check_file(stored_file(name))
    assert report.status == "ok", report.line()


def test_edges_with_one_invalid_end_teach_there_but_not_here(oracle):
    values = oracle("color_affinity")
    valid = values["valid_mask"][None] > 0
    one_sided = (values["affinity"][None] > 0) & ~neighbor_valid(valid, DILATION)
    assert one_sided.any()
    assert not color_similarity(values["lab"][None], valid, DILATION)[one_sided].any()


def test_no_stored_edge_leaves_the_map(oracle):
    values = oracle("pairwise_loss")
    similar = values["affinity"] >= float(values["affinity_threshold"])
    in_map = neighbor_valid(torch.ones_like(similar[:1]), DILATION)[0]
    assert not (similar & ~in_map).any()
