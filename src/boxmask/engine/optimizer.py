"""Parameter groups and the learning-rate schedule, scaled to the batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """How weights move.

    Attributes:
        name: "adamw", or "sgd" with momentum 0.9 as in the paper.
        learning_rate: for a batch of `base_batch` pictures; other batches scale it, linearly for
            SGD and by the square root for AdamW.
        base_batch: pictures of all processes and accumulated steps together.
        weight_decay: of convolution weights; norms and biases have none.
        backbone_factor: the pretrained backbone's share of the learning rate.
        warmup: share of the run, in 0..1, over which the rate grows linearly.
        schedule: "cosine" to nearly 0, or "step": times 0.1 at each of `milestones`.
        milestones: shares of the run, in 0..1.
        clip_norm: largest norm of the gradient; 0 for no limit.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 5e-4
    base_batch: int = 4
    weight_decay: float = 0.05
    backbone_factor: float = 0.5
    warmup: float = 0.05
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[float, ...] = (0.78, 0.93)
    clip_norm: float = 10.0

    def scaled_rate(self, batch: int) -> float:
        """The learning rate for a batch of `batch` pictures."""
        ratio = batch / self.base_batch
        return self.learning_rate * (ratio if self.name == "sgd" else math.sqrt(ratio))


def build_optimizer(
    model: nn.Module, settings: OptimizerSettings, batch: int, *, fused: bool = False
) -> torch.optim.Optimizer:
    """An optimizer over the model's learning weights; `model.backbone` has its own rate.

    Args:
        model: what learns.
        settings: see `OptimizerSettings`.
        batch: pictures of a step, all processes together.
        fused: touch each number once in a step. Lightning cannot clip gradients before such a step
            in mixed precision.
    """
    rate = settings.scaled_rate(batch)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.startswith("backbone."), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    parameters = [
        {
            "params": members,
            "lr": rate * (settings.backbone_factor if in_backbone else 1.0),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), members in groups.items()
    ]
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, fused=fused)
    return torch.optim.AdamW(parameters, lr=rate, fused=fused)


def rate_factor(settings: OptimizerSettings, total_steps: int) -> Callable[[int], float]:
    """The share of the full rate at each step of a run of `total_steps`."""
    warmup = max(round(settings.warmup * total_steps), 1)

    def factor(step: int) -> float:
        grown = min((step + 1) / warmup, 1.0)
        progress = min(step / max(total_steps, 1), 1.0)
        if settings.schedule == "step":
            return grown * 0.1 ** sum(progress >= milestone for milestone in settings.milestones)
        return grown * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)

    return factor
