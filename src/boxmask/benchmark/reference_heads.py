"""CondInst's heads, their weights and their detections, beside stored values of the published code.

Features lie in `condinst_heads_train.npz`, weights in `condinst_heads_weights.npz`, both beside the
file that needs them. All sizes are read from the files. B images, P points.
"""

import re

import torch
from torch import Tensor

from boxmask.benchmark.reference_comparison import (
    WHOLE,
    Comparison,
    StoredValues,
    Tolerance,
    compared,
)
from boxmask.detectors.condinst import CondInstHeads, CondInstOutputs, CondInstSettings
from boxmask.detectors.fcos import FCOSSettings
from boxmask.detectors.point_detections import best_points
from boxmask.detectors.published_weights import load_published_heads
from boxmask.errors import UserError

TRAIN, WEIGHTS = "condinst_heads_train.npz", "condinst_heads_weights.npz"
LEVELS = range(3, 8)  # P3 to P7
EXACT = Tolerance(relative=0.0, absolute=0.0)
# Mask logits are sums of float32 numbers of up to hundreds that cancel to nearly nothing. What they
# may be off grows with the largest of them, and depends on the order in which a processor sums: of
# the stored ones 0.7 % are off by more than other values may be from the same sums in float64; of
# ours 1.3 % from the stored ones without AVX-512, less than 0.5 % with it. A wrong term is off
# nearly everywhere.
OF_LARGEST = 8e-6
FEW = Tolerance(relative=0.0, absolute=0.025)


def condinst_heads_weights(values: StoredValues) -> list[Comparison]:
    """Every number of the heads is the stored one of the published name."""
    state = load_heads(values).state_dict()
    differences = []
    for name in values:
        part = re.sub(r"^.*?(?=fcos_head\.|mask_branch\.|controller\.)", "", name)
        level = re.fullmatch(r"fcos_head\.scales\.(\d+)\.scale", part)
        ours = state["fcos_head.scales"][int(level[1])] if level else state.get(part)
        if ours is not None:  # weights of other parts are passed over
            differences.append((ours.reshape(values[name].shape).double() - values[name]).flatten())
    difference = torch.cat(differences)
    return [compared("all weights", difference, torch.zeros_like(difference), EXACT)]


def condinst_heads_infer(values: StoredValues) -> list[Comparison]:
    """Detections of every image, and the masks of the first of them."""
    train, weights = beside(values, TRAIN), beside(values, WEIGHTS)
    heads = load_heads(weights).eval()
    with torch.no_grad():
        outputs = heads([train[f"in.p{level}"] for level in LEVELS])
        images = range(len(outputs.features))
        found = [_detections(heads, outputs, image, image_size(train)) for image in images]
    rows = [(values["out.im_inds"] == image).nonzero()[:, 0] for image in images]
    counts = torch.tensor(
        [(len(one["classes"]), len(of_image)) for one, of_image in zip(found, rows, strict=True)]
    )
    number = compared("number of detections", counts[:, 0], counts[:, 1], WHOLE)
    if not number.ok:
        return [number]
    matches = [_match(one, values, of_image) for one, of_image in zip(found, rows, strict=True)]
    twice = torch.tensor([len(match) - len(match.unique()) for match in matches])
    order = torch.cat(rows).argsort()
    ours = {
        key: torch.cat([one[key][match] for one, match in zip(found, matches, strict=True)])[order]
        for key in found[0]
    }
    return [
        number,
        compared("detections that match two stored ones", twice, torch.zeros_like(twice), WHOLE),
        *_compare_detections(values, ours),
    ]


def _compare_detections(values: StoredValues, ours: dict[str, Tensor]) -> list[Comparison]:
    masks = "out.mask_probs_stride4_first24"
    count = len(values[masks])
    # A score moves by at most a quarter of what its logit moves.
    absolute = OF_LARGEST * float(ours["mask_logits"][:count].abs().max()) / 4
    return [
        values.compare("out.boxes_xyxy", ours["boxes"]),
        values.compare("out.scores", ours["scores"]),
        values.compare("out.classes", ours["classes"], WHOLE),
        values.compare("out.locations", ours["locations"]),
        values.compare("out.levels", ours["levels"], WHOLE),
        *compare_masks(values, masks, ours["masks"][:count], absolute=absolute),
    ]


