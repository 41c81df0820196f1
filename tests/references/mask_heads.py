"""Inputs of the dynamic mask head, and its layers in float64."""

import torch

from boxmask.ops.dynamic_mask import three_layers


def case(counts, cells, features=16, scale=1.0):
    """Inputs rows, w1, w2, w3, b2, b3 of pictures with so many objects."""
    total, num_rows = sum(counts), features + 3
    rows = torch.randn(len(counts), num_rows, cells)
    shapes = ((total, 8, num_rows), (total, 8, 8), (total, 1, 8), (total, 8), (total, 1))
    return [one.mul_(scale).requires_grad_() for one in (rows, *map(torch.randn, shapes))]


def images_of(counts):
    """Image of each object."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def exactly(inputs, counts):
    """Inputs in float64, and the logits that plain layers make of them."""
    exact = [one.detach().double().requires_grad_() for one in inputs]
    return exact, three_layers(exact[0], exact[1:], images_of(counts))


def gradients(logits, inputs, down):
    """Gradients of all inputs."""
    return torch.autograd.grad(logits, inputs, down.to(logits.dtype))


def assert_equal_to_exact(form, counts, cells, features):
    """Logits and gradients of a fused form are those of plain layers in float64."""
    inputs = case(counts, cells, features)
    ours = form(inputs, counts)
    exact, expected = exactly(inputs, counts)
    torch.testing.assert_close(ours, expected.float(), rtol=1e-4, atol=1e-3)
    down = torch.randn_like(ours)
    mine, theirs = gradients(ours, inputs, down), gradients(expected, exact, down)
    for one, other in zip(mine, theirs, strict=True):
        assert one.shape == other.shape
        size = max(float(other.abs().max()), 1.0)
        torch.testing.assert_close(one / size, other.float() / size, rtol=1e-4, atol=1e-5)


def assert_nothing_from_no_objects(form):
    """Pictures without objects are fine."""
    inputs = case((0, 0), 50)
    logits = form(inputs, (0, 0))
    assert logits.shape == (0, 50)
    for one, given in zip(gradients(logits, inputs, torch.zeros(0, 50)), inputs, strict=True):
        assert one.shape == given.shape
        assert not one.any()


def assert_large_numbers_right(form):
    """Inputs a hundred times as large."""
    inputs = case((3,), 300, scale=100.0)
    ours = form(inputs, (3,))
    _, expected = exactly(inputs, (3,))
    assert ours.isfinite().all()
    size = expected.abs().max()
    torch.testing.assert_close(ours / size, (expected / size).float(), rtol=1e-3, atol=1e-5)


def assert_nan_kept(form, which):
    """Training stops on a NaN, so it must reach the loss."""
    inputs = [one.detach().clone() for one in case((2,), 40)]
    inputs[which].view(-1)[0] = torch.nan
    assert form(inputs, (2,)).isnan().any()
