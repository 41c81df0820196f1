import torch

from boxmask.box_supervision.drawn_objects import drawn_alone
from boxmask.box_supervision.weak_loss import LossContext
from boxmask.ops.boxes import outside_boxes
from correction_batches import CELL, HEIGHT, WIDTH, batch_with, build, context_for

CROWD = batch_with(
    [[4, 4, 40, 50], [20, 8, 30, 18], [50, 40, 76, 60]],
    [[8, 8, 60, 60], [30, 10, 76, 40]],
)


def without(context, *objects):
    """The context, in which some objects have no samples."""
    keep = torch.tensor([i not in objects for i in context.student.instance_index.tolist()])
    return LossContext(
        batch=context.batch,
        student=context.student.select(keep),
        teacher=context.teacher.select(keep),
        progress=context.progress,
    )


def test_objects_without_samples_are_left_out():
    context = drawn_alone(without(context_for(CROWD), 1, 3))
    assert [len(one) for one in context.batch.targets] == [2, 1]
    assert context.student.instance_index.tolist() == [0, 1, 2]
    assert context.teacher.instance_index.tolist() == [0, 1, 2]
    boxes = torch.cat([one.boxes for one in context.batch.targets])
    assert torch.equal(boxes, context.student.boxes)


def test_nothing_changes_where_every_object_has_samples():
    context = context_for(CROWD, repeats=2)
    assert drawn_alone(context) is context


def test_drawn_objects_get_the_same_pseudo_masks():
    whole = without(context_for(CROWD), 1, 3)
    loss = build()
    loss.bank.updates += 1  # classes are known
    everything = loss.correct(whole)
    few = loss.correct(drawn_alone(whole), outside_boxes(CROWD, (HEIGHT, WIDTH)))
    rows = torch.tensor([0, 2, 4])
    for field in ("instance", "semantic", "inside", "labels", "image_index"):
        assert torch.equal(getattr(few, field), getattr(everything, field)[rows]), field
    assert torch.equal(few.masks.foreground, everything.masks.foreground[rows])
    assert torch.equal(few.cosine_sums[:, 0], everything.cosine_sums[:, 0])
    assert torch.equal(few.cosine_counts[:, 0], everything.cosine_counts[:, 0])
    outside = outside_boxes(CROWD, (HEIGHT, WIDTH)).flatten(1).sum(dim=1)  # of each picture
    assert float(few.cosine_counts[0, 1]) == float(2 * outside[0] + outside[1])


def test_a_crowd_moves_prototypes_and_bank():
    loss = build()
    context = without(context_for(CROWD, progress=0.4), 1, 3)
    loss(context).total.backward()
    loss.update(context)
    assert int(loss.bank.updates.sum()) > 0


def test_cells_outside_all_boxes_against_loops():
    batch = batch_with([[4, 4, 40, 50], [30, 6, 70.5, 21], [-5, 40, 9, 90]], [])
    batch.valid[1, 30:] = False
    found = outside_boxes(batch, (HEIGHT, WIDTH))
    for image in range(2):
        for row in range(HEIGHT):
            for column in range(WIDTH):
                x, y = (column + 0.5) * CELL, (row + 0.5) * CELL
                covered = any(
                    x1 <= x < x2 and y1 <= y < y2
                    for x1, y1, x2, y2 in batch.targets[image].boxes.tolist()
                )
                valid = bool(batch.valid[image, int(y), int(x)])
                assert bool(found[image, row, column]) == (valid and not covered)
