"""Loads head weights of published CondInst and BoxInst checkpoints under their own names."""

from collections.abc import Mapping

import torch
from torch import Tensor

from boxmask.detectors.condinst import CondInstHeads
from boxmask.errors import UserError

# Published names start with one of these; ours follow.
_PREFIXES = {
    "proposal_generator.fcos_head.": "fcos_head.",
    "fcos.fcos_head.": "fcos_head.",
    "fcos_head.": "fcos_head.",
    "mask_branch.": "mask_branch.",
    "mask_head.controller.": "controller.",
    "controller.": "controller.",
}


def load_published_heads(heads: CondInstHeads, published: Mapping[str, Tensor]) -> list[str]:
    """Copies published head weights into our heads.

    Args:
        heads: built with the published sizes and `mask_norm="batch"`.
        published: state dict of a checkpoint; weights of other parts are passed over.

    Returns:
        Names in `published` that were not used.

    Raises:
        UserError: If a weight of the heads is missing or has another shape.
    """
    renamed, unused = {}, []
    for name, value in published.items():
        ours = _our_name(name)
        if ours is None:
            unused.append(name)
        else:
            renamed[ours] = value
    scales = [renamed.pop(name) for name in sorted(renamed) if name.startswith("fcos_head.scales.")]
    if scales:
        renamed["fcos_head.scales"] = torch.cat([scale.reshape(1) for scale in scales])
    expected = heads.state_dict()
    wrong = [
        f"{name}: expected {tuple(value.shape)}, got "
        f"{tuple(renamed[name].shape) if name in renamed else 'nothing'}"
        for name, value in expected.items()
        if name not in renamed or renamed[name].shape != value.shape
    ]
    if wrong:
        raise UserError(
            f"the checkpoint does not fit these heads: {len(wrong)} weights differ",
            where="; ".join(wrong[:3]),
            fix="build the detector with the checkpoint's classes, channels, tower depth and norm",
        )
    heads.load_state_dict({name: renamed[name] for name in expected})
    return unused


def _our_name(name: str) -> str | None:
    for prefix, ours in _PREFIXES.items():
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    return None
