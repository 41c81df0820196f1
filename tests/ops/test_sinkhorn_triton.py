"""The assignment's steps for GPUs, in Triton's interpreter where there is no GPU."""

import pytest
import torch

from boxmask.prototypes import sinkhorn as module

pytest.importorskip("triton")
from boxmask.ops.sinkhorn_triton import fits, scaled

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("problems", "pixels", "prototypes", "steps"),
    [(1, 1, 1, 1), (3, 50, 10, 29), (2, 1024, 10, 9), (2, 7, 33, 4)],
)
def test_equals_the_plain_form(problems, pixels, prototypes, steps):
    random = torch.Generator().manual_seed(pixels)
    shape = (problems, pixels, prototypes)
    shares = torch.randn(shape, generator=random, dtype=torch.float64).mul(8).exp()
    shares[:, pixels // 2 + 1 :] = 0  # pixels that do not exist
    mass = torch.rand(problems, prototypes, generator=random, dtype=torch.float64) * pixels
    mass[0, -1] = 0  # a prototype that gets nothing
    found = scaled(shares.to(DEVICE), mass.to(DEVICE), steps, module.TINY)
    expected = module._scaled_arrays(shares, mass, steps)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-9, atol=0)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="there is no GPU")
def test_the_assignment_is_the_same(monkeypatch):
    similarity = torch.rand(3, 500, 10, generator=torch.Generator().manual_seed(0))
    found = [module.sinkhorn(similarity.to(DEVICE), epsilon=0.05, tolerance=0.0)]
    monkeypatch.setattr(module, "fused_kernels_run", lambda device: False)
    found.append(module.sinkhorn(similarity.to(DEVICE), epsilon=0.05, tolerance=0.0))
    torch.testing.assert_close(*found)


def test_large_problems_take_the_plain_form():
    assert fits(torch.empty(2, 2048, 10, device="meta"))
    assert not fits(torch.empty(2, 2049, 10, device="meta"))
