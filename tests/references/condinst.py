"""CondInst's heads by plain layers and loops, with made-up weights: training, SIM's losses, use."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from references import assignment, dynamic_mask, masks, neighbors, projection, stored_values

STRIDES = (8, 16, 32, 64, 128)
CLASSES, CHANNELS, BRANCH, FEATURES, DEPTH = 3, 32, 4, 2, 1
HIDDEN = 8
SIZE = (64, 96)  # height, width
PER_IMAGE, ITERATION = 5, 15_000
BOXES = (
    [[4.0, 6.0, 60.0, 50.0], [50.0, 20.0, 92.0, 60.0]],
    [[10.0, 10.0, 40.0, 44.0], [30.0, 2.0, 90.0, 62.0], [60.0, 30.0, 80.0, 58.0]],
)
LABELS = ([0, 2], [1, 1, 0])


def make_weights(rng):
    def layer(outputs, inputs, side, spread):
        return stored_values.numbers(rng, outputs, inputs, side, side, spread=spread)

    def bias(count):
        return stored_values.numbers(rng, count, spread=0.2)

    weights = {}
    for tower in ("cls_tower", "bbox_tower"):
        for place in range(DEPTH):
            name = f"fcos.fcos_head.{tower}.{3 * place}"
            weights |= {f"{name}.weight": layer(CHANNELS, CHANNELS, 3, 0.1)}
            weights |= {f"{name}.bias": bias(CHANNELS)}
            name = f"fcos.fcos_head.{tower}.{3 * place + 1}"
            weights |= {f"{name}.weight": 1 + bias(CHANNELS), f"{name}.bias": bias(CHANNELS)}
    for name, count in (("cls_logits", CLASSES), ("bbox_pred", 4), ("ctrness", 1)):
        weights |= {f"fcos.fcos_head.{name}.weight": layer(count, CHANNELS, 3, 0.05)}
        weights |= {f"fcos.fcos_head.{name}.bias": bias(count)}
    for level in range(5):
        weights[f"fcos.fcos_head.scales.{level}.scale"] = 1 + bias(1).abs()
    blocks = [(f"refine.{i}", CHANNELS) for i in range(3)] + [
        (f"tower.{i}", BRANCH) for i in range(4)
    ]
    for name, inputs in blocks:
        norm = f"mask_branch.{name}.1"
        weights |= {f"mask_branch.{name}.0.weight": layer(BRANCH, inputs, 3, 0.2)}
        weights |= {f"{norm}.weight": 1 + bias(BRANCH), f"{norm}.bias": bias(BRANCH)}
        weights |= {
            f"{norm}.running_mean": bias(BRANCH),
            f"{norm}.running_var": 1 + bias(BRANCH).abs(),
        }
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    weights |= {"mask_branch.tower.4.weight": layer(FEATURES, BRANCH, 1, 0.5)}
    weights["mask_branch.tower.4.bias"] = bias(FEATURES)
    count = (FEATURES + 2) * HIDDEN + HIDDEN * HIDDEN + HIDDEN + 2 * HIDDEN + 1
    weights |= {
        "controller.weight": layer(count, CHANNELS, 3, 0.05),
        "controller.bias": bias(count),
    }
    # What is stored is float32: compute with exactly that.
    return {k: v.float().double() if v.is_floating_point() else v for k, v in weights.items()}


def make_levels(rng):
    sizes = [(math.ceil(SIZE[0] / stride), math.ceil(SIZE[1] / stride)) for stride in STRIDES]
    return [
        stored_values.numbers(rng, len(BOXES), CHANNELS, *size).float().double() for size in sizes
    ]


def convolved(maps, weights, name, padding=1):
    return F.conv2d(maps, weights[f"{name}.weight"], weights.get(f"{name}.bias"), padding=padding)


def point_maps(levels, weights):
    """Of all points, level after level: class logits, ltrb, centre-ness, controller; grid."""
    head, rows = "fcos.fcos_head", []
    grid = []
    for number, (maps, stride) in enumerate(zip(levels, STRIDES, strict=True)):
        towers = {}
        for tower in ("cls_tower", "bbox_tower"):
            x = maps
            for place in range(DEPTH):
                x = convolved(x, weights, f"{head}.{tower}.{3 * place}")
                norm = f"{head}.{tower}.{3 * place + 1}"
                x = F.group_norm(x, 32, weights[f"{norm}.weight"], weights[f"{norm}.bias"]).relu()
            towers[tower] = x
        boxes = convolved(towers["bbox_tower"], weights, f"{head}.bbox_pred")
        found = (
            convolved(towers["cls_tower"], weights, f"{head}.cls_logits"),
            (boxes * weights[f"{head}.scales.{number}.scale"]).relu(),
            convolved(towers["bbox_tower"], weights, f"{head}.ctrness"),
            convolved(towers["bbox_tower"], weights, "controller"),
        )
        rows.append([one.flatten(2).transpose(1, 2) for one in found])
        for y in range(maps.shape[2]):
            for x in range(maps.shape[3]):
                grid.append(((x + 0.5) * stride, (y + 0.5) * stride, stride, number))
    return [torch.cat(parts, dim=1) for parts in zip(*rows, strict=True)], grid


def upsampled(maps, factor):
    return torch.stack(
        [torch.stack([masks.aligned_upsample(grid, factor) for grid in one]) for one in maps]
    )


def mask_features(levels, weights, training):
    def block(x, name):
        norm = f"mask_branch.{name}.1"
        return F.batch_norm(
            convolved(x, weights, f"mask_branch.{name}.0"),
            weights[f"{norm}.running_mean"].clone(), weights[f"{norm}.running_var"].clone(),
            weights[f"{norm}.weight"], weights[f"{norm}.bias"], training=training,
        ).relu()  # fmt: skip

    merged = block(levels[0], "refine.0")
    for place, factor in ((1, 2), (2, 4)):
        merged = merged + upsampled(block(levels[place], f"refine.{place}"), factor)
    for place in range(4):
        merged = block(merged, f"tower.{place}")
    return convolved(merged, weights, "mask_branch.tower.4", padding=0)


def mask_logits(features, controller, grid, images, positions):
    points = torch.tensor([grid[p][:2] for p in positions], dtype=torch.float64)
    reach = torch.tensor([64.0 * 2 ** grid[p][3] for p in positions], dtype=torch.float64)
    parameters = torch.stack([controller[i, p] for i, p in zip(images, positions, strict=True)])
    coarse = dynamic_mask.mask_logits(features, parameters, points, reach, images, 8)
    return torch.stack([masks.aligned_upsample(grid, 2) for grid in coarse])


def focal(logit, target):
    p = stored_values.sigmoid(logit)
    if target:
        return -0.25 * (1 - p) ** 2 * math.log(p)
    return -0.75 * p**2 * math.log(1 - p)


def box_distance(found, wanted):
    """1 - generalised IoU of two ltrb, with 1 added to intersection and union."""
    near = [min(pair) for pair in zip(found, wanted, strict=True)]
    far = [max(pair) for pair in zip(found, wanted, strict=True)]
    area, hull, inner = ((ltrb[0] + ltrb[2]) * (ltrb[1] + ltrb[3]) for ltrb in (found, far, near))
    union = area + (wanted[0] + wanted[2]) * (wanted[1] + wanted[3]) - inner
    return 1 - (inner + 1) / (union + 1) + (hull - union) / hull


def positives(grid):
    """(image, object of the batch, place, its target) of all positive points."""
    found, offset = [], 0
    for image, boxes in enumerate(BOXES):
        for place, (x, y, stride, level) in enumerate(grid):
            target = assignment.point_target(x, y, stride, level, boxes, 1.5)
            if target is not None:
                found.append((image, target[0] + offset, place, target))
        offset += len(boxes)
    return found


def described(group, found, grid):
    images, objects, places = ([row[i] for row in found] for i in range(3))
    return {
        f"out.{group}_im_inds": images, f"out.{group}_gt_inds": objects,
        f"out.{group}_locations": np.array([grid[p][:2] for p in places], dtype=np.float32),
        f"out.{group}_levels": [grid[p][3] for p in places],
    }  # fmt: skip


def detection_losses(found, grid, classes, ltrb, center):
    labels = [label for image in LABELS for label in image]
    wanted = torch.zeros_like(classes)
    for image, owner, place, _ in found:
        wanted[image, place, labels[owner]] = 1
    pairs = zip(classes.flatten().tolist(), wanted.flatten().tolist(), strict=True)
    box, weight, middle = 0.0, 0.0, 0.0
    for image, _, place, (_, *sides, target) in found:
        sides = [side / grid[place][2] for side in sides]
        box += target * box_distance(ltrb[image, place].tolist(), sides)
        weight += target
        p = stored_values.sigmoid(center[image, place])
        middle -= target * math.log(p) + (1 - target) * math.log(1 - p)
    return {
        "out.loss_fcos_cls": sum(focal(*pair) for pair in pairs) / len(found),
        "out.loss_fcos_loc": box / weight, "out.loss_fcos_ctr": middle / len(found),
    }  # fmt: skip


def every_fourth(maps):
    return maps[..., 2::4, 2::4]


def color_likeness(images, valid):
    """Of all pictures, from averages of 4 x 4 pixels cut to whole grey levels: (B, 8, h, w)."""
    found = []
    for image, one in zip(images, valid, strict=True):
        lab = stored_values.lab_of(F.avg_pool2d(image.double(), 4).floor())
        one_sided = neighbors.valid_pairs(every_fourth(one), 2, both_ends=False)
        found.append(neighbors.similarity(lab, 2, 2) * one_sided)
    return torch.stack(found)


def doubled(features):
    """Half-pixel bilinear upsampling by 2 of (D, h, w)."""
    height, width = features.shape[1:]
    out = torch.zeros(len(features), 2 * height, 2 * width, dtype=features.dtype)
    for channel, y, x in np.ndindex(out.shape):
        out[channel, y, x] = masks.bilinear(
            features[channel], (y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5
        )
    return out


def box_losses(logits, features, kept, images, valid, prototypes):
    """BoxInst's and SIM's, with a teacher that equals the student."""
    all_boxes = [box for boxes in BOXES for box in boxes]
    owner = torch.tensor([row[1] for row in kept])
    inside = every_fourth(
        torch.stack([stored_values.drawn_box(all_boxes[one], *SIZE) for one in owner])
    )
    scores = logits.sigmoid()
    axes = [
        projection.projection_loss(score.tolist(), box.double().tolist())
        for score, box in zip(scores, inside, strict=True)
    ]
    color = color_likeness(images, valid)
    fine = torch.stack([doubled(one) for one in features])
    both = color * torch.stack([neighbors.similarity(one, 2, 1) for one in fine])
    of_image = torch.tensor([row[0] for row in kept])

    def pairwise(similar):
        total, count = neighbors.pairwise_sum(logits, similar, inside, of_image, 2)
        return total / count

    unit = prototypes / prototypes.norm(dim=1, keepdim=True)
    labels = [label for image in LABELS for label in image]
    semantic = torch.stack(
        [
            torch.einsum("lc,chw->lhw", unit[labels[one]], fine[image] / fine[image].norm(dim=0))
            for image, one, *_ in kept
        ]
    ).amax(dim=1)
    *_, pseudo, weight = stored_values.pseudo_masks(scores, semantic, inside.double(), owner)
    focal_loss = stored_values.double_sigmoid_focal_loss(scores, pseudo, weight)
    return {
        "out.boxinst_loss_projection": sum(axes) / len(axes),
        "out.sim_loss_projection": sum(axes) / len(axes),
        "out.boxinst_loss_pairwise_thr0.2": pairwise(color >= 0.2),
        f"out.sim_loss_pairwise_thr0.05_iter{ITERATION}": pairwise(both >= 0.05),
        f"out.sim_loss_pseudo_iter{ITERATION}": focal_loss * 0.3 * ITERATION / 270_000,
    }


def overlap(first, second):
    sides = [min(first[i + 2], second[i + 2]) - max(first[i], second[i]) for i in (0, 1)]
    inner = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return inner / max(sum(areas) - inner, 1e-12)


def image_detections(image, grid, classes, ltrb, center):
    """(score, box, class, place), best first, at most 100."""
    rows = []
    for place, (x, y, stride, _) in enumerate(grid):
        for label in range(CLASSES):
            joint = stored_values.sigmoid(classes[image, place, label])
            joint *= stored_values.sigmoid(center[image, place])
            left, top, right, bottom = (float(side) * stride for side in ltrb[image, place])
            box = [
                max(x - left, 0),
                max(y - top, 0),
                min(x + right, SIZE[1]),
                min(y + bottom, SIZE[0]),
            ]
            if joint > 0.05:
                rows.append((math.sqrt(joint), box, label, place))
    kept = []
    for row in sorted(rows, key=lambda row: -row[0]):
        rivals = (other for other in kept if other[2] == row[2])
        if all(overlap(row[1], other[1]) <= 0.6 for other in rivals):
            kept.append(row)
    return kept[:100]


def infer(levels, weights, num_masks=4):
    (classes, ltrb, center, controller), grid = point_maps(levels, weights)
    rows = [
        (image, *row)
        for image in range(len(BOXES))
        for row in image_detections(image, grid, classes, ltrb, center[..., 0])
    ]
    images, scores, boxes, labels, places = zip(*rows, strict=True)
    features = mask_features(levels, weights, training=False)
    logits = mask_logits(features, controller, grid, images[:num_masks], places[:num_masks])
    return {
        "in_is": "as in condinst_heads_train", "out.boxes_xyxy": np.array(boxes),
        "out.scores": np.array(scores), "out.classes": labels, "out.im_inds": images,
        "out.locations": np.array([grid[p][:2] for p in places], dtype=np.float32),
        "out.levels": [grid[p][3] for p in places],
        "out.mask_probs_stride4_first24": logits.sigmoid()[:, None],
    }  # fmt: skip


def train(levels, weights, rng, num_masks=3):
    (classes, ltrb, center, controller), grid = point_maps(levels, weights)
    found = positives(grid)
    scores = [
        float(classes[image, place].sigmoid().max() * center[image, place, 0].sigmoid())
        for image, _, place, _ in found
    ]
    chosen = assignment.best_of_each_object(
        [row[0] for row in found], [row[1] for row in found], scores, PER_IMAGE
    )
    kept = [found[row] for row in chosen]
    features = mask_features(levels, weights, training=True)
    logits = mask_logits(
        features, controller, grid, [row[0] for row in kept], [row[2] for row in kept]
    )
    images = torch.stack([stored_values.soft_image(rng, *SIZE) for _ in BOXES])
    valid = torch.ones(len(BOXES), *SIZE, dtype=torch.bool)
    valid[:, -10:] = False
    prototypes = stored_values.numbers(rng, CLASSES, 4, FEATURES)
    flat_labels = [label for image in LABELS for label in image]
    targets = {
        "out.pos_labels": [flat_labels[row[1]] for row in found],
        "out.pos_reg_targets": np.array([[s / grid[r[2]][2] for s in r[3][1:5]] for r in found]),
        "out.pos_ctr_targets": np.array([row[3][5] for row in found]),
    }
    return {
        **{f"in.p{number}": maps for number, maps in enumerate(levels, 3)},
        "in.image_rgb_u8": images, "in.valid_mask": valid.double(),
        "in.boxes_xyxy": np.array([box for boxes in BOXES for box in boxes]),
        "in.classes": flat_labels, "in.boxes_per_image": [len(boxes) for boxes in BOXES],
        "in.prototypes": prototypes, "out.num_positives": len(found), "out.kept_count": len(kept),
        "out.mask_feats": features, "out.mask_logits_stride4": logits[:num_masks, None],
        **targets, **described("pos", found, grid), **described("kept", kept, grid),
        **detection_losses(found, grid, classes, ltrb, center[..., 0]),
        **box_losses(logits, features, kept, images, valid, prototypes),
    }  # fmt: skip


def write(folder, rng):
    """The three files of the heads."""
    weights, levels = make_weights(rng), make_levels(rng)
    with torch.no_grad():
        stored_values.write(folder, "condinst_heads_weights", weights)
        stored_values.write(folder, "condinst_heads_train", train(levels, weights, rng))
        stored_values.write(folder, "condinst_heads_infer", infer(levels, weights))
