"""Made-up files of reference values: random inputs, and outputs by slow, obvious formulas.

Each function returns the arrays of one file, as the published code would have stored them.
"""

import math

import numpy as np
import torch

from references import masks, neighbors, projection


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def numbers(rng, *shape, spread=1.0):
    return torch.from_numpy(rng.normal(0, spread, shape))


def box_masks(rng, count, height, width):
    """Filled boxes of at least 2 x 2 cells: (count, 1, h, w)."""
    maps = torch.zeros(count, 1, height, width, dtype=torch.float64)
    for one in maps:
        top, left = int(rng.integers(0, height - 3)), int(rng.integers(0, width - 3))
        one[
            0, top : top + int(rng.integers(2, height)), left : left + int(rng.integers(2, width))
        ] = 1
    return maps


def lab_of(image):
    """(3, h, w) grey levels to LAB."""
    lab = torch.zeros(image.shape, dtype=torch.float64)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            color = neighbors.lab_of_rgb(*(float(c) / 255 for c in image[:, y, x]))
            lab[:, y, x] = torch.tensor(color)
    return lab


def soft_image(rng, height, width):
    """Grey levels that differ little, so that some neighbours are alike."""
    base = rng.integers(40, 200, (3, 1, 1))
    return torch.from_numpy((base + rng.integers(-8, 9, (3, height, width))).astype(np.uint8))


def color_affinity(rng, height=7, width=9):
    image = soft_image(rng, height, width)
    lab = lab_of(image)
    valid = torch.ones(height, width)
    valid[-2:] = 0
    one_sided = neighbors.valid_pairs(valid > 0, 2, both_ends=False)
    affinity = neighbors.similarity(lab, 2, 2) * one_sided
    return {"image_rgb_u8": image, "lab": lab, "valid_mask": valid, "affinity": affinity}


def feature_affinity(rng, height=6, width=5):
    features = numbers(rng, 2, 3, height, width)
    affinity = torch.stack([neighbors.similarity(maps, 2, 1) for maps in features])
    outside = affinity == 0  # there the neighbour is the zero vector
    alone = torch.exp(-features.norm(dim=1))[:, None].expand_as(affinity)
    return {"features": features, "affinity": torch.where(outside, alone, affinity)}


def projection_loss(rng, count=2, height=6, width=5):
    logits, boxes = numbers(rng, count, 1, height, width), box_masks(rng, count, height, width)

    def loss(maps):
        pairs = zip(maps.sigmoid()[:, 0].tolist(), boxes[:, 0].tolist(), strict=True)
        return sum(projection.projection_loss(*pair) for pair in pairs) / count

    gradient = torch.zeros_like(logits)
    for index in np.ndindex(logits.shape):
        step = torch.zeros_like(logits)
        step[index] = 1e-5
        gradient[index] = (loss(logits + step) - loss(logits - step)) / 2e-5
    return {
        "mask_logits": logits, "box_masks": boxes, "loss": loss(logits), "grad_logits": gradient,
    }  # fmt: skip


def pairwise_loss(rng, count=2, height=6, width=7):
    logits, boxes = numbers(rng, count, 1, height, width), box_masks(rng, count, height, width)
    affinity = torch.zeros(8, height, width)
    per_edge = torch.zeros(count, 8, height, width)
    gradient, total, edges = torch.zeros(count, 1, height, width), 0.0, 0
    for y, x, index, other_y, other_x in neighbors.neighbor_pairs(height, width, 2):
        affinity[index, y, x] = rng.random()
        for one in range(count):
            p, q = sigmoid(logits[one, 0, y, x]), sigmoid(logits[one, 0, other_y, other_x])
            same = p * q + (1 - p) * (1 - q)
            per_edge[one, index, y, x] = -math.log(same)
            if boxes[one, 0, y, x] and affinity[index, y, x] >= 0.4:
                total, edges = total - math.log(same), edges + 1
                gradient[one, 0, y, x] -= (2 * q - 1) * p * (1 - p) / same
                gradient[one, 0, other_y, other_x] -= (2 * p - 1) * q * (1 - q) / same
    return {
        "mask_logits": logits, "box_masks": boxes, "affinity": affinity, "affinity_threshold": 0.4,
        "per_edge": per_edge, "loss": total / edges, "grad_logits": gradient / edges,
    }  # fmt: skip


