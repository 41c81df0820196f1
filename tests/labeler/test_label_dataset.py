"""Labelling gives the same masks however its work is shared out."""

import numpy as np
import pytest

from boxmask.data.folder import read_data
from boxmask.labeler import picture_parts
from boxmask.labeler.finished import FinishedPictures
from boxmask.labeler.label_dataset import LabelProgress, LabelSettings, label_split
from boxmask.recipes.saved_model import load_model


@pytest.fixture
def labelled(shapes, run, tmp_path):
    """Labels the training pictures; gives the masks of each, None if it is not finished."""
    split = read_data(shapes).splits["train"]
    detector = load_model(run).detector.eval()

    def run_once(name, **settings):
        finished = FinishedPictures(tmp_path / name)
        finished.start({})
        progress = LabelProgress(total=len(split.records), tell=print)
        chosen = LabelSettings(image_size=64, batch=3, **settings)
        label_split(detector, split, finished, chosen, progress)
        assert progress.num_done == len(split.records)
        return [finished.masks("train", index) for index in range(len(split.records))]

    return run_once


def test_other_processes_cut_the_same_masks(labelled):
    alone = labelled("alone")
    assert sum(map(len, alone)) > 4
    assert labelled("shared", num_cutters=2, num_workers=1) == alone


@pytest.mark.parametrize("together", [1, 2])
def test_few_masks_at_a_time_are_the_same_masks(labelled, monkeypatch, together):
    whole = labelled("whole")
    monkeypatch.setattr(picture_parts, "PART", together)
    assert labelled("parts") == whole


def test_pictures_without_boxes_are_finished(shapes, run, tmp_path):
    split = read_data(shapes).splits["val"]
    record = split.records[0]
    record.crowd[:] = True
    finished = FinishedPictures(tmp_path)
    finished.start({})
    progress = LabelProgress(total=len(split.records), tell=print)
    detector = load_model(run).detector.eval()
    label_split(detector, split, finished, LabelSettings(image_size=64, num_cutters=1), progress)
    assert finished.masks("val", 0) == []
    assert len(finished.masks("val", 1)) == np.count_nonzero(~split.records[1].crowd) > 0
