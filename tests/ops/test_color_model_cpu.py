"""Sums of Gaussians against the definition in double precision."""

import pytest
import torch

from boxmask.ops.color_model_cpu import weighted_gaussians


def by_definition(asked, known, weights):
    distance = (asked[:, :, None] - known[:, None]).double().square().sum(dim=-1)
    return ((-distance / 2).exp() * weights[:, None].double()).sum(dim=-1)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("count", "spread"), [(1, 0.1), (5, 1.0), (5, 3.0)])
def test_equals_the_definition(count, spread, threads, set_threads):
    asked, known = torch.randn(count, 50, 5) * spread, torch.randn(count, 70, 5) * spread
    weights = torch.rand(count, 70) * (torch.rand(count, 70) < 0.5)
    set_threads(threads)
    found = weighted_gaussians(asked, known, weights)
    expected = by_definition(asked, known, weights)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-14)


def test_far_apart_without_weight_and_without_objects():
    asked, known = torch.zeros(2, 3, 5), torch.full((2, 4, 5), 1e4)
    assert weighted_gaussians(asked, known, torch.ones(2, 4)).max() < 1e-15
    assert torch.equal(weighted_gaussians(asked, asked, torch.zeros(2, 3)), torch.zeros(2, 3))
    assert weighted_gaussians(asked[:0], known[:0], torch.ones(0, 4)).shape == (0, 3)


def test_parts_of_larger_tensors():
    asked, known = torch.randn(6, 5, 4).mT[1:3], torch.randn(3, 8, 6)[1:, ::2, :5]
    weights = torch.rand(4, 3).T[:2]
    torch.testing.assert_close(
        weighted_gaussians(asked, known[:, :4], weights).double(),
        by_definition(asked, known[:, :4], weights),
        rtol=1e-5,
        atol=2e-14,
    )
