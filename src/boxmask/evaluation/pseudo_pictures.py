"""Pictures of a run that corrects itself: what its pseudo masks teach, the same each epoch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from boxmask.box_supervision.copy_paste_bank import CopyPasteBank
from boxmask.box_supervision.correction_steps import self_correction_of
from boxmask.data.pictures import read_picture
from boxmask.data.records import ImageRecord
from boxmask.engine.module import TrainingModule
from boxmask.evaluation.explained_picture import (
    LearnedPicture,
    look_at_picture,
    pasted_picture,
    pasted_variants,
    picture_batch,
)
from boxmask.structures import Batch
from boxmask.visualization.contact_sheet import save_picture
from boxmask.visualization.correction_panels import (
    pasted_legend,
    pasted_panel,
    pasted_words,
    state_legend,
    state_shares,
    state_words,
    states_panel,
)
from boxmask.visualization.page import (
    FAINT,
    INK,
    Legend,
    Page,
    Panel,
    rows_of,
    short_name,
)
from boxmask.visualization.views import line_sample, view_of_image

NUM_PICTURES = 4  # together less work than one training step
COLUMNS = 2
CELL = (340, 440)  # (height, width) of a picture on the page, in pixels
_BOX_LEGEND = (line_sample(INK), "given box")


@dataclass(frozen=True, kw_only=True)
class PseudoPictures:
    """Draws pseudo masks, and pasted objects, of some training pictures.

    Attributes:
        records: training pictures; the first ones with boxes are drawn, without variation.
        class_names: names in the order of labels.
        image_size: short side in pixels that pictures are resized to.
        num_pictures: how many are drawn.
    """

    records: Sequence[ImageRecord]
    class_names: Sequence[str]
    image_size: int
    num_pictures: int = NUM_PICTURES

    def __call__(self, module: TrainingModule, folder: Path) -> None:
        """Draws `train_pseudo.jpg`; once the run pastes, `train_pasted.jpg` too.

        Neither weights nor random numbers change.

        Args:
            module: the run; one whose objective makes no pseudo masks draws nothing.
            folder: where the pictures go.
        """
        loss = self_correction_of(module.step.objective)
        if loss is None:
            return
        batches = [batch.to(module.device) for batch in self._batches()]
        teacher, bank = module.average.model, loss.paste_bank
        pseudo = [_pseudo_panel(look_at_picture(teacher, loss, batch)) for batch in batches]
        pasted = [] if bank is None else _pasted(bank, batches)
        subtitle = (f"epoch {module.current_epoch + 1}, the same pictures each time",)
        title, legend = "Pseudo masks: what the loss sees", (*state_legend(), _BOX_LEGEND)
        _write(folder / "train_pseudo.jpg", title, subtitle, pseudo, legend)
        panels = [_pasted_panel(batch, self.class_names) for batch in pasted]
        title, legend = "Objects pasted into pictures", pasted_legend()
        _write(folder / "train_pasted.jpg", title, subtitle, panels, legend)

    def _batches(self) -> Iterator[Batch]:
        """The pictures, one a batch."""
        boxed = (record for record in self.records if not record.crowd.all())
        for record, _ in zip(boxed, range(self.num_pictures), strict=False):
            yield picture_batch(read_picture(record.path), record, self.image_size)


def _pasted(bank: CopyPasteBank, batches: Sequence[Batch]) -> list[Batch]:
    """The pictures pasted into, however rarely training does; none until the bank is full."""
    if len(bank) < bank.settings.capacity:
        return []
    return [
        pasted
        for number, batch in enumerate(batches)
        for pasted in pasted_variants(bank, batch.to("cpu"), count=1, seed=number)
    ]


def _pseudo_panel(learned: LearnedPicture) -> Panel:
    view, targets = learned.view(CELL), learned.batch.targets[0]
    states = learned.states
    objects = list(zip(targets.boxes.cpu().numpy(), states, strict=True))
    words = state_words(state_shares(states))
    if not bool(learned.steps.seen.all()):
        words = (*words, ("no prototypes yet", FAINT))
    picture = states_panel(view, learned.pixels(), objects)
    return Panel(picture=picture, caption=(short_name(learned.batch.names[0]), words))


def _pasted_panel(batch: Batch, class_names: Sequence[str]) -> Panel:
    pasted = pasted_picture(batch, class_names)
    height, width = batch.images.shape[-2:]
    view = view_of_image(batch.image_sizes[0], (height, width), CELL)
    return Panel(picture=pasted_panel(view, pasted), caption=(pasted_words(pasted),))


def _write(
    file: Path, title: str, subtitle: tuple[str, ...], panels: Sequence[Panel], legend: Legend
) -> None:
    """Writes a page; where it has no panels, none stays from an earlier run."""
    if not panels:
        file.unlink(missing_ok=True)
        return
    page = Page(title=title, subtitle=subtitle, rows=rows_of(panels, COLUMNS), legend=legend)
    save_picture(file, page.draw())
