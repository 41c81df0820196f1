"""BoxInst's projection term, number by number."""

EPSILON = 1e-5


def dice(values, targets):
    """1 - 2 |x t| / (|x|^2 + |t|^2) of two lists of numbers."""
    overlap = sum(x * t for x, t in zip(values, targets, strict=True))
    return 1 - 2 * overlap / (sum(x * x for x in values) + sum(t * t for t in targets) + EPSILON)


def projection_loss(scores, box_mask):
    """Both axes of one mask added: (h, w) scores and (h, w) 0 or 1, as lists of rows."""
    rows = dice([max(row) for row in scores], [max(row) for row in box_mask])
    columns = dice(
        [max(column) for column in zip(*scores, strict=True)],
        [max(column) for column in zip(*box_mask, strict=True)],
    )
    return rows + columns
