"""Masks and boxes, pixel by pixel."""

import math

import torch


def bilinear(grid, y, x):
    """Value of an (h, w) map at fractional cell indices, clamped to its border cells."""
    height, width = grid.shape
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = float(grid[top, left]) * (1 - fx) + float(grid[top, right]) * fx
    lower = float(grid[bottom, left]) * (1 - fx) + float(grid[bottom, right]) * fx
    return upper * (1 - fy) + lower * fy


def aligned_upsample(grid, factor):
    """Fine cell i shows coarse place (i - factor // 2) / factor."""
    height, width = grid.shape
    out = torch.zeros(height * factor, width * factor, dtype=grid.dtype)
    for y in range(height * factor):
        for x in range(width * factor):
            out[y, x] = bilinear(grid, (y - factor // 2) / factor, (x - factor // 2) / factor)
    return out


def pasted_scores(mask_scores, frame, scale, size):
    """The score at every pixel of the picture, 0 outside the frame."""
    height, width = mask_scores.shape
    x1, y1, x2, y2 = (float(value) for value in frame)
    out = torch.zeros(size, dtype=torch.float64)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = (column + 0.5) * scale[0], (row + 0.5) * scale[1]
            if x1 <= x <= x2 and y1 <= y <= y2:
                out[row, column] = bilinear(
                    mask_scores,
                    (y - y1) / (y2 - y1) * height - 0.5,
                    (x - x1) / (x2 - x1) * width - 0.5,
                )
    return out


def box_of_mask(mask):
    """x1, y1, x2, y2 with exclusive ends; zeros for an empty mask."""
    cells = [(y, x) for y, row in enumerate(mask.tolist()) for x, value in enumerate(row) if value]
    if not cells:
        return [0, 0, 0, 0]
    rows, columns = zip(*cells, strict=True)
    return [min(columns), min(rows), max(columns) + 1, max(rows) + 1]
