import pytest

from boxmask.recipes.models import build_recipe
from boxmask.recipes.schedules import SCHEDULES


@pytest.mark.parametrize(("name", "steps"), [("1x", 90_000), ("3x", 270_000), ("50e", 368_750)])
def test_published_lengths(name, steps):
    recipe = SCHEDULES[name].of(build_recipe("condinst-r50", "boxinst", 80, pretrained=False))
    assert recipe.batch == 16
    assert recipe.pictures_seen == 16 * steps
    assert recipe.optimizer.schedule == "step"
    assert recipe.optimizer.learning_rate == 0.01


def test_rate_drops_at_the_published_steps():
    from boxmask.engine.optimizer import rate_factor

    recipe = SCHEDULES["3x"].of(build_recipe("condinst-r50", "boxinst", 80, pretrained=False))
    factor = rate_factor(recipe.optimizer, 270_000)
    rates = [factor(step) for step in (209_999, 210_001, 249_999, 250_001)]
    assert rates == pytest.approx([1, 0.1, 0.1, 0.01])
