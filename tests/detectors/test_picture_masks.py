import torch

from boxmask.detectors.picture_masks import boxes_of_logits, whole_image_frames


def test_boxes_of_logits_by_hand():
    logits = torch.full((2, 4, 6), -1.0)
    logits[0, 1:3, 2:5] = 1.0
    boxes = torch.tensor([[0.0, 0, 4, 4], [9, 3, 14, 9]])
    # the second mask is empty: the cell that holds the middle (11.5, 6) of its box
    assert boxes_of_logits(logits, boxes).tolist() == [[8, 4, 20, 12], [8, 4, 12, 8]]


def test_boxes_of_masks_at_every_place():
    logits = torch.full((3, 4, 6), -1.0, requires_grad=True)
    with torch.no_grad():
        logits[0, 1, 2] = logits[0, 2, 4] = 1.0
    boxes = torch.tensor([[0.0, 0, 24, 16], [5.0, 6, 11, 15], [20.0, 10, 60, 40]])
    found = boxes_of_logits(logits, boxes)
    # Two empty masks: the cell of the middle (8, 10.5), and the last one for a middle beyond it.
    assert found.tolist() == [[8, 4, 20, 12], [8, 8, 12, 12], [20, 12, 24, 16]]
    assert not found.requires_grad
    assert boxes_of_logits(logits[:0], boxes[:0]).shape == (0, 4)


def test_frames_cover_the_padded_picture():
    assert whole_image_frames(torch.zeros(2, 5, 7)).tolist() == [[0, 0, 28, 20]] * 2
    assert whole_image_frames(torch.zeros(0, 5, 7)).shape == (0, 4)
