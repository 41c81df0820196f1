import contextlib
import io
import math
import warnings

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from boxmask.evaluation.coco_ap import CocoEvaluator, FoundObjects, TrueObjects

NAMES = ("cat", "dog", "unicorn")
SIZE = (150, 170)


def encode(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def ellipse(box):
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    x1, y1, x2, y2 = box
    x, y = (columns - (x1 + x2) / 2) / (x2 - x1), (rows - (y1 + y2) / 2) / (y2 - y1)
    return encode(x**2 + y**2 <= 0.25)


def random_boxes(random, count):
    sides = random.choice([12.0, 45.0, 120.0], size=(count, 2)) * random.uniform(0.7, 1, (count, 2))
    corner = random.uniform(0, 1, (count, 2)) * (np.array(SIZE[::-1]) - sides)
    return np.concatenate([corner, corner + sides], axis=1)


def random_picture(random, classes=2, masks=True):
    """Truth, and detections that are near it, far from it, or twice."""
    count = int(random.integers(0, 6))
    boxes, labels = random_boxes(random, count), random.integers(0, classes, count)
    near = np.repeat(boxes, 2, axis=0)
    near = near + random.normal(0, 0.04, near.shape) * (near[:, 2:] - near[:, :2]).repeat(2, axis=1)
    found = np.concatenate([near, random_boxes(random, int(random.integers(0, 4)))])
    found = np.clip(found, 0, np.tile(SIZE[::-1], 2))
    far = random.integers(0, classes, len(found) - len(near))
    found_labels = np.concatenate([labels.repeat(2), far])
    keep = random.random(len(found)) < 0.7
    truth = TrueObjects(
        boxes=boxes,
        labels=labels,
        crowd=random.random(count) < 0.15,
        rles=[ellipse(box) for box in boxes] if masks else None,
    )
    return truth, FoundObjects(
        boxes=found[keep],
        scores=random.random(int(keep.sum())),
        labels=found_labels[keep],
        rles=[ellipse(box) for box in found[keep]] if masks else None,
    )


def reference(pictures, kind, names=NAMES):
    """Every score as pycocotools has it."""
    truth, found = [], []
    for image_id, (true, detected) in pictures.items():
        for index in range(len(true.labels)):
            x1, y1, x2, y2 = true.boxes[index]
            masks = {} if true.rles is None else {"segmentation": true.rles[index]}
            area = (x2 - x1) * (y2 - y1) if not masks else coco_mask.area(true.rles[index])
            truth.append({"id": len(truth) + 1, "image_id": image_id, "area": float(area)})
            truth[-1] |= {"bbox": [x1, y1, x2 - x1, y2 - y1], **masks}
            truth[-1] |= {"category_id": int(true.labels[index]) + 1}
            truth[-1] |= {"iscrowd": int(true.crowd[index])}
        for index in range(len(detected.labels)):
            x1, y1, x2, y2 = detected.boxes[index]
            entry = {"image_id": image_id, "category_id": int(detected.labels[index]) + 1}
            entry["score"] = float(detected.scores[index])
            if kind == "mask":
                entry["segmentation"] = detected.rles[index]
            else:
                entry["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            found.append(entry)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        images = [{"id": i, "height": SIZE[0], "width": SIZE[1]} for i in pictures]
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(names)]
        coco.dataset = {"images": images, "annotations": truth, "categories": categories}
        coco.createIndex()
        results = coco.loadRes(found) if found else COCO()
        score = COCOeval(coco, results, "segm" if kind == "mask" else "bbox")
        score.evaluate()
        score.accumulate()
        score.summarize()
    keys = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    result = {f"{kind}_{key}": score.stats[index] for index, key in enumerate(keys)}
    precision = score.eval["precision"][..., 0, 2]
    for index, name in enumerate(names):
        cells = precision[:, :, index]
        result[f"{kind}_ap/{name}"] = cells[cells > -1].mean() if (cells > -1).any() else -1
    return {key: math.nan if value == -1 else float(value) for key, value in result.items()}


def evaluate(pictures, **settings):
    evaluator = CocoEvaluator(NAMES, **settings)
    for image_id, (truth, found) in pictures.items():
        evaluator.add(image_id, SIZE, truth, found)
    return evaluator.compute()


@pytest.mark.parametrize("seed", range(6))
def test_equals_pycocotools(seed):
    random = np.random.default_rng(seed)
    ids = random.permutation(100)[:12].tolist()  # in no order, as a shuffled loader gives them
    pictures = {image_id: random_picture(random) for image_id in ids}
    expected = reference(pictures, "box") | reference(pictures, "mask")
    found = evaluate(pictures)
    assert found.keys() == expected.keys()
    assert 0.05 < found["box_ap"] < 0.95
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-6, nan_ok=True), key


