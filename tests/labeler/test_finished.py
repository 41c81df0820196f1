"""What is finished survives an interruption; half a line does not."""

import pytest

from boxmask.data.folder import read_data
from boxmask.detectors.object_masks import ObjectMask
from boxmask.errors import UserError
from boxmask.labeler.finished import FinishedPictures, data_fingerprint, labelled_record

MASK = ObjectMask(counts="abc", confidence=0.12345, note="half \n a line ß")


def test_finished_pictures_come_back(tmp_path):
    first = FinishedPictures(tmp_path)
    first.start({"DATA": "1"})
    first.add("train", 3, [MASK])
    first.add("val", 0, [])
    with (first.folder / "pictures.jsonl").open("ab") as stream:
        stream.write(b'{"split": "train", "index": 4, "mas')
    again = FinishedPictures(tmp_path)
    again.resume({"DATA": "1"})
    assert again.masks("train", 3) == [MASK]
    assert again.masks("val", 0) == []
    assert not again.has("train", 4)
    again.add("train", 4, [MASK, MASK])
    assert again.masks("train", 4) == [MASK, MASK]
    assert again.masks("train", 3) == [MASK]


def test_another_origin_is_refused(tmp_path):
    FinishedPictures(tmp_path).start({"DATA": "1", "--weights": "2"})
    with pytest.raises(UserError, match="--weights changed"):
        FinishedPictures(tmp_path).resume({"DATA": "1", "--weights": "3"})


def test_nothing_to_resume(tmp_path):
    with pytest.raises(UserError, match="no interrupted labelling"):
        FinishedPictures(tmp_path).resume({})


def test_fingerprints_tell_boxes_apart(own_shapes):
    before = read_data(own_shapes)
    same = data_fingerprint(read_data(own_shapes), ["train"])
    assert data_fingerprint(before, ["train"]) == same
    text = (own_shapes / "train.json").read_text()
    (own_shapes / "train.json").write_text(text.replace('"bbox": [1, 2,', '"bbox": [2, 2,'))
    assert data_fingerprint(read_data(own_shapes), ["train"]) != same


def test_a_crowd_gets_its_box(shapes):
    record = next(r for r in read_data(shapes).splits["train"].records if r.crowd.any())
    width = record.image_size[1]
    own = {"size": [*record.image_size], "counts": [record.image_size[0] * width]}
    masks = [ObjectMask(counts=own["counts"], confidence=0.5)] * int((~record.crowd).sum())
    labelled = labelled_record(record, masks)
    place = [*record.crowd].index(True)
    assert labelled.confidences[place] == 0
    assert labelled.confidences.count(0.5) == len(masks)
