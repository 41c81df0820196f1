"""What teaches masks from boxes: the losses that the knobs of BoxInst and SIM make."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from difflib import get_close_matches

from pydantic import TypeAdapter, ValidationError

from boxmask.box_supervision.collapse_guard_loss import CollapseGuardLossSettings
from boxmask.box_supervision.copy_paste_bank import CopyPasteSettings
from boxmask.box_supervision.objective import Fall, Term
from boxmask.box_supervision.pairwise_loss import AppearanceGate, PairwiseLossSettings
from boxmask.box_supervision.pasting import LeastVisible
from boxmask.box_supervision.placing import PlacingSettings
from boxmask.box_supervision.projection_loss import ProjectionLossSettings
from boxmask.box_supervision.self_correction import PseudoMaskSettings
from boxmask.box_supervision.self_correction_loss import SelfCorrectionSettings
from boxmask.box_supervision.shape_prior_loss import ShapePriorLossSettings
from boxmask.box_supervision.trusted_mask_loss import TrustedMaskLossSettings
from boxmask.errors import UserError
from boxmask.prototypes.prototype_bank import PrototypeSettings
from boxmask.recipes.box_settings import PAPER, PAPER_BOXINST, BoxInstSettings, SIMSettings
from boxmask.recipes.recipe import LossSettings

Losses = tuple[dict[str, LossSettings], dict[str, Term]]


def boxinst_losses(settings: BoxInstSettings) -> Losses:
    """Projection and pairwise term, and the shape prior that leads into them, and back to them."""
    losses: dict[str, LossSettings] = {
        "loss_projection": ProjectionLossSettings(),
        "loss_pairwise": PairwiseLossSettings(
            color_threshold=settings.pairwise_color, dilation=settings.pairwise_dilation
        ),
    }
    grown = settings.pairwise_warmup
    terms = {
        "loss_projection": Term(weight=settings.projection_weight),
        "loss_pairwise": Term(
            weight=settings.pairwise_weight,
            ramp=1.0 if grown is None else grown,
            unit="warmup" if grown is None else "run",
        ),
    }
    if settings.prior_weight != 0:
        losses["loss_shape_prior"] = ShapePriorLossSettings()
        terms["loss_shape_prior"] = Term(
            weight=settings.prior_weight, fall=Fall(end=1.0, unit="warmup")
        )
    if settings.guard_fill != 0:
        losses["loss_guard"] = CollapseGuardLossSettings(least_fill=settings.guard_fill)
        terms["loss_guard"] = Term(fall=Fall(end=1.0))
    return losses, terms


def sim_losses(settings: SIMSettings, num_classes: int, channels: int) -> Losses:
    """BoxInst's losses with SIM's gate, the pseudo mask loss, and the loss of pasted objects.

    Args:
        settings: all knobs.
        num_classes: classes.
        channels: channels D of the mask features.
    """
    losses, terms = boxinst_losses(settings)
    losses["loss_pairwise"] = PairwiseLossSettings(
        color_threshold=settings.pairwise_color,
        dilation=settings.pairwise_dilation,
        gate=_appearance_gate(settings),
    )
    losses["loss_pseudo"] = SelfCorrectionSettings(
        num_classes=num_classes,
        channels=channels,
        pseudo=_pseudo_masks(settings),
        prototypes=_prototypes(settings),
        warmup=settings.warmup,
        calibrated=settings.calibrated,
        paste_until=settings.paste_until,
        copy_paste=_copy_paste(settings),
    )
    taught = settings.warmup + settings.pseudo_ramp  # from here on pseudo masks count fully
    terms["loss_pseudo"] = Term(
        weight=settings.pseudo_weight,
        start=settings.warmup,
        ramp=settings.pseudo_ramp,
        fall=Fall(start=min(taught, 1.0), end=1.0, rest=settings.pseudo_rest),
    )
    gives_way = Fall(start=settings.warmup, end=taught, rest=settings.pairwise_rest)
    terms["loss_pairwise"] = replace(terms["loss_pairwise"], fall=gives_way)
    if settings.paste_probability > 0:
        losses["loss_paste"] = TrustedMaskLossSettings(pasted=True, cross_entropy=True)
        terms["loss_paste"] = Term(weight=settings.paste_weight)
    return losses, terms


def _pseudo_masks(settings: SIMSettings) -> PseudoMaskSettings:
    return PseudoMaskSettings(
        sharpness=settings.sharpness,
        instance_share=settings.instance_share,
        temperature=settings.temperature,
        confident=settings.confident,
        lowest_high=settings.lowest_high,
        highest_high=settings.highest_high,
        low=settings.low,
        colors=settings.colors,
        refine_radius=settings.refine_radius,
        refine_smoothness=settings.refine_smoothness,
        refine_least=settings.refine_least,
        exclusive=settings.exclusive,
        open_share=settings.open_share,
    )


def _prototypes(settings: SIMSettings) -> PrototypeSettings:
    return PrototypeSettings(
        per_class=settings.prototypes,
        momentum=settings.prototype_momentum,
        epsilon=settings.epsilon,
        tolerance=settings.assignment_tolerance,
        max_iterations=settings.assignment_iterations,
        max_pixels=settings.prototype_pixels,
    )


def _appearance_gate(settings: SIMSettings) -> AppearanceGate | None:
    """None where colours alone tie neighbours."""
    if settings.pairwise_features <= 0:
        return None
    return AppearanceGate(
        color_reach=settings.pairwise_reach,
        feature_reach=settings.pairwise_features,
        hidden_below=settings.pairwise_contrast,
    )


def _copy_paste(settings: SIMSettings) -> CopyPasteSettings | None:
    """None where nothing is pasted."""
    if settings.paste_probability <= 0:
        return None
    placing = PlacingSettings(smallest=settings.paste_smallest, most_covered=settings.paste_covered)
    keeps_place = placing.smallest == placing.most_covered == 1
    return CopyPasteSettings(
        capacity=settings.bank_capacity,
        probability=settings.paste_probability,
        passes=settings.paste_passes,
        fraction=settings.paste_fraction,
        most=settings.paste_most,
        score_power=settings.paste_power,
        visible=LeastVisible(share=settings.paste_visible),
        least_fit=settings.paste_fit,
        placing=None if keeps_place else placing,
    )


def method_settings(method: str, preset: str, given: Sequence[str]) -> BoxInstSettings | None:
    """The knobs of a method: those of a preset, changed by "name=value" words.

    Args:
        method: "boxinst", "sim", or "full", which has no knobs.
        preset: "default" or "paper".
        given: words such as "temperature=0.2".

    Raises:
        UserError: If a word has no "=", a name is not known, or a value cannot be used.
    """
    paper = preset == "paper"
    starts = {
        "boxinst": PAPER_BOXINST if paper else BoxInstSettings(),
        "sim": PAPER if paper else SIMSettings(),
    }
    start = starts.get(method)
    if start is None:
        if given:
            raise UserError(f"method {method} has no settings", where=given[0])
        return None
    values = asdict(start) | _parsed(given, tuple(field.name for field in fields(start)))
    try:
        settings = TypeAdapter(type(start)).validate_python(values)
        if isinstance(settings, SIMSettings):
            sim_losses(settings, num_classes=1, channels=1)  # the parts check what fits together
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        word = [word for word in given if word.startswith(f"{name}=")][-1]  # the one that counts
        raise UserError(f"settings: {name}: {first['msg']}", where=word) from error
    except ValueError as error:
        raise UserError(f"settings: {error}") from error
    return settings


def _parsed(given: Sequence[str], known: Sequence[str]) -> dict[str, str | None]:
    """Names and values of "name=value" words."""
    found = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"settings: expected NAME=VALUE, got {word!r}")
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise UserError(f"settings: there is no setting {name!r}", fix=hint)
        found[name] = None if value.lower() == "none" else value
    return found
