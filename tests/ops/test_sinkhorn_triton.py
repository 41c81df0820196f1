"""The assignment's steps for GPUs, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from boxmask.prototypes import sinkhorn as module

pytest.importorskip("triton")
from boxmask.ops.sinkhorn_triton import fits

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("problems", "pixels", "prototypes", "iterations"),
    [(1, 1, 1, 1), (3, 50, 10, 30), (2, 1024, 10, 11), (2, 7, 33, 4), (2, 20, 3, 10)],
)
def test_equals_the_plain_form(monkeypatch, problems, pixels, prototypes, iterations):
    random = torch.Generator().manual_seed(pixels)
    similarity = torch.randn(problems, pixels, prototypes, generator=random) * 2
    valid = torch.arange(pixels) <= pixels // 2  # others do not exist
    valid = valid.expand(problems, pixels).clone()
    marginals = torch.rand(problems, prototypes, generator=random)
    if problems > 1:
        valid[1] = False  # a problem without pixels
        marginals[0, -1] = 0  # a prototype that gets nothing
    marginals /= marginals.sum(dim=1, keepdim=True)
    numbers = {"epsilon": 0.05, "tolerance": 0.0, "max_iterations": iterations}
    expected = module.sinkhorn(similarity, marginals=marginals, valid=valid, **numbers)
    assert expected.any()
    monkeypatch.setattr(module, "fused_kernels_run", lambda kernels, device: True)
    similarity, marginals, valid = (one.to(DEVICE) for one in (similarity, marginals, valid))
    found = module.sinkhorn(similarity, marginals=marginals, valid=valid, **numbers).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_similarities_that_would_overflow(monkeypatch):
    similarity = torch.randn(2, 30, 4) * 1e4
    numbers = {"epsilon": 0.05, "tolerance": 0.0, "max_iterations": 30}
    expected = module.sinkhorn(similarity, **numbers)
    monkeypatch.setattr(module, "fused_kernels_run", lambda kernels, device: True)
    found = module.sinkhorn(similarity.to(DEVICE), **numbers).cpu()
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="there is no GPU")
def test_the_assignment_is_the_same(monkeypatch):
    similarity = torch.rand(3, 500, 10, generator=torch.Generator().manual_seed(0))
    found = [module.sinkhorn(similarity.to(DEVICE), epsilon=0.05, tolerance=0.0)]
    monkeypatch.setattr(module, "fused_kernels_run", lambda kernels, device: False)
    found.append(module.sinkhorn(similarity.to(DEVICE), epsilon=0.05, tolerance=0.0))
    torch.testing.assert_close(*found)


def test_large_problems_take_the_plain_form():
    assert fits(torch.empty(2, 2048, 10, device="meta"))
    assert not fits(torch.empty(2, 2049, 10, device="meta"))
