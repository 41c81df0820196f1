import pytest
import torch

from boxmask.detectors.cell_masks import dynamic_convolution, near_cell_logits


def test_dynamic_convolution_is_a_1x1_convolution_of_the_own_image():
    torch.manual_seed(0)
    features = torch.randn(3, 4, 5, 6).contiguous(memory_format=torch.channels_last)
    kernels, image_index = torch.randn(4, 4), torch.tensor([0, 0, 2, 2])
    found = dynamic_convolution(features, kernels, [2, 0, 2])
    for row, image in enumerate(image_index):
        expected = torch.nn.functional.conv2d(features[image], kernels[row, :, None, None][None])
        torch.testing.assert_close(found[row], expected[0], rtol=1e-4, atol=1e-5)


def test_dynamic_convolution_without_samples_keeps_a_graph():
    features = torch.randn(2, 4, 5, 6, requires_grad=True)
    kernels = torch.zeros(0, 4, requires_grad=True)
    found = dynamic_convolution(features, kernels, [0] * len(features))
    assert found.shape == (0, 5, 6)
    found.sum().backward()
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_near_cell_logits_equal_the_formula():
    weights = torch.tensor([[0.5, 1.0, -2.0, 3.0, -4.0], [1.0, 0.0, 0.0, 1.0, 0.0]])
    middles, reaches = torch.tensor([[6.0, 10.0], [0.0, 0.0]]), torch.tensor([4.0, 1.0])
    found = near_cell_logits(weights, middles, reaches, (3, 5))
    for row in range(2):
        for y in range(3):
            for x in range(5):
                dx = max(min((4 * x + 2 - float(middles[row, 0])) / float(reaches[row]), 2), -2)
                dy = max(min((4 * y + 2 - float(middles[row, 1])) / float(reaches[row]), 2), -2)
                a, b, c, d, e = weights[row].tolist()
                expected = a + b * dx + c * dx**2 + d * dy + e * dy**2
                assert float(found[row, y, x]) == pytest.approx(expected)
    assert float(found[0, 2, 1]) == 0.5  # at the cell's own middle
