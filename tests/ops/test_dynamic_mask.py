import pytest
import torch

from boxmask.ops.dynamic_mask import dynamic_mask_logits, num_dynamic_parameters, split_parameters
from references import dynamic_mask as reference


def random_case(channels, image_index, size=(5, 7), batch=2, dtype=torch.float64):
    count = len(image_index)
    return (
        torch.randn(batch, channels, *size, dtype=dtype),
        torch.randn(count, num_dynamic_parameters(channels), dtype=dtype),
        torch.rand(count, 2, dtype=dtype) * 40,
        torch.tensor([64.0, 128.0, 256.0], dtype=dtype)[torch.arange(count) % 3],
        torch.tensor(image_index, dtype=torch.int64),
    )


@pytest.mark.parametrize(("channels", "count"), [(8, 169), (16, 233)])
def test_number_of_parameters(channels, count):
    assert num_dynamic_parameters(channels) == count


def test_parameters_are_cut_in_published_order():
    w1, w2, w3, b1, b2, b3 = split_parameters(torch.arange(233.0)[None], 16)
    assert torch.equal(w1[0], torch.arange(144.0).reshape(8, 18))
    assert torch.equal(w2[0], torch.arange(144.0, 208).reshape(8, 8))
    assert torch.equal(w3[0], torch.arange(208.0, 216).reshape(1, 8))
    assert b1.tolist() == [list(range(216, 224))]
    assert b2.tolist() == [list(range(224, 232))]
    assert b3.tolist() == [[232]]


@pytest.mark.parametrize("channels", [8, 16])
@pytest.mark.parametrize("image_index", [[0, 0, 1], [1, 1], [0], [0, 2, 2, 2]])
def test_equals_a_loop_of_convolutions(channels, image_index):
    case = random_case(channels, image_index, batch=3)
    features, parameters = case[0].requires_grad_(), case[1].requires_grad_()
    ours = dynamic_mask_logits(*case, stride=8)
    expected = reference.mask_logits(*case, 8)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    weight = torch.randn_like(ours)
    mine = torch.autograd.grad((ours * weight).sum(), [features, parameters])
    theirs = torch.autograd.grad((expected * weight).sum(), [features, parameters])
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_gradients_in_float64():
    features, parameters, points, reach, image_index = random_case(2, [0, 1, 1], size=(2, 3))

    def logits(features, parameters):
        return dynamic_mask_logits(features, parameters, points, reach, image_index, stride=8)

    assert torch.autograd.gradcheck(
        logits, (features.requires_grad_(), parameters.requires_grad_())
    )


def test_objects_see_their_own_image_alone():
    features, parameters, points, reach, _ = random_case(8, [0, 0])
    parameters[1], points[1], reach[1] = parameters[0], points[0], reach[0]
    index = torch.tensor([0, 1])
    both = dynamic_mask_logits(features, parameters, points, reach, index, stride=8)
    swapped = dynamic_mask_logits(features.flip(0), parameters, points, reach, index, stride=8)
    assert torch.equal(both.flip(0), swapped)
    features[1] += 1
    after = dynamic_mask_logits(features, parameters, points, reach, index, stride=8)
    assert torch.equal(after[0], both[0])
    assert not torch.equal(after[1], both[1])


@pytest.mark.parametrize("axis", [0, 1])
def test_relative_coordinates(axis):
    parameters = torch.zeros(1, 233)
    w1, w2, w3, *_ = split_parameters(parameters, 16)  # views
    w1[0, 0, axis], w1[0, 1, axis] = 1, -1  # the coordinate and its negative, past the ReLUs
    w2[0, 0, 0] = w2[0, 1, 1] = 1
    w3[0, 0, 0], w3[0, 0, 1] = 1, -1
    logits = dynamic_mask_logits(
        torch.randn(1, 16, 4, 4),
        parameters,
        torch.tensor([[12.0, 12.0]]),
        torch.tensor([64.0]),
        torch.tensor([0]),
        stride=8,
    )[0]
    along = logits[1] if axis == 0 else logits[:, 1]
    assert along[1].item() == pytest.approx(0.0, abs=1e-6)  # the object's own place
    assert along[2].item() == pytest.approx(-0.125, abs=1e-6)  # one P3 stride further: -8 / 64
    assert along[0].item() == pytest.approx(0.125, abs=1e-6)


def test_no_objects():
    case = random_case(16, [], size=(37, 53))
    features = case[0].requires_grad_()
    logits = dynamic_mask_logits(*case, stride=8)
    assert logits.shape == (0, 37, 53)
    logits.sum().backward()
    assert features.grad is None or not features.grad.any()


def test_odd_size_and_large_numbers_stay_finite():
    case = random_case(16, [0, 1], size=(37, 53), dtype=torch.float32)
    logits = dynamic_mask_logits(case[0] * 100, case[1] * 100, *case[2:], stride=8)
    assert logits.shape == (2, 37, 53)
    assert logits.isfinite().all()


@pytest.mark.gpu
def test_same_on_a_gpu():
    case = random_case(16, [0, 0, 1], size=(37, 53), dtype=torch.float32)
    torch.testing.assert_close(
        dynamic_mask_logits(*(part.cuda() for part in case), stride=8).cpu(),
        dynamic_mask_logits(*case, stride=8),
        rtol=1e-2,
        atol=1e-2,  # TF32 products
    )