def test_classes_without_truth_are_nan_and_leave_the_mean_alone():
    random = np.random.default_rng(0)
    pictures = {index: random_picture(random) for index in range(8)}
    result = evaluate(pictures)
    assert math.isnan(result["box_ap/unicorn"])
    assert result["box_ap"] == pytest.approx((result["box_ap/cat"] + result["box_ap/dog"]) / 2)


def test_false_alarms_of_a_class_without_truth_equal_pycocotools():
    random = np.random.default_rng(3)
    pictures = {index: random_picture(random) for index in range(5)}
    truth, found = pictures[2]
    other = FoundObjects(
        boxes=found.boxes,
        scores=found.scores,
        labels=np.full(len(found.labels), 2),
        rles=found.rles,
    )
    pictures[2] = truth, other
    result, expected = evaluate(pictures), reference(pictures, "mask")
    for key, value in expected.items():
        assert result[key] == pytest.approx(value, abs=1e-6, nan_ok=True), key


def test_boxes_alone_give_box_scores_alone():
    random = np.random.default_rng(1)
    pictures = {index: random_picture(random, masks=False) for index in range(6)}
    result, expected = evaluate(pictures), reference(pictures, "box")
    assert result.keys() == expected.keys()
    for key, value in expected.items():
        assert result[key] == pytest.approx(value, abs=1e-6, nan_ok=True), key


def nothing_found(masks=True):
    return FoundObjects(
        boxes=np.zeros((0, 4)),
        scores=np.zeros(0),
        labels=np.zeros(0, int),
        rles=[] if masks else None,
    )


def nothing_there():
    return TrueObjects(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), rles=[])


def test_perfect_detections_score_one():
    random = np.random.default_rng(2)
    boxes = random_boxes(random, 4)
    rles, labels = [ellipse(box) for box in boxes], np.array([0, 1, 2, 1])
    truth = TrueObjects(boxes=boxes, labels=labels, rles=rles)
    found = FoundObjects(boxes=boxes, labels=labels, scores=np.ones(4), rles=rles)
    result = evaluate({7: (truth, found)})
    assert result["box_ap"] == pytest.approx(1.0)
    assert result["mask_ap/dog"] == pytest.approx(1.0)


def test_no_detection_at_all_is_zero_with_a_warning():
    random = np.random.default_rng(4)
    pictures = {index: (random_picture(random)[0], nothing_found()) for index in range(5)}
    with pytest.warns(UserWarning, match="nothing was found in 5 pictures"):
        result = evaluate(pictures)
    assert result["box_ap"] == 0
    assert result["mask_ap50"] == 0
    assert math.isnan(result["mask_ap/unicorn"])


def test_no_truth_is_undefined_with_a_warning():
    _, found = random_picture(np.random.default_rng(5))
    with pytest.warns(UserWarning, match="no annotated object in 1 pictures"):
        result = evaluate({1: (nothing_there(), found)})
    assert all(math.isnan(value) for value in result.values())
    assert "mask_ap" not in result


def test_no_picture_is_undefined_with_a_warning():
    with pytest.warns(UserWarning, match="no picture"):
        result = evaluate({})
    assert math.isnan(result["box_ap"])


