"""CondInst's mask head, one object after another, as plain 1x1 convolutions."""

import torch
import torch.nn.functional as F


def mask_logits(features, parameters, points, reach, image_index, stride):
    """(K, h, w) logits; arguments as in `boxmask.ops.dynamic_mask.dynamic_mask_logits`."""
    channels, height, width = features.shape[1:]
    maps = []
    for row in range(len(parameters)):
        relative = features.new_zeros((2, height, width))
        for y in range(height):
            for x in range(width):
                relative[0, y, x] = (points[row, 0] - (x + 0.5) * stride) / reach[row]
                relative[1, y, x] = (points[row, 1] - (y + 0.5) * stride) / reach[row]
        hidden = torch.cat([relative, features[image_index[row]]])[None]
        place = 0
        weights = []
        for inputs, outputs in ((channels + 2, 8), (8, 8), (8, 1)):
            count = inputs * outputs
            weights.append(parameters[row, place : place + count].view(outputs, inputs, 1, 1))
            place += count
        biases = []
        for outputs in (8, 8, 1):
            biases.append(parameters[row, place : place + outputs])
            place += outputs
        assert place == parameters.shape[1]
        hidden = F.conv2d(hidden, weights[0], biases[0]).relu()
        hidden = F.conv2d(hidden, weights[1], biases[1]).relu()
        maps.append(F.conv2d(hidden, weights[2], biases[2])[0, 0])
    return torch.stack(maps)