def compare_masks(
    values: StoredValues, key: str, ours: Tensor, *, absolute: float
) -> list[Comparison]:
    """Compares masks with a tolerance of their own, and counts those beyond the standard one."""
    stored = values[key].reshape(ours.shape)
    beyond = 1 - torch.isclose(ours.detach(), stored, rtol=1e-4, atol=1e-5).double().mean()
    return [
        values.compare(key, ours, Tolerance(absolute=max(absolute, 1e-5))),
        compared(f"{key}, share beyond 1e-4", beyond, torch.zeros_like(beyond), FEW),
    ]


def load_heads(weights: StoredValues, *, samples_per_image: int = 64) -> CondInstHeads:
    """Heads with stored weights, as large as these are.

    Args:
        weights: arrays under the names of published checkpoints.
        samples_per_image: see `CondInstSettings`.

    Raises:
        UserError: If a weight is missing, or does not fit the others.
    """
    (classes,) = weights.matching(r"(.*\.)?fcos_head\.cls_logits\.weight")
    (last,) = weights.matching(r"mask_branch\.tower\.\d+\.weight")
    tower = weights.matching(r"(.*\.)?fcos_head\.cls_tower\.\d+\.weight")
    num_classes, channels = weights[classes].shape[:2]
    mask_channels, branch_channels = weights[last].shape[:2]
    settings = CondInstSettings(
        num_classes=num_classes,
        pyramid_channels=channels,
        branch_channels=branch_channels,
        mask_channels=mask_channels,
        mask_norm="batch",
        samples_per_image=samples_per_image,
        fcos=FCOSSettings(
            tower_depth=sum(weights[name].ndim == 4 for name in tower),
            iou_smoothing=1.0,  # the published code adds 1 to intersection and union
        ),
    )
    heads = CondInstHeads(settings)
    try:
        load_published_heads(heads, {name: weights[name] for name in weights})
    except UserError as error:
        what = f"{weights.file.name}: {error.what}"
        raise UserError(what, where=error.where, fix=error.fix) from error
    return heads


def beside(values: StoredValues, name: str) -> StoredValues:
    """The values of another file of the same folder.

    Raises:
        UserError: If it is not there, or cannot be read.
    """
    file = values.file.with_name(name)
    if not file.is_file():
        raise UserError(f"{values.file.name}: needs {name} beside it", where=str(file.parent))
    return StoredValues(file)


def image_size(train: StoredValues) -> tuple[int, int]:
    """(height, width) of the stored pictures."""
    height, width = train["in.image_rgb_u8"].shape[-2:]
    return height, width


def _detections(
    heads: CondInstHeads, outputs: CondInstOutputs, image: int, size: tuple[int, int]
) -> dict[str, Tensor]:
    """The objects of one image, best first, and the points that found them."""
    found = heads.image_detections(outputs, image, size)
    position = best_points(outputs.points, image, size, heads.settings.fcos)[0]
    assert len(position) == len(found)
    grid = outputs.points.grid
    return {
        "boxes": found.boxes,
        "scores": found.scores,
        "classes": found.labels,
        "masks": found.mask_scores,
        "mask_logits": heads.mask_logits(outputs, torch.full_like(position, image), position),
        "locations": grid.points[position],
        "levels": grid.levels[position],
    }


def _match(found: dict[str, Tensor], values: StoredValues, rows: Tensor) -> Tensor:
    """Our detection of nearest box and same class for each stored one of an image.

    Almost equal scores may change places, so their order says nothing.
    """
    boxes, classes = values["out.boxes_xyxy"][rows], values["out.classes"][rows]
    distance = (found["boxes"][None] - boxes[:, None]).abs().amax(dim=-1)  # (theirs, ours)
    other_class = found["classes"][None] != classes[:, None]
    return distance.masked_fill(other_class, torch.inf).argmin(dim=1)
