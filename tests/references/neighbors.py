"""Neighbours, colours and the pairwise term, cell by cell."""

import math

import torch

OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]


def neighbor_pairs(height, width, dilation):
    """All (y, x, which neighbour, y of it, x of it) with both ends inside the map."""
    for y in range(height):
        for x in range(width):
            for index, (dy, dx) in enumerate(OFFSETS):
                other_y, other_x = y + dy * dilation, x + dx * dilation
                if 0 <= other_y < height and 0 <= other_x < width:
                    yield y, x, index, other_y, other_x


def similarity(maps, dilation, divisor):
    """exp(-distance / divisor) of vectors (C, h, w) to neighbours: (8, h, w), 0 outside."""
    height, width = maps.shape[-2:]
    out = torch.zeros(8, height, width, dtype=maps.dtype)
    for y, x, index, other_y, other_x in neighbor_pairs(height, width, dilation):
        distance = float((maps[:, y, x] - maps[:, other_y, other_x]).norm())
        out[index, y, x] = math.exp(-distance / divisor)
    return out


def valid_pairs(valid, dilation, both_ends):
    """(8, h, w) bool from (h, w) bool.

    With `both_ends` False only the neighbour is asked, as in the published code: an edge from a
    cell that does not count to one that does then teaches. Ours asks both ends.
    """
    height, width = valid.shape
    out = torch.zeros(8, height, width, dtype=torch.bool)
    for y, x, index, other_y, other_x in neighbor_pairs(height, width, dilation):
        out[index, y, x] = bool(valid[other_y, other_x]) and (not both_ends or bool(valid[y, x]))
    return out


def pairwise_sum(logits, similar, inside, image_index, dilation):
    """Sum and number of -log P(same) over edges that start in the box, by the definition."""
    total = logits.sum() * 0
    count = 0
    height, width = logits.shape[-2:]
    for row in range(len(logits)):
        scores = logits[row].sigmoid()
        for y, x, index, other_y, other_x in neighbor_pairs(height, width, dilation):
            if inside[row, y, x] and similar[image_index[row], index, y, x]:
                p, q = scores[y, x], scores[other_y, other_x]
                total = total - torch.log(p * q + (1 - p) * (1 - q))
                count += 1
    return total, count


def lab_of_rgb(red, green, blue):
    """CIE-LAB (D65) of one sRGB colour with channels in 0..1."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    rows = (
        (0.412453, 0.357580, 0.180423),
        (0.212671, 0.715160, 0.072169),
        (0.019334, 0.119193, 0.950227),
    )
    white = (0.95047, 1.0, 1.08883)
    xyz = [sum(a * b for a, b in zip(row, linear, strict=True)) for row in rows]
    cut = (6 / 29) ** 3
    f = [
        (value / w) ** (1 / 3) if value / w > cut else 7.787 * value / w + 16 / 116
        for value, w in zip(xyz, white, strict=True)
    ]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
