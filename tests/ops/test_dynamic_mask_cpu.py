"""The compiled mask head against the plain one in float64."""

import pytest
import torch

from boxmask.ops.dynamic_mask import dynamic_mask_logits, num_dynamic_parameters
from boxmask.ops.dynamic_mask_cpu import BLOCK, FusedThreeLayers, _shares
from references import mask_heads as reference


@pytest.fixture(params=[1, 3], autouse=True)
def threads(request, set_threads):
    set_threads(request.param)
    return request.param


def compiled(inputs, counts):
    return FusedThreeLayers.apply(*inputs, counts)


@pytest.mark.parametrize("counts", [(5,), (1, 4), (0, 3, 0), (1,)])
@pytest.mark.parametrize("cells", [1, 37 * 53, BLOCK, 2 * BLOCK + 1])
@pytest.mark.parametrize("features", [16, 4])
def test_equals_the_plain_form(counts, cells, features):
    reference.assert_equal_to_exact(compiled, counts, cells, features)


def test_no_objects():
    reference.assert_nothing_from_no_objects(compiled)


def test_large_numbers_stay_finite_and_right():
    reference.assert_large_numbers_right(compiled)


@pytest.mark.parametrize("which", range(6))
def test_a_nan_is_not_swallowed(which):
    reference.assert_nan_kept(compiled, which)


def test_the_same_numbers_every_time():
    inputs = reference.case((7, 2), 1000)
    down = torch.randn(9, 1000)
    first, second = (reference.gradients(compiled(inputs, (7, 2)), inputs, down) for _ in range(2))
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
