"""How long a run is: a recipe's own length for small data, and those published for COCO."""

from dataclasses import dataclass, replace

from boxmask.recipes.recipe import Recipe

PUBLISHED_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A published length of training on COCO.

    Attributes:
        name: as papers write it.
        steps: optimizer steps of 16 pictures.
        drops: steps after which the learning rate is a tenth of what it was.
        source: where it is from.
    """

    name: str
    steps: int
    drops: tuple[int, int]
    source: str

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe, trained that long; sizes of pictures and learning rate stay its own."""
        shares = tuple(step / self.steps for step in self.drops)
        return replace(
            recipe,
            optimizer=replace(recipe.optimizer, schedule="step", milestones=shares),
            batch=PUBLISHED_BATCH,
            pictures_seen=self.steps * PUBLISHED_BATCH,
        )


SCHEDULES = {
    schedule.name: schedule
    for schedule in (
        Schedule(name="1x", steps=90_000, drops=(60_000, 80_000), source="detectron2"),
        Schedule(name="2x", steps=180_000, drops=(120_000, 160_000), source="detectron2"),
        Schedule(name="3x", steps=270_000, drops=(210_000, 250_000), source="detectron2"),
        Schedule(name="50e", steps=368_750, drops=(327_778, 355_092), source="Mask2Former"),
    )
}
