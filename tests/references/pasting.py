"""What is left of a box under a paste, pixel by pixel."""


def what_is_left(box, tight, paste, share=0.25, side=4.0):
    """Box and tight axes of an object under `paste`, rows of bools; None where too little is left.

    Args:
        box: x1, y1, x2, y2 in pixels.
        tight: whether it is tight along x and along y.
        paste: rows of columns, True where something was pasted.
        share: of its pixels that must stay visible.
        side: of its box that must stay, in pixels.
    """
    x1, y1, x2, y2 = box
    pixels = [
        (x, y)
        for y in range(len(paste))
        for x in range(len(paste[0]))
        if x1 <= x + 0.5 < x2 and y1 <= y + 0.5 < y2
    ]
    covered = [(x, y) for x, y in pixels if paste[y][x]]
    left = [(x, y) for x, y in pixels if not paste[y][x]]
    if not covered:
        return tuple(box), tuple(tight)
    if not left or len(left) / len(pixels) < share:
        return None
    xs, ys = [x for x, _ in left], [y for _, y in left]
    seen = (max(min(xs), x1), max(min(ys), y1), min(max(xs) + 1, x2), min(max(ys) + 1, y2))
    if min(seen[2] - seen[0], seen[3] - seen[1]) < side:
        return None
    ends = [{f([p[axis] for p in pixels]) for f in (min, max)} for axis in (0, 1)]
    reached = [any(p[axis] in ends[axis] for p in covered) for axis in (0, 1)]
    hidden = [{p[axis] for p in pixels} != {p[axis] for p in left} for axis in (0, 1)]
    lost = [hit or gone for hit, gone in zip(reached, hidden, strict=True)]
    return seen, tuple(was and not gone for was, gone in zip(tight, lost, strict=True))
