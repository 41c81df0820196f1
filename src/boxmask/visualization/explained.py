"""What sheets on a picture's learning show: plain arrays, made elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from boxmask.visualization.correction_panels import Boxes, States, state_shares
from boxmask.visualization.views import Mask, Picture, View

Map = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SampleMask:
    """The mask of one positive sample.

    Attributes:
        scores: (h, w) in 0..1.
        box: (4,) that the sample predicts, in input pixels.
        fit: IoU with the given box, in 0..1.
        weight: share in the object's instance mask, in 0..1.
    """

    scores: Map
    box: Boxes
    fit: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class ObjectStages:
    """How the pseudo mask of one object came about; maps are (h, w) over the padded input.

    Attributes:
        name: its number and class.
        box: (4,) given box in input pixels.
        neighbors: in 0..1, what like neighbours alone make of the box, without a network.
        mean: plain mean of its samples, in 0..1.
        instance: their weighted mean, in 0..1.
        semantic: in 0..1; None while its class has no prototypes.
        fused: in 0..1.
        colored: in 0..1, the fused map after each cell was asked for its colours.
        refined: in 0..1, that map at 0.5 with its border drawn to borders of colours.
        states: `FOREGROUND`, ... of each cell.
        high: threshold of foreground, in 0..1.
        label_mask: (H, W) bool, what labelling gives; at the picture's size.
        true_mask: (H, W) bool, or None where the data has none.
        ious: IoU with the true mask, in 0..1, of each stage by name; empty without a true mask.
        samples: heaviest first.
    """

    name: str
    box: Boxes
    neighbors: Map
    mean: Map
    instance: Map
    semantic: Map | None
    fused: Map
    colored: Map
    refined: Map
    states: States
    high: float
    label_mask: Mask
    true_mask: Mask | None
    ious: dict[str, float] = field(default_factory=dict)
    samples: tuple[SampleMask, ...] = ()

    def shares(self) -> tuple[float, float, float]:
        """Shares of the box, in 0..1, that are foreground, background and ignored."""
        return state_shares(self.states)


@dataclass(frozen=True, kw_only=True)
class ClassPrototypes:
    """What the prototypes of one class see in a picture; maps are (h, w) over the padded input.

    Attributes:
        name: the class.
        boxes: (N, 4) its boxes in input pixels.
        nearest: prototype of each cell, 0..L-1.
        inside: bool, cells of its boxes.
        cosine: in -1..1, to the nearest prototype.
        counts: (L,) cells of the boxes by prototype.
    """

    name: str
    boxes: Boxes
    nearest: NDArray[np.int64]
    inside: Mask
    cosine: Map
    counts: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Explained:
    """The picture that sheets are about.

    Attributes:
        name: of the picture.
        model: what made the maps, in words.
        picture: (H, W, 3) at any size.
        whole: view of the whole picture.
        sharpness: mu of the weights.
        temperature: tau of the semantic map.
        instance_share: alpha, share of the instance mask in the fused map, in 0..1.
        low: threshold below which a cell is background, in 0..1.
    """

    name: str
    model: str
    picture: Picture
    whole: View
    sharpness: float
    temperature: float
    instance_share: float
    low: float
