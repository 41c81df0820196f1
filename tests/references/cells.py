"""SOLOv2's positive cells and Matrix NMS, one by one."""

import math
from fractions import Fraction


def may_explain(cell, box, side, size_range, share, image_size, all_sizes):
    """Whether the cell (row, column) of a grid of `side` x `side` may explain a box.

    Places are exact fractions: a middle on the line between two cells is in the second one.
    """
    x1, y1, x2, y2 = map(Fraction, box)
    size = min(max(math.sqrt((x2 - x1) * (y2 - y1)), all_sizes[0]), all_sizes[1])
    if not size_range[0] <= size <= size_range[1]:
        return False
    for place, low, high, extent in (
        (cell[0], y1, y2, image_size[0]),
        (cell[1], x1, x2, image_size[1]),
    ):
        middle = (low + high) / 2
        reach = Fraction(share) * (high - low) / 2
        home, first, last = (
            min(max(math.floor(point * side / extent), 0), side - 1)
            for point in (middle, middle - reach, middle + reach)
        )
        if not max(first, home - 1) <= place <= min(last, home + 1):
            return False
    return True


def matrix_nms(masks, scores, labels, sigma):
    """Scores of masks, best first, each lowered by the better one of its class that costs most."""

    def iou(first, second):
        both = sum(a and b for a, b in zip(masks[first], masks[second], strict=True))
        either = sum(a or b for a, b in zip(masks[first], masks[second], strict=True))
        return both / either if either else 0.0

    def better(row):
        return [other for other in range(row) if labels[other] == labels[row]]

    lowered = []
    for row, score in enumerate(scores):
        factor = 1.0
        for other in better(row):
            doubled = max((iou(third, other) for third in better(other)), default=0.0)
            fall = math.exp(-sigma * iou(other, row) ** 2) / math.exp(-sigma * doubled**2)
            factor = min(factor, fall)
        lowered.append(score * factor)
    return lowered
