"""Masks of queries and costs of matching, cell by cell."""

import math


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def reference_axis_distance(projection, side, tight, smoothing):
    """One mask and one box along one axis."""
    overlap = sum(score for score, inside in zip(projection, side, strict=True) if inside)
    if not tight:
        return 1 - overlap / (sum(projection) + smoothing)
    squares = sum(score * score for score in projection) + sum(side)
    return 1 - 2 * overlap / (squares + smoothing)


def reference_mask(outputs, place):
    """Logits of the mask of (output, image, query) as rows."""
    output, image, query = place
    pixels = outputs.pixels[image].tolist()
    embedding = outputs.embeddings[output, image, query].tolist()
    size = tuple(outputs.pixels.shape[-2:])
    rows = []
    for row in range(size[0]):
        line = []
        for column in range(size[1]):
            line.append(sum(a * pixels[c][row][column] for c, a in enumerate(embedding)))
        rows.append(line)
    return rows


def reference_costs(outputs, target, settings):
    """Costs of the first image: (L, Q, N) as lists."""
    height, width = outputs.pixels.shape[-2:]
    costs = []
    for output in range(outputs.class_logits.shape[0]):
        per_query = []
        for query in range(outputs.class_logits.shape[2]):
            mask = reference_mask(outputs, (output, 0, query))
            columns = [sigmoid(max(line[c] for line in mask)) for c in range(width)]
            rows = [sigmoid(max(line)) for line in mask]
            powers = [math.exp(v) for v in outputs.class_logits[output, 0, query].tolist()]
            per_object = []
            for box, label, tight in zip(
                target.boxes.tolist(), target.labels.tolist(), target.tight.tolist(), strict=True
            ):
                across = [box[0] <= 4 * c + 2 < box[2] for c in range(width)]
                down = [box[1] <= 4 * r + 2 < box[3] for r in range(height)]
                distance = reference_axis_distance(columns, across, tight[0], settings.smoothing)
                distance += reference_axis_distance(rows, down, tight[1], settings.smoothing)
                probability = powers[label] / sum(powers)
                per_object.append(
                    settings.projection_cost * distance - settings.class_cost * probability
                )
            per_query.append(per_object)
        costs.append(per_query)
    return costs
