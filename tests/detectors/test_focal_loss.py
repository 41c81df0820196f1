import math

import pytest
import torch

from boxmask.detectors.focal_loss import focal_class_loss


def test_by_hand():
    """Two predictions of two classes: one of class 1, one of background."""
    logits = torch.tensor([[0.0, math.log(3.0)], [-math.log(3.0), 0.0]], dtype=torch.float16)
    found = focal_class_loss(logits, torch.tensor([1, -1]))
    wrong_half = 0.75 * 0.5**2 * math.log(2)  # a score of 0.5 where 0 is right
    right = 0.25 * 0.25**2 * math.log(4 / 3)  # 0.75 where 1 is right
    quarter = 0.75 * 0.25**2 * math.log(4 / 3)  # 0.25 where 0 is right
    assert float(found) == pytest.approx(2 * wrong_half + right + quarter, rel=1e-3)
    assert found.dtype == torch.float32


def test_nothing_to_predict():
    assert float(focal_class_loss(torch.zeros(2, 0, 3), torch.zeros(2, 0, dtype=torch.long))) == 0
