"""Knobs by name reach the part that they belong to; presets differ where the page says so."""

from dataclasses import asdict, fields, replace

import pytest

from boxmask.errors import UserError
from boxmask.recipes.box_losses import boxinst_losses, method_settings, sim_losses
from boxmask.recipes.box_settings import PAPER, PAPER_BOXINST, BoxInstSettings, SIMSettings
from boxmask.recipes.models import build_recipe


def parts(settings):
    """Everything that SIM's settings make, as plain data."""
    losses, terms = sim_losses(settings, num_classes=2, channels=16)
    return {name: asdict(one) for name, one in losses.items()}, {
        name: asdict(one) for name, one in terms.items()
    }


OTHER = {
    "pairwise_dilation": 1, "pairwise_rest": 0.5, "prototypes": 3, "paste_most": 1,
    "bank_capacity": 7,
    "calibrated": False, "exclusive": False, "low": 0.3, "lowest_high": 0.65, "highest_high": 0.8,
    "open_share": 0.7, "pairwise_warmup": 0.2, "assignment_iterations": 3, "prototype_pixels": 64,
}  # fmt: skip


TESTED_BELOW = ("teacher_decay",)


@pytest.mark.parametrize(
    "name", [f.name for f in fields(SIMSettings) if f.name not in TESTED_BELOW]
)
def test_every_knob_changes_something(name):
    value = OTHER[name] if name in OTHER else getattr(SIMSettings(), name) * 0.5
    assert parts(replace(SIMSettings(), **{name: value})) != parts(SIMSettings())


def test_colour_threshold_counts_where_colours_alone_decide():
    settings = SIMSettings(pairwise_features=0, pairwise_color=0.5)
    loss = sim_losses(settings, 2, 16)[0]["loss_pairwise"]
    assert (loss.color_threshold, loss.gate) == (0.5, None)
    assert boxinst_losses(settings)[0]["loss_pairwise"] == loss


def test_teacher_decay_is_the_moving_average():
    recipe = build_recipe("condinst-lite0", "sim", 2, settings=SIMSettings(teacher_decay=0.5))
    assert recipe.average_decay == 0.5
    assert build_recipe("condinst-lite0", "sim", 2).average_decay == 0.998


def test_paper_values():
    """SIM, section 4.1 and equations 1, 6 and 7."""
    assert (PAPER.temperature, PAPER.sharpness, PAPER.instance_share) == (0.1, 5, 0.5)
    assert (PAPER.prototypes, PAPER.prototype_momentum) == (10, 0.999)
    assert (PAPER.pseudo_weight, PAPER.paste_weight) == (0.5, 1)
    assert (PAPER.pairwise_features, PAPER.pairwise_rest, PAPER.exclusive) == (0, 1, False)
    assert (PAPER.bank_capacity, PAPER.paste_fraction, PAPER.paste_most) == (100, 0.25, 3)
    assert PAPER.teacher_decay == 0.9999
    assert method_settings("sim", "paper", ()) == PAPER


@pytest.mark.parametrize("settings", [PAPER, PAPER_BOXINST])
def test_papers_have_no_prior_and_no_guard(settings):
    losses, terms = boxinst_losses(settings)
    assert set(losses) == set(terms) == {"loss_projection", "loss_pairwise"}
    # 10,000 of 90,000 steps, whatever the recipe's own warm-up is.
    assert terms["loss_pairwise"].stretched(0.4).factor(0.055) == pytest.approx(0.5)
    assert terms["loss_pairwise"].stretched(0.4).factor(0.11) == 1
    assert method_settings("boxinst", "paper", ()) == PAPER_BOXINST


def test_prior_is_weighed():
    terms = boxinst_losses(BoxInstSettings(prior_weight=3))[1]
    assert terms["loss_shape_prior"].stretched(0.2).factor(0.1) == pytest.approx(1.5)


def test_words_change_a_preset():
    settings = method_settings("sim", "paper", ("temperature=0.2", "prototypes=4"))
    assert settings == replace(PAPER, temperature=0.2, prototypes=4)
    assert method_settings("boxinst", "default", ("pairwise_color=0.4",)) == BoxInstSettings(
        pairwise_color=0.4
    )
    assert method_settings("full", "default", ()) is None
    assert method_settings("sim", "paper", ("teacher_decay=none",)).teacher_decay is None


def test_neighbours_give_way_to_pseudo_masks():
    settings = SIMSettings(pairwise_weight=2, pairwise_rest=0.25, warmup=0.3, pseudo_ramp=0.2)
    terms = sim_losses(settings, 2, 16)[1]
    factors = [terms["loss_pairwise"].stretched(0.1).factor(p) for p in (0.2, 0.3, 0.4, 0.5, 1.0)]
    assert factors == pytest.approx([2, 2, 1.25, 0.5, 0.5])
    assert terms["loss_pseudo"].factor(0.3) == 0  # while these come up
    assert terms["loss_pseudo"].factor(0.5) == settings.pseudo_weight


def test_pseudo_masks_count_less_towards_the_end():
    settings = SIMSettings(pseudo_weight=2, pseudo_rest=0.5, warmup=0.3, pseudo_ramp=0.2)
    term = sim_losses(settings, 2, 16)[1]["loss_pseudo"]
    factors = [term.factor(p) for p in (0.2, 0.3, 0.4, 0.5, 0.75, 1.0)]
    assert factors == pytest.approx([0, 0, 1, 2, 1.5, 1])


def test_no_pasting_means_no_paste_loss():
    losses, terms = sim_losses(SIMSettings(paste_probability=0), 2, 16)
    assert losses["loss_pseudo"].copy_paste is None
    assert "loss_paste" not in losses
    assert set(losses) == set(terms)


@pytest.mark.parametrize(
    ("method", "word", "message"),
    [
        ("sim", "temprature=1", "did you mean temperature"),
        ("sim", "temperature", "NAME=VALUE"),
        ("sim", "temperature=warm", "temperature"),
        ("sim", "low=0.99", "low <= lowest_high"),
        ("sim", "pairwise_rest=2", "pairwise_rest: .* less than or equal to 1"),
        ("sim", "paste_covered=1.5", "paste_covered: .* less than or equal to 1"),
        ("sim", "paste_smallest=0", "paste_smallest: .* greater than 0"),
        ("sim", "paste_probability=3", "paste_probability: .* less than or equal to 1"),
        ("sim", "prototypes=0", "prototypes: .* greater than or equal to 1"),
        ("sim", "sharpness=110", "sharpness: .* less than or equal to 80"),
        ("sim", "teacher_decay=1", "teacher_decay: .* less than 1"),
        ("sim", "warmup=nan", "warmup"),
        ("sim", "warmup=none", "warmup: .* valid number"),
        ("boxinst", "guard_fill=-1", "guard_fill: .* greater than or equal to 0"),
        ("boxinst", "temperature=1", "known: projection_weight"),
        ("full", "temperature=1", "no settings"),
    ],
)
def test_bad_words(method, word, message):
    with pytest.raises(UserError, match=message):
        method_settings(method, "default", (word,))


def test_the_word_that_was_given_is_shown():
    words = ("warmup=0.2", "low=0.3", "warmup=none")
    with pytest.raises(UserError) as caught:
        method_settings("sim", "default", words)
    assert caught.value.where == "warmup=none"
