import pytest
import torch

from boxmask.detectors.cell_detections import (
    CellChoiceSettings,
    best_cells,
    found_objects,
    peak_scores,
)


def test_peaks_beat_the_cells_above_and_to_the_left():
    maps = torch.tensor([[0.5, 0.6, 0.1], [0.2, 0.6, 0.7], [0.9, 0.1, 0.3]])
    # Windows reach one cell up and to the left: 0.5 stays beside the better cell on its right.
    kept = torch.tensor([[0.5, 0.6, 0.0], [0.0, 0.6, 0.7], [0.9, 0.0, 0.0]])
    other = torch.tensor([[0.4]])
    class_scores = torch.stack([maps.flatten(), maps.flatten().flip(0)], dim=-1)
    class_scores = torch.cat([class_scores, other.expand(1, 2)])  # a second level with one cell
    found = peak_scores(class_scores, (3, 1))
    assert torch.equal(found[:9, 0], kept.flatten())
    assert found[9].tolist() == pytest.approx([0.4, 0.4])


def test_best_cells():
    class_scores = torch.tensor([[0.05, 0.8], [0.3, 0.1], [0.0, 0.0], [0.9, 0.0]])
    settings = CellChoiceSettings(num_before_nms=2)
    position, labels, scores = best_cells(class_scores, (2,), settings)
    assert position.tolist() == [3, 0]
    assert labels.tolist() == [0, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.8])
    nothing = best_cells(class_scores * 0.1, (2,), settings)
    assert [len(part) for part in nothing] == [0, 0, 0]


def test_found_objects_by_hand():
    masks = torch.zeros(5, 4, 6)
    masks[0, 0, 0:2] = 0.8  # 0.5 * 0.8 = 0.4
    masks[1, 0, 0:2] = 1.0  # 0.9: first, and the double above falls to 0.4 * exp(-2) = 0.054
    masks[2, 1:3, 3:6] = 0.7  # reaches beyond the picture: 0.6 * 0.7 = 0.42
    masks[3, 3, 5] = 1.0  # nothing of it in the picture
    masks[4, 0, 0] = 0.4  # empty
    scores, labels = torch.tensor([0.5, 0.9, 0.6, 0.9, 0.9]), torch.tensor([1, 1, 0, 0, 0])
    settings = CellChoiceSettings()
    found = found_objects(masks, scores, labels, (9, 18), settings)
    assert found.scores.tolist() == pytest.approx([0.9, 0.42, 0.0541341])
    assert found.labels.tolist() == [1, 0, 1]
    assert found.boxes.tolist() == [[0, 0, 8, 4], [12, 4, 18, 9], [0, 0, 8, 4]]
    assert torch.equal(found.mask_scores, masks[[1, 2, 0]])
    assert found.frames.tolist() == [[0, 0, 24, 16]] * 3
    few = found_objects(masks, scores, labels, (9, 18), CellChoiceSettings(max_detections=1))
    assert few.scores.tolist() == pytest.approx([0.9])
    sure = found_objects(masks, scores, labels, (9, 18), CellChoiceSettings(final_threshold=0.1))
    assert len(sure) == 2


def test_no_objects():
    found = found_objects(
        torch.zeros(0, 4, 6), torch.zeros(0), torch.zeros(0, dtype=torch.int64), (16, 24),
        CellChoiceSettings(),
    )  # fmt: skip
    assert len(found) == 0
    assert found.mask_scores.shape == (0, 4, 6)