def test_empty_pictures_change_nothing_but_false_alarms_do():
    random = np.random.default_rng(6)
    pictures = {index: random_picture(random) for index in range(5)}
    before = evaluate(pictures)
    assert evaluate(pictures | {50: (nothing_there(), nothing_found())}) == pytest.approx(
        before, nan_ok=True
    )
    boxes = random_boxes(random, 5)
    alarms = FoundObjects(
        boxes=boxes,
        scores=np.full(5, 2.0),
        labels=np.zeros(5, int),
        rles=[ellipse(box) for box in boxes],
    )
    after = evaluate(pictures | {50: (nothing_there(), alarms)})
    assert after["mask_ap/cat"] < before["mask_ap/cat"]


def test_compute_may_be_called_between_pictures():
    random = np.random.default_rng(7)
    pictures = {index: random_picture(random) for index in range(6)}
    evaluator = CocoEvaluator(NAMES)
    for image_id, (truth, found) in pictures.items():
        evaluator.add(image_id, SIZE, truth, found)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator.compute()
    assert evaluator.compute() == pytest.approx(evaluate(pictures), nan_ok=True)
    evaluator.reset()
    with pytest.warns(UserWarning, match="no picture"):
        evaluator.compute()


def test_pictures_without_masks_are_left_out_of_mask_scores():
    random = np.random.default_rng(8)
    pictures = {index: random_picture(random) for index in range(4)}
    boxes = random_boxes(random, 2)
    bare = TrueObjects(boxes=boxes, labels=np.array([0, 1]))
    with pytest.warns(UserWarning, match="mask AP leaves out 1 of 5 pictures"):
        result = evaluate(pictures | {9: (bare, nothing_found())})
    assert result["mask_ap"] == pytest.approx(evaluate(pictures)["mask_ap"])
    assert result["box_ap"] < evaluate(pictures)["box_ap"]


def test_more_than_a_hundred_objects_need_a_higher_limit():
    columns, rows = np.meshgrid(np.arange(15), np.arange(10))
    corner = np.stack([columns, rows], axis=-1).reshape(-1, 2) * 11.0
    boxes = np.concatenate([corner, corner + 9], axis=1)
    labels, scores = np.zeros(150, int), np.linspace(1, 0.5, 150)
    picture = (
        TrueObjects(boxes=boxes, labels=labels),
        FoundObjects(boxes=boxes, labels=labels, scores=scores),
    )
    assert evaluate({1: picture})["box_ap"] == pytest.approx(67 / 101)  # 100 of 150 found
    assert evaluate({1: picture}, max_detections=200)["box_ap"] == pytest.approx(1.0)


def test_own_areas_and_ranges_sort_objects():
    boxes, labels = np.array([[0.0, 0, 10, 10], [20, 20, 60, 60]]), np.array([0, 0])
    found = FoundObjects(boxes=boxes[:1], labels=labels[:1], scores=np.ones(1))
    truth = TrueObjects(boxes=boxes, labels=labels)
    ranges = {"tiny": (0, 200), "rest": (200, 1e10)}
    result = evaluate({1: (truth, found)}, area_ranges=ranges)
    assert result["box_ap_tiny"] == pytest.approx(1.0)
    assert result["box_ap_rest"] == 0
    truth = TrueObjects(boxes=boxes, labels=labels, areas=[100.0, 100.0])
    result = evaluate({1: (truth, found)}, area_ranges=ranges)
    assert math.isnan(result["box_ap_rest"])


def test_errors_name_the_argument():
    evaluator = CocoEvaluator(NAMES)
    evaluator.add(1, SIZE, nothing_there(), nothing_found())
    with pytest.raises(ValueError, match="picture 1 was added before"):
        evaluator.add(1, SIZE, nothing_there(), nothing_found())
    with pytest.raises(ValueError, match=r"labels: expected 0\.\.2, got 3\.\.3"):
        evaluator.add(2, SIZE, TrueObjects(boxes=np.zeros((1, 4)), labels=[3]), nothing_found())
    with pytest.raises(ValueError, match="boxes: 2 entries for 1 labels"):
        evaluator.add(2, SIZE, TrueObjects(boxes=np.zeros((2, 4)), labels=[0]), nothing_found())
    with pytest.raises(ValueError, match="max_detections"):
        CocoEvaluator(NAMES, max_detections=0)
