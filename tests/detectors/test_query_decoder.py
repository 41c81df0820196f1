"""The decoder's own loop against the library's, and how it starts."""

import pytest
import torch

from boxmask.detectors.query_decoder import QueryDecoder
from boxmask.detectors.query_masks import (
    QueryOutputs,
    QuerySettings,
    image_mask_logits,
)
from references.queries import reference_mask

CHANNELS = (6, 8, 10, 12)


def small_decoder():
    settings = QuerySettings(
        num_queries=7, channels=32, heads=4, encoder_layers=1, encoder_hidden=16,
        decoder_layers=4, decoder_hidden=16,
    )  # fmt: skip
    return QueryDecoder(settings, CHANNELS, num_classes=3).eval()


@pytest.fixture
def maps():
    return [
        torch.randn(2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    ]


@torch.no_grad()
def test_loop_gives_what_the_library_gives(maps):
    decoder = small_decoder()
    outputs = decoder(maps)
    decoded = decoder.pixel_decoder(maps)
    theirs = decoder.transformer(decoded.multi_scale_features, decoded.mask_features)
    assert len(theirs.masks_queries_logits) == len(outputs.embeddings) == 5
    every = torch.arange(7)
    for output, masks in enumerate(theirs.masks_queries_logits):
        hidden = theirs.intermediate_hidden_states[output].transpose(0, 1)
        torch.testing.assert_close(
            outputs.class_logits[output], decoder.class_predictor(hidden), rtol=1e-3, atol=1e-4
        )
        for image in range(2):
            own = image_mask_logits(outputs, image, torch.full_like(every, output), every)
            torch.testing.assert_close(own, masks[image], rtol=1e-3, atol=1e-4)


def test_first_offsets_are_rays():
    attention = small_decoder().pixel_decoder.encoder.layers[0].self_attn
    offsets = attention.sampling_offsets(torch.randn(32)).view(4, 3, 4, 2)
    for head, (x, y) in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        for level in range(3):
            expected = torch.tensor([[x * step, y * step] for step in (1.0, 2.0, 3.0, 4.0)])
            torch.testing.assert_close(offsets[head, level], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_every_weight_learns(maps, autocast):
    """Masks that guide attention have no graph, and take none from the others."""
    decoder = small_decoder().train()
    every, output = torch.arange(7).repeat(5), torch.arange(5).repeat_interleave(7)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        outputs = decoder(maps)
        masks = [image_mask_logits(outputs, image, output, every) for image in range(2)]
    (torch.stack(masks).square().mean() + outputs.class_logits.float().square().mean()).backward()
    assert [name for name, weight in decoder.named_parameters() if weight.grad is None] == []


def test_masks_as_a_loop():
    outputs = QueryOutputs(
        class_logits=torch.randn(2, 2, 3, 4),
        embeddings=torch.randn(2, 2, 3, 5),
        pixels=torch.randn(2, 5, 4, 6),
    )
    found = image_mask_logits(outputs, 1, torch.tensor([1, 0]), torch.tensor([2, 0]))
    for row, (output, query) in enumerate([(1, 2), (0, 0)]):
        expected = torch.tensor(reference_mask(outputs, (output, 1, query)))
        torch.testing.assert_close(found[row], expected, rtol=1e-4, atol=1e-4)


def test_channels_must_suit_the_parts():
    with pytest.raises(ValueError, match="multiple of 32"):
        QuerySettings(channels=48)
