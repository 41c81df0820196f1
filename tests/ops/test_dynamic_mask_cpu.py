"""The compiled mask head against the plain one in float64."""

import os
import subprocess
import sys

import pytest
import torch

from boxmask.ops.dynamic_mask import _three_layers, dynamic_mask_logits, num_dynamic_parameters
from boxmask.ops.dynamic_mask_cpu import BLOCK, FusedThreeLayers, _shares


@pytest.fixture(params=[1, 3], autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def case(counts, cells, features=16, scale=1.0):
    total, num_rows = sum(counts), features + 3
    rows = torch.randn(len(counts), num_rows, cells)
    shapes = ((total, 8, num_rows), (total, 8, 8), (total, 1, 8), (total, 8), (total, 1))
    return [one.mul_(scale).requires_grad_() for one in (rows, *map(torch.randn, shapes))]


def gradients(logits, inputs, down):
    return torch.autograd.grad(logits, inputs, down.to(logits.dtype))


@pytest.mark.parametrize("counts", [(5,), (1, 4), (0, 3, 0), (1,)])
@pytest.mark.parametrize("cells", [1, 37 * 53, BLOCK, 2 * BLOCK + 1])
@pytest.mark.parametrize("features", [16, 4])
def test_equals_the_plain_form(counts, cells, features):
    inputs = case(counts, cells, features)
    exact = [one.detach().double().requires_grad_() for one in inputs]
    ours = FusedThreeLayers.apply(*inputs, counts)
    expected = _three_layers(exact[0], exact[1:], counts)
    torch.testing.assert_close(ours, expected.float(), rtol=1e-4, atol=1e-3)
    down = torch.randn_like(ours)
    mine, theirs = gradients(ours, inputs, down), gradients(expected, exact, down)
    for one, other in zip(mine, theirs, strict=True):
        assert one.shape == other.shape
        size = max(float(other.abs().max()), 1.0)
        torch.testing.assert_close(one / size, other.float() / size, rtol=1e-4, atol=1e-5)


def test_no_objects():
    inputs = case((0, 0), 50)
    logits = FusedThreeLayers.apply(*inputs, (0, 0))
    assert logits.shape == (0, 50)
    for one, given in zip(gradients(logits, inputs, torch.zeros(0, 50)), inputs, strict=True):
        assert one.shape == given.shape
        assert not one.any()


def test_large_numbers_stay_finite_and_right():
    inputs = case((3,), 300, scale=100.0)
    ours = FusedThreeLayers.apply(*inputs, (3,))
    expected = _three_layers(inputs[0].double(), [one.double() for one in inputs[1:]], (3,))
    assert ours.isfinite().all()
    size = expected.abs().max()
    torch.testing.assert_close(ours / size, (expected / size).float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("which", range(6))
def test_a_nan_is_not_swallowed(which):
    """Training stops on one, so it must reach the loss."""
    inputs = [one.detach().clone() for one in case((2,), 40)]
    inputs[which].view(-1)[0] = torch.nan
    assert FusedThreeLayers.apply(*inputs, (2,)).isnan().any()


def test_the_same_numbers_every_time():
    inputs = case((7, 2), 1000)
    down = torch.randn(9, 1000)
    first, second = (
        gradients(FusedThreeLayers.apply(*inputs, (7, 2)), inputs, down) for _ in range(2)
    )
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_shares_cover_every_object_once():
    for threads in (1, 2, 5):
        shares = _shares((3, 0, 6), threads)
        covered = [(image, each) for image, part in shares for each in range(part.start, part.stop)]
        assert covered == [(0, 0), (0, 1), (0, 2), *((2, each) for each in range(3, 9))]
        assert all(part.stop > part.start for _, part in shares)


def test_more_features_than_the_compiled_form_knows():
    """They take the plain form; no caller has to know."""
    features = torch.randn(1, 17, 4, 5)
    parameters = torch.randn(2, num_dynamic_parameters(17))
    place = (torch.rand(2, 2), torch.tensor([64.0, 128.0]), torch.tensor([0, 0]))
    found = dynamic_mask_logits(features, parameters, *place, stride=4)
    exact = dynamic_mask_logits(
        features.double(), parameters.double(), place[0].double(), place[1].double(), place[2],
        stride=4,
    )  # fmt: skip
    torch.testing.assert_close(found, exact.float(), rtol=1e-4, atol=1e-3)


SCRIPT = """
import torch
from boxmask.ops.dynamic_mask_cpu import FusedThreeLayers
torch.set_num_threads(1)
torch.manual_seed(0)
shapes = ((1, 19, 700), (5, 8, 19), (5, 8, 8), (5, 1, 8), (5, 8), (5, 1))
inputs = [torch.randn(*shape).requires_grad_() for shape in shapes]
logits = FusedThreeLayers.apply(*inputs, (5,))
for one in (logits, *torch.autograd.grad(logits, inputs, torch.randn_like(logits))):
    print(one.double().abs().sum().item(), one.double().square().sum().item())
"""


def test_compiled_just_now_or_read_from_disk_gives_the_same_bits(tmp_path):
    """Else a run that is interrupted and resumed would end differently."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert first == second
