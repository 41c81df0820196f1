"""SIM's pseudo masks and what prototypes learn from them: object by object, cell by cell.

Maps of samples are (h, w), features (D, h, w) of the same grid. Objects are dicts of `box`,
`label`, `image` and `samples`, a list of pairs of logits and predicted box; boxes are x1, y1, x2,
y2 in cells.
"""

import math

SHARPNESS, TEMPERATURE, CONFIDENT = 5.0, 0.1, 0.7
LOWEST_HIGH, HIGHEST_HIGH = 0.6, 0.7


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def iou(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    both = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return both / (areas - both)


def cells_of(box, size):
    """The (row, column) of all cells whose middle lies in the box."""
    return [
        (y, x)
        for y in range(size[0])
        for x in range(size[1])
        if box[0] <= x + 0.5 < box[2] and box[1] <= y + 0.5 < box[3]
    ]


def unit(vector):
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def dot(first, second):
    return sum(a * b for a, b in zip(first, second, strict=True))


def unit_cell(features, cell):
    return unit(features[:, cell[0], cell[1]].tolist())


def instance_mask(one, cell):
    """Equation 6: masks of samples whose predicted box fits weigh more."""
    weights = [math.exp(SHARPNESS * iou(box, one["box"])) for _, box in one["samples"]]
    scores = [sigmoid(float(logits[cell])) for logits, _ in one["samples"]]
    return dot(weights, scores) / sum(weights)


def corrected(one, features, prototypes, size):
    """Instance mask and cosines of the cells of an object's box, and its foreground cells.

    Args:
        one: the object, with the teacher's samples.
        features: the teacher's, of the object's image.
        prototypes: unit vectors of its class.
        size: (h, w).
    """
    cells = cells_of(one["box"], size)
    instance = {cell: instance_mask(one, cell) for cell in cells}
    cosines = {
        cell: max(dot(unit_cell(features, cell), vector) for vector in prototypes) for cell in cells
    }
    fused = {cell: (sigmoid(cosines[cell] / TEMPERATURE) + instance[cell]) / 2 for cell in cells}
    rank = sum(score > CONFIDENT for score in instance.values())
    high = [*sorted(fused.values(), reverse=True), 0.0][rank]
    high = min(max(high, LOWEST_HIGH), HIGHEST_HIGH)
    return instance, cosines, {cell for cell in cells if fused[cell] > high}


def assigned(vectors, prototypes, epsilon, iterations):
    """The prototype that each vector is assigned to, all prototypes with the same mass."""
    plan = [[math.exp(dot(one, other) / epsilon) for other in prototypes] for one in vectors]
    share = len(vectors) / len(prototypes)
    for _ in range(iterations):
        masses = [sum(column) / share for column in zip(*plan, strict=True)]
        plan = [[value / mass for value, mass in zip(row, masses, strict=True)] for row in plan]
        plan = [[value / sum(row) for value in row] for row in plan]
    return [row.index(max(row)) for row in plan]


def moved(prototypes, vectors, assignment, momentum):
    """One step of the moving average towards the means of `vectors`."""
    after = []
    for number, old in enumerate(prototypes):
        own = [v for v, place in zip(vectors, assignment, strict=True) if place == number]
        if own:
            mean = unit([sum(column) for column in zip(*own, strict=True)])
            old = unit([momentum * a + (1 - momentum) * b for a, b in zip(old, mean, strict=True)])
        after.append(old)
    return after
