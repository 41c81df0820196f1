import numpy as np
import pytest

from boxmask.visualization.correction_panels import FOREGROUND, PastedPicture
from boxmask.visualization.explain import (
    STAGE_CELL,
    masks_sheet,
    pasted_sheet,
    prototypes_sheet,
    weights_sheet,
)
from boxmask.visualization.explained import (
    ClassPrototypes,
    Explained,
    ObjectStages,
    SampleMask,
)
from boxmask.visualization.views import TRUTH, view_of_image

BOX = np.array([8, 8, 40, 32], dtype=np.float32)


@pytest.fixture
def shown():
    return Explained(
        name="a.png",
        model="a run",
        picture=np.full((96, 128, 3), 90, dtype=np.uint8),
        whole=view_of_image((48, 64), (64, 64), (120, 160)),
        sharpness=5,
        temperature=0.1,
        instance_share=0.5,
        low=0.4,
    )


@pytest.fixture
def make_object():
    def make(*, truth=True, seen=True, samples=2):
        flat = np.full((16, 16), 0.5, dtype=np.float32)
        states = np.zeros((16, 16), dtype=np.uint8)
        states[2:8, 2:10] = FOREGROUND
        mask = np.zeros((96, 128), dtype=bool)
        mask[20:60, 20:76] = True
        return ObjectStages(
            name="1  disc",
            box=BOX,
            neighbors=flat,
            mean=flat,
            instance=flat,
            semantic=flat if seen else None,
            fused=flat,
            colored=flat,
            refined=flat,
            states=states,
            high=0.65,
            label_mask=mask,
            true_mask=mask if truth else None,
            ious={"mean": 0.5, "label": 0.75} if truth else {},
            samples=tuple(
                SampleMask(scores=flat, box=BOX + 2 * k, fit=0.9, weight=1 / samples)
                for k in range(samples)
            ),
        )

    return make


def has(picture, color):
    return (picture == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=-1)


def test_a_row_for_each_object_and_a_column_for_the_truth(shown, make_object):
    one = masks_sheet(shown, [make_object()])
    assert has(one, TRUTH).any()
    three = masks_sheet(shown, [make_object()] * 3)
    assert three.shape[0] >= one.shape[0] + 2 * STAGE_CELL[0]
    boxes_alone = masks_sheet(shown, [make_object(truth=False)])
    assert not has(boxes_alone, TRUTH).any()
    assert boxes_alone.shape[1] < one.shape[1] - STAGE_CELL[1] // 2


def test_classes_without_prototypes_have_no_semantic_map(shown, make_object):
    drawn = masks_sheet(shown, [make_object(seen=False)])
    assert has(drawn, "#f0f1f3").sum() > 0.8 * STAGE_CELL[0] * STAGE_CELL[1]
    assert has(masks_sheet(shown, [make_object()]), "#f0f1f3").sum() < 100


def test_no_more_samples_than_wanted(shown, make_object):
    few = weights_sheet(shown, [make_object(samples=3)], most=3)
    many = weights_sheet(shown, [make_object(samples=9)], most=3)
    assert abs(many.shape[1] - few.shape[1]) < 100  # the heading alone is longer
    assert weights_sheet(shown, [make_object(samples=9)], most=9).shape[1] > many.shape[1] + 500


def test_prototypes_of_each_class(shown):
    cosine = np.linspace(-0.23, 1, 256, dtype=np.float32).reshape(16, 16)
    inside = np.zeros((16, 16), dtype=bool)
    inside[2:8, 2:10] = True
    one = ClassPrototypes(
        name="disc",
        boxes=BOX[None],
        nearest=np.arange(256).reshape(16, 16) % 3,
        inside=inside,
        cosine=cosine,
        counts=np.array([16, 16, 16]),
    )
    single, double = prototypes_sheet(shown, [one]), prototypes_sheet(shown, [one] * 2)
    assert double.shape[0] >= single.shape[0] + shown.whole.size[0]
    assert double.shape[1] == single.shape[1]


def test_pasted_pictures_stand_two_in_a_row(shown):
    picture = PastedPicture(
        picture=shown.picture,
        boxes=BOX[None],
        tight=np.ones((1, 2), dtype=bool),
        masks=np.zeros((1, 48, 64), dtype=bool),
        pasted=np.zeros(1, dtype=bool),
        names=("disc",),
    )
    sheets = [pasted_sheet(shown, [picture] * count, "full") for count in (2, 3, 4)]
    assert sheets[1].shape == sheets[2].shape
    assert sheets[1].shape[0] >= sheets[0].shape[0] + shown.whole.size[0]
