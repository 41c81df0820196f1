"""Puts the losses of a method on a detector."""

from dataclasses import replace
from typing import Literal

from boxmask.box_supervision.objective import Term
from boxmask.box_supervision.trusted_mask_loss import TrustedMaskLossSettings
from boxmask.recipes.box_losses import Losses, boxinst_losses, sim_losses
from boxmask.recipes.box_settings import BoxInstSettings, SIMSettings
from boxmask.recipes.recipe import Recipe

Method = Literal["boxinst", "full", "sim"]

# Two neighbours that look alike must agree once, whatever the other mask losses are scaled to.
_UNSCALED = "loss_pairwise"


def taught_by(recipe: Recipe, method: Method, settings: BoxInstSettings | None = None) -> Recipe:
    """The recipe of an architecture, with what teaches its masks.

    Args:
        recipe: without mask losses.
        method: "boxinst" and "sim" learn from boxes, "full" from masks (the upper bound).
        settings: knobs of the method; None for its defaults.
    """
    losses, terms = _losses(recipe, method, settings)
    taught = replace(
        recipe,
        losses=losses,
        terms={name: _scaled(name, term, recipe) for name, term in terms.items()},
        masks="trusted" if method == "full" else "ignore",
    )
    if isinstance(settings, SIMSettings) and settings.teacher_decay is not None:
        taught = replace(taught, average_decay=settings.teacher_decay)
    return taught


def with_trusted_masks(recipe: Recipe) -> Recipe:
    """The recipe, also learning from the masks of those annotations that have one."""
    term = _scaled("loss_mask", Term(), recipe)
    return replace(recipe.with_loss("loss_mask", TrustedMaskLossSettings(), term), masks="trusted")


def _losses(recipe: Recipe, method: Method, settings: BoxInstSettings | None) -> Losses:
    """What teaches masks, and how much each part counts before the architecture's factor."""
    if method == "full":
        return {"loss_mask": TrustedMaskLossSettings()}, {"loss_mask": Term()}
    if method == "boxinst":
        return boxinst_losses(settings or BoxInstSettings())
    chosen = settings if isinstance(settings, SIMSettings) else SIMSettings()
    return sim_losses(chosen, recipe.detector.num_classes, recipe.detector.feature_channels)


def _scaled(name: str, term: Term, recipe: Recipe) -> Term:
    if name == _UNSCALED:
        return term
    return replace(term, weight=term.weight * recipe.mask_factor)
