"""Sheets on how masks are learned from boxes with SIM: stages, weights, prototypes, pasting."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from boxmask.visualization.correction_panels import (
    Boxes,
    PastedPicture,
    count_bars,
    pasted_legend,
    pasted_panel,
    pasted_words,
    prototype_colors,
    state_legend,
    state_words,
    states_panel,
)
from boxmask.visualization.explained import ClassPrototypes, Explained, Map, ObjectStages
from boxmask.visualization.fonts import load_font
from boxmask.visualization.page import FAINT, INK, Page, Panel, Row, rows_of
from boxmask.visualization.views import (
    BOX,
    COSINE,
    PREDICTED,
    TRUTH,
    Picture,
    View,
    heat,
    line_sample,
    painted,
    scale_sample,
    view_of_boxes,
    with_box,
    with_mask,
)

STAGE_CELL, SAMPLE_CELL, IMAGE_CELL, PASTED_CELL = (212, 212), (160, 160), (300, 380), (360, 460)
IOU_NOTE = "IoU: with the true mask, in the box, of what is above 0.5; on the cells of the maps"
AROUND, LEAST_SIDE = 1.35, 40.0  # part of the picture around a box: sides of the box, pixels


def masks_sheet(shown: Explained, objects: Sequence[ObjectStages], note: str = "") -> Picture:
    """The stages from a box to a mask, one row an object.

    Args:
        shown: the picture.
        objects: one or more.
        note: a remark, such as on objects that are left out.

    Returns:
        (H, W, 3) RGB.
    """
    alpha = shown.instance_share
    columns = [
        ("given box",),
        ("neighbours alone", "like colours, no network"),
        ("mean of samples", "μ = 0"),
        ("weighted mean Mᵢ", f"μ = {shown.sharpness:g}"),
        ("semantic map Mₛ", f"cosine at temperature {shown.temperature:g}"),
        ("fused", f"{1 - alpha:g} Mₛ + {alpha:g} Mᵢ"),
        ("coloured", "cells asked for colours"),
        ("refined", "drawn to borders of colours"),
        ("pseudo mask", "what the loss sees"),
        ("label mask", "what labelling gives"),
    ]
    has_truth = any(one.true_mask is not None for one in objects)
    if has_truth:
        columns.append(("true mask", "for comparison only"))
    return Page(
        title=f"From box to mask: {shown.name}",
        subtitle=(shown.model, *([note] if note else []), *([IOU_NOTE] if has_truth else [])),
        columns=tuple(columns),
        rows=tuple(_stages_row(shown, one) for one in objects),
        legend=(
            (scale_sample(), "score 0 to 1"),
            *state_legend(),
            (line_sample(BOX), "given box"),
        ),
    ).draw()


def weights_sheet(
    shown: Explained, objects: Sequence[ObjectStages], *, most: int, note: str = ""
) -> Picture:
    """The masks of each object's samples with their weights, heaviest first.

    Args:
        shown: the picture.
        objects: one or more.
        most: samples of an object that are shown.
        note: a remark.

    Returns:
        (H, W, 3) RGB.
    """
    return Page(
        title=f"Which samples count: {shown.name}",
        subtitle=(
            f"Each sample predicts a mask and a box. Its weight is wⱼ ~ exp(μ IoUⱼ), "
            f"μ = {shown.sharpness:g}, with the IoU of predicted and given box.",
            shown.model,
            *([note] if note else []),
        ),
        rows=tuple(_weights_row(shown, one, most) for one in objects),
        legend=(
            (scale_sample(), "score 0 to 1"),
            (line_sample(BOX), "given box"),
            (line_sample(PREDICTED, solid=False), "box that the sample predicts"),
        ),
    ).draw()


def prototypes_sheet(shown: Explained, classes: Sequence[ClassPrototypes]) -> Picture:
    """The nearest prototype of each cell, and the cosine to it, one row a class.

    Args:
        shown: the picture.
        classes: one or more.

    Returns:
        (H, W, 3) RGB.
    """
    least = math.floor(10 * min(float(one.cosine.min()) for one in classes)) / 10
    return Page(
        title=f"What the prototypes see: {shown.name}",
        subtitle=(
            "Each class has a few prototypes: unit vectors among the mask features. "
            "The semantic map is made of the cosine to the nearest one.",
            shown.model,
        ),
        columns=(
            ("boxes of the class",),
            ("nearest prototype",),
            ("cells by prototype",),
            ("cosine to it",),
        ),
        rows=tuple(_prototypes_row(shown, one, least) for one in classes),
        legend=(
            (scale_sample(COSINE), f"cosine {least:.1f} to 1"),
            (line_sample(BOX), "given box"),
        ),
    ).draw()


def pasted_sheet(shown: Explained, pasted: Sequence[PastedPicture], bank: str) -> Picture:
    """The picture before and after objects of other pictures were pasted into it.

    Args:
        shown: the picture.
        pasted: before, then after, several times.
        bank: what the memory bank holds, in words.

    Returns:
        (H, W, 3) RGB.
    """
    view = shown.whole
    panels = [Panel(picture=pasted_panel(view, one), caption=(pasted_words(one),))
              for one in pasted]  # fmt: skip
    return Page(
        title=f"Pasted objects: {shown.name}",
        subtitle=(bank, shown.model),
        rows=rows_of(panels, 2),
        legend=pasted_legend(),
    ).draw()


def _stages_row(shown: Explained, one: ObjectStages) -> Row:
    view = _object_view(shown, one.box[None], STAGE_CELL)
    picture = view.picture(shown.picture)
    place = view.place(one.box)

    def iou(stage: str) -> tuple[str, ...]:
        return (f"IoU {one.ious[stage]:.2f}",) if stage in one.ious else ()

    def hot(values: Map) -> Picture:
        return _heat_in_box(view, values, place)

    semantic = Panel(picture=_blank(view.size, "no prototypes yet"))
    if one.semantic is not None:
        semantic = Panel(picture=hot(one.semantic), caption=iou("semantic"))
    states = states_panel(view, shown.picture, [(one.box, one.states)])
    panels = [
        Panel(picture=with_box(picture, place)),
        Panel(picture=hot(one.neighbors), caption=iou("neighbors")),
        Panel(picture=hot(one.mean), caption=iou("mean")),
        Panel(picture=hot(one.instance), caption=iou("instance")),
        semantic,
        Panel(picture=hot(one.fused), caption=iou("fused")),
        Panel(picture=hot(one.colored), caption=iou("colored")),
        Panel(picture=hot(one.refined), caption=iou("refined")),
        Panel(picture=states, caption=(state_words(one.shares()), *iou("pseudo"))),
        Panel(picture=with_mask(picture, view.mask(one.label_mask)), caption=iou("label")),
    ]
    if one.true_mask is not None:
        panels.append(Panel(picture=with_mask(picture, view.mask(one.true_mask), TRUTH)))
    width, height = one.box[2:] - one.box[:2]
    heading = (
        one.name,
        f"{width:.0f} x {height:.0f} px",
        f"{len(one.samples)} sample{'' if len(one.samples) == 1 else 's'}",
        f"fg > {one.high:.2f}",
        f"bg < {shown.low:.2f}",
    )
    return Row(heading=heading, panels=tuple(panels))


def _weights_row(shown: Explained, one: ObjectStages, most: int) -> Row:
    samples = one.samples[:most]
    boxes = np.stack([one.box, *(sample.box for sample in samples)])
    view = _object_view(shown, boxes, SAMPLE_CELL, around=1.15)
    place = view.place(one.box)
    panels = [Panel(picture=with_box(view.picture(shown.picture), place), caption=("given box",))]
    for sample in samples:
        drawn = _heat_in_box(view, sample.scores, place)
        predicted = view.place(sample.box)
        drawn = with_box(drawn, predicted, PREDICTED, solid=(False, False))
        caption = (((f"wⱼ {sample.weight:.3f}", INK),), ((f"IoU {sample.fit:.2f}", FAINT),))
        panels.append(Panel(picture=_with_bar(drawn, sample.weight), caption=caption))
    whole = _heat_in_box(view, one.instance, place)
    panels.append(Panel(picture=_with_bar(whole, 1.0), caption=("Mᵢ = Σ wⱼ maskⱼ",)))
    left_out = len(one.samples) - len(samples)
    rest = sum(sample.weight for sample in one.samples[most:])
    words = [f"{left_out} more,", f"together w {rest:.2f}"] if left_out else []
    return Row(heading=(one.name, f"{len(one.samples)} samples", *words), panels=tuple(panels))


def _prototypes_row(shown: Explained, one: ClassPrototypes, least: float) -> Row:
    view = shown.whole
    picture = view.picture(shown.picture)
    colors = prototype_colors(len(one.counts))
    states = np.where(one.inside, one.nearest + 1, 0)
    nearest = painted(picture, view.cells(states), (None, *colors), 0.8)
    panels = [picture, nearest, heat(view.values(one.cosine), low=least, colors=COSINE)]
    for box in one.boxes:
        panels = [with_box(panel, view.place(box), width=1) for panel in panels]
    bars = count_bars(one.counts, colors, (view.size[0], 230))
    order = (panels[0], panels[1], bars, panels[2])
    return Row(heading=(one.name,), panels=tuple(Panel(picture=panel) for panel in order))


def _heat_in_box(view: View, values: Map, place: tuple[int, int, int, int]) -> Picture:
    """A map of scores in 0..1 with the given box."""
    return with_box(heat(view.values(values)), place, edge=INK)


def _with_bar(picture: Picture, share: float, height: int = 5) -> Picture:
    """The picture with a bar below it, as long as a share in 0..1 of its width."""
    bar = np.full((height + 3, picture.shape[1], 3), 255, dtype=np.uint8)
    bar[3:] = (232, 234, 238)
    bar[3:, : round(share * picture.shape[1])] = (38, 42, 50)
    return np.concatenate([picture, bar])


def _blank(size: tuple[int, int], words: str) -> Picture:
    image = Image.new("RGB", (size[1], size[0]), "#f0f1f3")
    middle = (size[1] // 2, size[0] // 2)
    ImageDraw.Draw(image).text(middle, words, fill=FAINT, font=load_font(13), anchor="mm")
    return np.array(image)


def _object_view(
    shown: Explained, boxes: Boxes, cell: tuple[int, int], around: float = AROUND
) -> View:
    return view_of_boxes(shown.whole, boxes, cell, around=around, least_side=LEAST_SIDE)
