import json
import re
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from boxmask.data.coco_writer import write_coco
from boxmask.data.folder import read_data
from boxmask.data.labels import LabelledRecord
from boxmask.data.masks import decode_segmentation, encode_mask
from boxmask.data.records import DataFolder, DataSplit, ImageRecord
from boxmask.data.voc import parse_voc
from boxmask.data.voc_writer import write_voc
from boxmask.data.yolo_lines import parse_yolo_line
from boxmask.data.yolo_writer import write_yolo
from boxmask.errors import UserError

HEIGHT, WIDTH = 23, 37
slow = settings(deadline=None, max_examples=25)
letters = st.characters(categories=["L", "N"], max_codepoint=0xFFFF)
word = st.text(letters, min_size=1, max_size=6)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@st.composite
def boxes(draw):
    x = sorted(draw(st.lists(st.integers(0, WIDTH * 8), min_size=2, max_size=2, unique=True)))
    y = sorted(draw(st.lists(st.integers(0, HEIGHT * 8), min_size=2, max_size=2, unique=True)))
    return x[0] / 8, y[0] / 8, x[1] / 8, y[1] / 8


@st.composite
def objects(draw):
    count = draw(st.integers(0, 4))
    return {
        "boxes": np.array([draw(boxes()) for _ in range(count)], dtype=np.float32).reshape(-1, 4),
        "labels": np.array([draw(st.integers(0, 2)) for _ in range(count)], dtype=np.int64),
        "crowd": np.array([draw(st.booleans()) for _ in range(count)], dtype=bool),
        "seed": draw(st.integers(0, 9)),
    }


pictures = st.dictionaries(
    st.lists(word, min_size=1, max_size=2).map("/".join), objects(), min_size=1, max_size=3
).filter(lambda made: len({name.casefold() for name in made}) == len(made))


def make_folder(root, made, make_picture):
    records = [
        ImageRecord(
            path=make_picture(root / "pictures" / f"{name}.png", (HEIGHT, WIDTH)),
            name=f"{name}.png",
            image_size=(HEIGHT, WIDTH),
            boxes=content["boxes"],
            labels=content["labels"],
            annotation_ids=tuple(f"{name} {k}" for k in range(len(content["boxes"]))),
            crowd=content["crowd"],
            segmentations=(None,) * len(content["boxes"]),
            image_id=position,
        )
        for position, (name, content) in enumerate(made.items(), start=1)
    ]
    split = DataSplit(name="train", records=records, source=root / "pictures")
    return DataFolder(
        root=root / "pictures",
        format="drawn",
        class_names=("a", "b ü", "c"),
        category_ids=(4, 5, 9),
        splits={"train": split},
    )


def random_masks(record, seed):
    """Disjoint ragged masks, so that no format loses a pixel."""
    owner = np.random.default_rng(seed).integers(0, len(record) + 1, record.image_size)
    masks = tuple(encode_mask(owner == k + 1) for k in range(len(record)))
    return LabelledRecord(record=record, masks=masks, confidences=(0.5,) * len(record))


@slow
@given(made=pictures, name=st.sampled_from(["coco", "yolo", "voc"]))
def test_any_data_set_comes_back(make_picture, made, name):
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        folder = make_folder(root, made, make_picture)
        split = folder.splits["train"]
        labelled = [
            random_masks(record, content["seed"])
            for record, content in zip(split.records, made.values(), strict=True)
        ]
        writer = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc}[name]
        out = root / "out"
        report = writer(out / "train.json" if name == "coco" else out, split, folder, labelled)
        assert report.min_iou == 1.0
        again = read_data(out)
        assert not again.errors
        assert again.class_names == folder.class_names
        after = {record.name: record for record in again.splits["train"].records}
        assert len(after) == len(labelled)
        for item in labelled:
            compare(item, after[item.record.name], name)


def compare(item, after, name):
    before = item.record
    kept = np.flatnonzero(~before.crowd if name == "yolo" else before.crowd >= 0)
    assert np.array_equal(after.boxes, before.boxes[kept])
    assert np.array_equal(after.labels, before.labels[kept])
    assert np.array_equal(after.crowd, before.crowd[kept])
    ids = [before.annotation_ids[k] for k in kept]
    if name == "coco":
        assert [a["source_id"] for a in after.annotations] == ids
    else:
        assert [*after.annotation_ids] == ids
    for k, segmentation in zip(kept, after.segmentations, strict=True):
        mask = decode_segmentation(segmentation, before.image_size)
        assert np.array_equal(mask, item.decode(k))


@slow
@given(st.lists(st.text(max_size=30) | st.just("0 0.5 0.5 0.5 0.5"), max_size=6))
def test_garbage_label_lines_become_problems(make_picture, lines):
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        make_picture(root / "images" / "a.png")
        (root / "labels").mkdir()
        (root / "data.yaml").write_text("train: images\nnames: [x]\n")
        content = "\n".join(lines).encode("utf-8", errors="replace")
        (root / "labels" / "a.txt").write_bytes(content)
        folder = read_data(root)
        (record,) = folder.splits["train"].records
        given = re.split("\r\n|\r|\n", content.decode("utf-8-sig", errors="replace"))
        assert len(record) + len(folder.errors) == sum(bool(line.strip()) for line in given)


words = st.sampled_from(["0", "1", "0.5", "-1", "nan", "inf", "1e999", "x"])


@given(st.lists(words, max_size=9))
def test_any_words_parse_or_say_why(words):
    with suppress(ValueError):
        assert len(parse_yolo_line(" ".join(words), 1, (HEIGHT, WIDTH)).box) == 4


@slow
@given(images=st.lists(json_value, max_size=4), annotations=st.lists(json_value, max_size=4))
def test_garbage_coco_entries_become_problems(make_picture, images, annotations):
    with tempfile.TemporaryDirectory() as text:
        root = Path(text)
        make_picture(root / "a.png")
        good = {"id": "good", "file_name": "a.png"}
        content = {"images": [good, *images], "annotations": annotations, "categories": images}
        (root / "train.json").write_text(json.dumps(content))
        folder = read_data(root)
        assert "a.png" in {record.name for record in folder.splits["train"].records}
        assert len(folder.errors) >= len(annotations)


@slow
@given(
    entry=st.fixed_dictionaries(
        {},
        optional={
            key: json_value | st.just(1)
            for key in ("id", "image_id", "category_id", "iscrowd", "segmentation")
        }
        | {"bbox": json_value | st.lists(st.floats() | st.integers(), min_size=4, max_size=4)},
    )
)
def test_an_annotation_is_read_or_named(one_coco, entry):
    folder = one_coco([entry])
    (record,) = folder.splits["train"].records
    assert len(record) + len(folder.errors) == 1


@slow
@given(json_value)
def test_any_json_file_is_read_or_refused(value):
    with tempfile.TemporaryDirectory() as text:
        (Path(text) / "train.json").write_text(json.dumps(value))
        with suppress(UserError):
            read_data(text)


@slow
@given(st.binary(max_size=60) | st.text(alphabet="<>/object name&;\"'", max_size=40))
def test_any_xml_file_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as text:
        file = Path(text) / "a.xml"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with suppress(UserError):
            parse_voc(file, shown="a.xml", stem="a")
