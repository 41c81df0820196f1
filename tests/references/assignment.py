"""FCOS's targets and the choice of mask samples, point by point."""

import math

RANGES = [(-1, 64), (64, 128), (128, 256), (256, 512), (512, math.inf)]


def point_target(x, y, stride, level, boxes, radius):
    """The box that a point must explain: (its index, l, t, r, b, centre-ness), or None."""
    best = None
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
        middle_x, middle_y = (x1 + x2) / 2, (y1 + y2) / 2
        in_box = min(left, top, right, bottom) > 0
        near = abs(x - middle_x) < radius * stride and abs(y - middle_y) < radius * stride
        low, high = RANGES[level]
        fits = low < max(left, top, right, bottom) <= high
        area = (x2 - x1) * (y2 - y1)
        if in_box and near and fits and (best is None or area < best[0]):
            best = (area, index, left, top, right, bottom)
    if best is None:
        return None
    _, index, left, top, right, bottom = best
    ratio = (min(left, right) / max(left, right)) * (min(top, bottom) / max(top, bottom))
    return index, left, top, right, bottom, math.sqrt(ratio)


def best_of_each_object(images, instances, scores, per_image):
    """Indices of the kept points: of each object the best max(per_image // objects, 1)."""
    kept = []
    for image in sorted(set(images)):
        rows = [row for row, value in enumerate(images) if value == image]
        objects = sorted({instances[row] for row in rows})
        share = max(per_image // len(objects), 1)
        for one in objects:
            mine = [row for row in rows if instances[row] == one]
            mine.sort(key=lambda row: -scores[row])
            kept += mine[:share]
    return kept
