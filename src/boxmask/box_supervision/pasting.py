"""Pastes objects into a picture, and finds what is left of those that were there.

Only the windows that objects and boxes fill are looked at, one after the other: they are a small
part of the picture, and the host has better to do beside a GPU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from boxmask.box_supervision.cut_out import CutOut
from boxmask.ops.masks import extent_of_mask
from boxmask.structures import Targets
from boxmask.waitless import send


@dataclass(frozen=True, kw_only=True)
class LeastVisible:
    """What must be seen of an object that is covered by others or cut off.

    Attributes:
        share: of its pixels, in 0..1.
        side: pixels of the shorter side of what is seen.
    """

    share: float = 0.25
    side: float = 4.0


def paste_objects(
    image: Tensor,
    targets: Targets,
    objects: Sequence[CutOut],
    image_size: tuple[int, int],
    least: LeastVisible,
) -> tuple[Tensor, Targets] | None:
    """Composes objects over an image, each at its own corner.

    Args:
        image: (3, H, W) RGB in 0..1, padded, on the CPU.
        targets: its objects.
        objects: what to paste; later ones cover earlier ones.
        image_size: (height, width) without padding; what lies beyond is cut off.
        least: what must stay visible.

    Returns:
        The new image and targets, or None where nothing visible was pasted.
    """
    pieces = visible_pieces(objects, image_size, least)
    if not pieces:
        return None
    image = image.clone()
    paint(image, pieces)
    size = (image.shape[-2], image.shape[-1])
    return image, with_pieces(targets, pieces, size, least)


def visible_pieces(
    objects: Sequence[CutOut], image_size: tuple[int, int], least: LeastVisible
) -> list[CutOut]:
    """What is to be seen of objects that lie over each other, each no larger than that.

    Args:
        objects: each at its own corner; later ones cover earlier ones.
        image_size: (height, width) of what they lie in; what lies beyond is cut off.
        least: what must stay visible of an object; those with less are left out, and nothing of
            what they cover comes back.
    """
    height, width = image_size
    top = np.zeros(image_size, dtype=np.int32)  # which object lies on top, counted from 1
    windows = []
    for number, one in enumerate(objects, start=1):
        x, y = one.corner
        window = top[y : y + one.mask.shape[0], x : x + one.mask.shape[1]]
        window[one.mask[: max(height - y, 0), : max(width - x, 0)].numpy()] = number
        windows.append(window)
    pieces = []
    for number, (one, window) in enumerate(zip(objects, windows, strict=True), start=1):
        seen = window == number
        extent = extent_of_mask(seen)
        enough = int(seen.sum()) >= least.share * int(one.mask.sum())
        if extent is None or not enough or min(_shape(extent)) < least.side:
            continue
        rows, columns = extent
        pieces.append(
            replace(
                one,
                picture=one.picture[:, rows, columns].contiguous(),
                mask=torch.from_numpy(seen[rows, columns].copy()),
                corner=(one.corner[0] + columns.start, one.corner[1] + rows.start),
            )
        )
    return pieces


def paint(image: Tensor, pieces: Sequence[CutOut]) -> None:
    """Draws pieces into (3, H, W) RGB in 0..1, in place, on any device, without a wait."""
    for one in pieces:
        piece = one.to(image.device)
        region = image[:, *_window(one)]
        region.copy_(torch.where(piece.mask, piece.picture.to(image.dtype) / 255, region))


def with_pieces(
    targets: Targets, pieces: Sequence[CutOut], size: tuple[int, int], least: LeastVisible
) -> Targets:
    """What is left of a picture's objects under visible pieces, and behind them the pieces.

    Args:
        targets: on the CPU.
        pieces: see `visible_pieces`; their masks are trusted.
        size: (height, width) of the picture with its padding.
        least: what must stay visible of an object.
    """
    paste = torch.zeros(size, dtype=torch.bool)
    for one in pieces:
        paste[_window(one)] |= one.mask
    left = covered_originals(targets, paste, least)
    ends = [(*one.corner, *np.add(one.corner, one.mask.shape[::-1])) for one in pieces]
    known = torch.ones(len(pieces), 2, dtype=torch.bool)
    before = torch.zeros(len(left), dtype=torch.bool) if left.pasted is None else left.pasted
    return Targets(
        boxes=torch.cat([left.boxes, torch.tensor(ends, dtype=left.boxes.dtype)]),
        labels=torch.cat([left.labels, left.labels.new_tensor([one.label for one in pieces])]),
        tight=torch.cat([left.tight, known]),
        masks=_with_masks(left.masks, len(left), pieces, size, torch.device("cpu")),
        trusted=torch.cat([left.trusted, known[:, 0]]),
        pasted=torch.cat([before, known[:, 0]]),
    )


def sent_with_pieces(targets: Targets, pieces: Sequence[CutOut], device: torch.device) -> Targets:
    """What `with_pieces` gives for objects without masks, on a device, without a wait for it.

    Only what the pieces fill of their masks is sent.
    """
    assert targets.masks is not None
    size = (targets.masks.shape[-2], targets.masks.shape[-1])
    sent = replace(targets, masks=None).to(device, non_blocking=True)
    masks = _with_masks(None, len(targets) - len(pieces), pieces, size, device)
    sent = replace(sent, masks=masks)
    sent.remember(targets)
    return sent


def covered_originals(targets: Targets, paste: Tensor, least: LeastVisible) -> Targets:
    """What is left of the objects under a paste.

    Where an object really ends inside its box is not known. Its box shrinks to what is not
    covered. An axis is no longer tight where the paste reaches an end of the old box, or hides a
    whole row or column of it, whose foreground the projection would look for elsewhere.

    Args:
        targets: N objects, on the CPU.
        paste: (H, W) bool, pasted pixels.
        least: what must stay visible.
    """
    boxes, tight = targets.boxes.clone(), targets.tight.clone()
    keep = torch.ones(len(targets), dtype=torch.bool)
    for index, (x1, y1, x2, y2) in enumerate(targets.boxes.tolist()):
        rows, columns = _pixels(y1, y2), _pixels(x1, x2)
        covered = paste[rows, columns].numpy()
        if not covered.any():
            continue  # a box that is not touched keeps its exact corners
        extent = extent_of_mask(~covered)
        if extent is None or (~covered).mean() < least.share:
            keep[index] = False
            continue
        (top, bottom), (left, right) = (
            (pixels.start + part.start, pixels.start + part.stop)
            for pixels, part in zip((rows, columns), extent, strict=True)
        )
        seen = max(left, x1), max(top, y1), min(right, x2), min(bottom, y2)
        keep[index] = min(seen[2] - seen[0], seen[3] - seen[1]) >= least.side
        boxes[index] = boxes.new_tensor(seen)
        tight[index, 0] &= not (covered[:, [0, -1]].any() or covered.all(axis=0).any())
        tight[index, 1] &= not (covered[[0, -1]].any() or covered.all(axis=1).any())
    masks = None if targets.masks is None else targets.masks & ~paste
    return replace(targets, boxes=boxes, tight=tight, masks=masks).select(keep)


def _pixels(start: float, end: float) -> slice:
    """Those whose centres lie from `start` to before `end`."""
    first = max(math.ceil(start - 0.5), 0)
    return slice(first, max(math.ceil(end - 0.5), first))


def _shape(extent: tuple[slice, slice]) -> tuple[int, int]:
    rows, columns = extent
    return rows.stop - rows.start, columns.stop - columns.start


def _window(piece: CutOut) -> tuple[slice, slice]:
    """Rows and columns of its picture that a piece fills."""
    (x, y), (height, width) = piece.corner, piece.mask.shape
    return slice(y, y + height), slice(x, x + width)


def _with_masks(
    others: Tensor | None,
    num_others: int,
    pieces: Sequence[CutOut],
    size: tuple[int, int],
    device: torch.device,
) -> Tensor:
    """Masks of objects (N, H, W), empty where there are none, and behind them those of pieces."""
    masks = torch.zeros((num_others + len(pieces), *size), dtype=torch.bool, device=device)
    if others is not None:
        masks[:num_others] = others
    for mask, one in zip(masks[num_others:], pieces, strict=True):
        mask[_window(one)] = send(one.mask, device)
    return masks