def weighted_maps(rng, count=3, height=5, width=4):
    scores = torch.from_numpy(rng.random((count, 1, height, width)))
    targets = (torch.from_numpy(rng.random((count, 1, height, width))) > 0.5).double()
    weights = (torch.from_numpy(rng.random((count, 1, height, width))) > 0.3).double()
    return scores, targets, weights


def dice_loss(rng):
    scores, targets, weights = weighted_maps(rng)
    rows = zip(*(maps.flatten(1).tolist() for maps in (scores, targets, weights)), strict=True)
    plain, weighted = [], []
    for x, t, w in rows:
        plain.append(projection.dice(x, t))
        counted = [place for place, weight in enumerate(w) if weight]
        weighted.append(projection.dice([x[i] for i in counted], [t[i] for i in counted]))
    return {
        "probs": scores, "targets": targets, "weights": weights,
        "dice_per_instance": plain, "dice_weighted_mean": sum(weighted) / len(weighted),
    }  # fmt: skip


def double_sigmoid_focal_loss(scores, targets, weights):
    """The published form, number by number."""
    total, weight = 0.0, 0.0
    for p, t, w in zip(*(m.flatten().tolist() for m in (scores, targets, weights)), strict=True):
        again = sigmoid(p)
        if t == 1:
            focal = -0.25 * (1 - p) ** 2 * math.log(again)
        else:
            focal = -0.75 * p**2 * math.log(1 - again)
        total, weight = total + w * focal, weight + w
    return total / (weight + 1)


def focal_loss_official(rng):
    scores, targets, weights = weighted_maps(rng)
    loss = double_sigmoid_focal_loss(scores, targets, weights)
    return {"inputs": scores, "targets": targets, "weights": weights, "loss": loss, "note": "text"}


def sinkhorn(rng, rows=20, columns=4, iterations=4):
    scores = rng.uniform(-1, 1, (rows, columns))
    plan = np.exp(scores / 0.2)
    for _ in range(iterations):
        plan /= plan.sum(axis=0) * columns / rows
        plan /= plan.sum(axis=1, keepdims=True)
    return {
        "scores": scores, "epsilon": 0.2, "iterations": iterations,
        "assignment": plan, "argmax": plan.argmax(axis=1),
    }  # fmt: skip


def aligned_bilinear(rng, height=3, width=4):
    maps = numbers(rng, 1, 2, height, width)
    stored = {"x": maps}
    for factor in (2, 3):
        fine = torch.stack([masks.aligned_upsample(grid, factor) for grid in maps[0]])
        stored[f"factor{factor}"] = fine[None]
    return stored


def pseudo_masks(teacher, semantic, inside, index):
    """Mean, fused map, threshold, pseudo mask and weight of each sample, as published.

    `teacher` and `semantic` are (K, h, w), `inside` is (K, h, w) 0 or 1, the sample's box.
    """
    found = []
    for row, one in enumerate(index.tolist()):
        mean = torch.stack([teacher[k] for k in range(len(index)) if index[k] == one]).mean(dim=0)
        fused = 0.5 * semantic[row].sigmoid() + 0.5 * mean
        confident = int(((mean > 0.7) & (inside[row] > 0)).sum())
        best = sorted((fused * inside[row]).flatten().tolist(), reverse=True)
        threshold = min(max(best[min(confident, len(best) - 1)], 0.7), 0.8)
        pseudo = ((fused > threshold) & (inside[row] > 0)).double()
        weight = (((fused > threshold) | (fused < 0.4)) & (inside[row] > 0)).double()
        found.append((mean, fused, torch.tensor(threshold), pseudo, weight))
    return [torch.stack(maps) for maps in zip(*found, strict=True)]


def self_correction(rng, samples=5, objects=2, height=6, width=7):
    index = torch.from_numpy(rng.integers(0, objects, samples))
    teacher = torch.from_numpy(rng.beta(0.5, 0.5, (samples, 1, height, width)))
    student = torch.from_numpy(rng.random((samples, 1, height, width)))
    of_object = torch.from_numpy(rng.uniform(-1, 1, (objects, 3, height, width))) * 3
    boxes = box_masks(rng, objects, height, width)
    semantic = of_object[index]
    mean, fused, threshold, pseudo, weight = pseudo_masks(
        teacher[:, 0], semantic.amax(dim=1), boxes[index][:, 0], index
    )
    return {
        "teacher_probs": teacher, "student_probs": student, "prototype_similarity": semantic,
        "gt_inds": index, "box_masks_per_gt": boxes, "teacher_mean": mean[:, None],
        "fused_map": fused[:, None], "threshold": threshold, "pseudo_mask": pseudo[:, None],
        "weight": weight[:, None],
        "loss_before_ramp": double_sigmoid_focal_loss(student[:, 0], pseudo, weight),
    }  # fmt: skip


def drawn_box(box, height, width):
    """A filled box of whole numbers, one row and column too large, as published."""
    filled = torch.zeros(height, width, dtype=torch.bool)
    for y in range(height):
        for x in range(width):
            filled[y, x] = int(box[0]) <= x <= int(box[2]) and int(box[1]) <= y <= int(box[3])
    return filled


def copy_paste(rng, height=16, width=20):
    """Two objects are pasted, of which the second covers part of the first and all of a box."""
    image, source = (torch.from_numpy(rng.uniform(0, 255, (3, height, width))) for _ in range(2))
    boxes = torch.tensor([[1.0, 2.0, 9.0, 12.0], [12.0, 3.0, 14.0, 5.0], [0.0, 0.0, 18.0, 2.0]])
    source_masks = torch.zeros(3, height, width, dtype=torch.bool)
    source_masks[0, 5:9, 6:13] = source_masks[1, :2, :2] = True
    source_masks[2, 2:8, 11:17] = True
    chosen = torch.tensor([0, 2])
    union = source_masks[chosen].any(dim=0)
    found = [drawn_box(box, height, width) & ~union for box in boxes]
    kept = [place for place, mask in enumerate(found) if mask.any()]
    pasted = [source_masks[place] for place in chosen]
    out = torch.stack([*(found[place] for place in kept), *pasted])
    return {
        "image": image, "boxes_xyxy": boxes, "classes": torch.tensor([1, 2, 5]),
        "source_image": source, "source_masks": source_masks.double(),
        "source_classes": torch.tensor([3, 4, 6]), "chosen": chosen,
        "out_image": torch.where(union, source, image),
        "out_boxes_xyxy": torch.tensor([masks.box_of_mask(mask) for mask in out]).double(),
        "out_classes": torch.tensor([[1, 2, 5][place] for place in kept] + [3, 6]),
        "out_masks": out.double(),
        "out_is_pasted": torch.tensor([0.0] * len(kept) + [1.0] * 2),
    }  # fmt: skip


SINGLE_FILES = {
    "aligned_bilinear": aligned_bilinear, "color_affinity": color_affinity,
    "copy_paste": copy_paste, "dice_loss": dice_loss, "feature_affinity": feature_affinity,
    "focal_loss_official": focal_loss_official, "pairwise_loss": pairwise_loss,
    "projection_loss": projection_loss, "self_correction": self_correction, "sinkhorn": sinkhorn,
}  # fmt: skip


def write(folder, name, arrays):
    """Floats are stored in float32, as by the published code."""
    stored = {key: np.asarray(value) for key, value in arrays.items()}
    for key, value in stored.items():
        if value.dtype == np.float64 and value.ndim:
            stored[key] = value.astype(np.float32)
    np.savez(folder / f"{name}.npz", **stored)
