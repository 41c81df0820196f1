"""SIM's pseudo mask loss: prototypes give a semantic map, samples give an instance mask."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from boxmask.box_supervision.copy_paste_bank import CopyPasteBank, CopyPasteSettings
from boxmask.box_supervision.correction import Correction, unit_cells
from boxmask.box_supervision.cut_out import CuttingOut
from boxmask.box_supervision.drawn_objects import drawn_alone
from boxmask.box_supervision.self_correction import (
    PseudoMaskSettings,
    ask_colors,
    fuse,
    positive_weights,
    pseudo_masks,
    refine,
    weighted_masks,
)
from boxmask.box_supervision.weak_loss import LossContext, WeakLoss, attached_zero, nothing
from boxmask.ops.boxes import paired_iou
from boxmask.ops.certain_masks import certain_mask_distances
from boxmask.ops.groups import numbered_values
from boxmask.ops.masks import aligned_upsample, boxes_of_masks
from boxmask.ops.owners import claimed_by_others, highest_scores
from boxmask.prototypes.cosine_levels import CosineLevels
from boxmask.prototypes.prototype_bank import (
    ClassPixels,
    PrototypeBank,
    PrototypeSettings,
    class_pixels,
)
from boxmask.structures import Batch, LossSum, MaskSamples
from boxmask.waitless import numbered, send


@dataclass(frozen=True, kw_only=True)
class SelfCorrectionSettings:
    """Settings of the pseudo mask loss.

    Attributes:
        num_classes: classes.
        channels: channels of the mask features.
        pseudo: see `PseudoMaskSettings`.
        prototypes: see `PrototypeSettings`.
        warmup: share of the run, in 0..1, in which prototypes learn from confident cells of the
            instance masks; afterwards from the pseudo masks.
        copy_paste: how objects are pasted after the warm-up; None for no pasting.
        paste_until: share of the run, in 0..1, after which nothing is pasted.
        calibrated: count cosines from the middle between those of foreground and those of cells
            outside all boxes; the paper counts from 0.
    """

    num_classes: int
    channels: int
    pseudo: PseudoMaskSettings = field(default_factory=PseudoMaskSettings)
    prototypes: PrototypeSettings = field(default_factory=PrototypeSettings)
    warmup: float = 0.5
    copy_paste: CopyPasteSettings | None = None
    paste_until: float = 1.0
    calibrated: bool = True

    def build(self) -> "SelfCorrectionLoss":
        """The loss with fresh prototypes."""
        return SelfCorrectionLoss(self)


class SelfCorrectionLoss(WeakLoss):
    """Each sample follows the pseudo mask of its object where that is certain.

    Source: SIM (CVPR 2023), sections 3.2.1 and 3.2.2.
    """

    prepares = True

    def __init__(self, settings: SelfCorrectionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.bank = PrototypeBank(settings.num_classes, settings.channels, settings.prototypes)
        self.levels = CosineLevels(settings.num_classes)
        self.paste_bank = settings.copy_paste.build() if settings.copy_paste else None
        self._pixels: ClassPixels | None = None
        self._correction: Correction | None = None
        self._context: LossContext | None = None  # of the drawn objects
        self._pasted: tuple[int, ...] = ()

    def needs_teacher(self, progress: float) -> bool:
        """From the second half of the warm-up on, in which prototypes are found."""
        return progress >= self.settings.warmup / 2

    def expect(self, passes: float) -> None:
        """Short runs paste less, see `CopyPasteBank.probability`."""
        if self.paste_bank is not None:
            self.paste_bank.passes = passes

    def augment(self, batch: Batch, progress: float) -> Batch:
        """Pastes objects of earlier pictures, from the end of the warm-up to `paste_until`."""
        self._pasted = ()
        if self.paste_bank is None or not self._pastes(progress):
            return batch
        batch, self._pasted = self.paste_bank.paste(batch)
        return batch

    def _pastes(self, progress: float) -> bool:
        return self.settings.warmup <= progress <= self.settings.paste_until

    def forward(self, context: LossContext) -> LossSum:
        """Averaged over samples of classes that have prototypes."""
        self._pixels = self._correction = self._context = None
        if not self.needs_teacher(context.progress):
            return nothing(context)
        student, teacher = context.student, context.teacher
        if teacher is None or teacher.features is None or student.features is None:
            raise ValueError("self-correction needs a teacher and mask features")
        outside = context.outside(context.batch.images.shape[-1] // student.logits.shape[-1])
        context = drawn_alone(context)
        student = context.student
        self._context = context
        self._correction = correction = self.correct(context, outside)
        self._pixels = self.prototype_pixels(context, correction)
        seen = self.bank.seen[student.labels]
        if len(student) == 0:
            return LossSum(attached_zero(context), torch.zeros_like(student.scores.sum()))
        distances = certain_mask_distances(
            student.logits.float(),
            correction.masks.foreground,
            correction.masks.certain,
            student.instance_index,
        )
        return LossSum((distances * seen).sum(), seen.sum().to(distances.dtype))

    def report(self) -> dict[str, Tensor]:
        """Shares of the boxes' cells that pseudo masks call foreground and background; first 0."""
        if self._correction is None:
            none = self.bank.vectors.new_zeros(())
            return {"pseudo_foreground": none, "pseudo_background": none}
        correction = self._correction
        seen = self.bank.seen[correction.labels][:, None, None]
        inside = correction.inside & seen
        count = inside.sum().clamp(min=1)
        foreground = correction.masks.foreground & inside
        background = correction.masks.certain & ~correction.masks.foreground & inside
        return {
            "pseudo_foreground": foreground.sum() / count,
            "pseudo_background": background.sum() / count,
        }

    @torch.no_grad()
    def correct(self, context: LossContext, outside: Tensor | None = None) -> Correction:
        """Pseudo masks of all objects of a batch.

        Args:
            context: with a teacher.
            outside: (B, h, w) bool, cells outside all boxes; None looks at the context's boxes.
        """
        if outside is None:
            logits = context.student.logits
            outside = context.outside(context.batch.images.shape[-1] // logits.shape[-1])
        teacher = context.teacher
        assert teacher is not None
        assert teacher.features is not None
        settings = self.settings.pseudo
        targets = context.batch.targets
        labels = torch.cat([t.labels for t in targets])
        image_index = numbered([len(t) for t in targets], labels.device)
        pairs, pair_of = numbered_values(image_index * self.settings.num_classes + labels)
        pairs = pairs[: len(targets) * self.settings.num_classes]  # no more can differ
        inside_of_samples = context.student.box_masks()  # the teacher's, found already
        instance, known, inside = self._instance_masks(teacher, inside_of_samples, len(labels))
        seen = self.bank.seen[labels]  # (N,)
        of_pairs = self._cosines(teacher, pairs)  # (G, h, w)
        semantic = cosines = of_pairs[pair_of]
        sure = (instance > settings.confident) & inside
        sums, counts = self._cosine_sums(
            (cosines, sure), (of_pairs, outside), pairs=pairs, pair_of=pair_of, seen=seen
        )
        if self.settings.calibrated:
            semantic = cosines - self.levels.middle[labels][:, None, None]
        fused = fuse(semantic, instance, seen, settings)
        claimed = self._claimed(torch.where(inside, instance, 0.0), pair_of, len(pairs))
        own = inside & ~claimed
        colored, scores = self._seen_in_color(fused, own, outside, image_index, context)
        return Correction(
            masks=pseudo_masks(scores, instance, inside, claimed, settings),
            instance=instance,
            semantic=semantic,
            fused=fused,
            colored=colored,
            inside=inside,
            claimed=claimed,
            known=known,
            labels=labels,
            image_index=image_index,
            cosine_sums=sums,
            cosine_counts=counts,
        )

    @torch.no_grad()
    def prototype_pixels(self, context: LossContext, correction: Correction) -> ClassPixels:
        """The cells that prototypes learn from: once each, however many samples cover them."""
        student, teacher = context.student, context.teacher
        assert teacher is not None
        if context.progress < self.settings.warmup:
            eligible = (correction.instance > self.settings.pseudo.confident) & correction.inside
            eligible &= ~correction.claimed
        else:
            eligible = correction.masks.foreground
        size = correction.instance.shape[-2:]
        by, averaged = (unit_cells(samples, size) for samples in (teacher, student))
        labels = torch.cat([one.host.labels for one in context.batch.targets])
        classes, slot = labels.unique(return_inverse=True)  # (G,), (N,), on the host
        place = correction.image_index * len(classes) + send(slot, eligible.device)
        counts = torch.zeros((len(by) * len(classes), *size), device=eligible.device)
        counts.index_add_(0, place, eligible.float())
        maps = counts.unflatten(0, (len(by), len(classes))) > 0  # (B, G, h, w)
        most = self.settings.prototypes.max_pixels
        return class_pixels(by, averaged, maps, classes.tolist(), most)

    def update(self, context: LossContext) -> None:
        """Moves the prototypes by the last forward pass, and remembers its objects."""
        if self._pixels is None or self._correction is None or self._context is None:
            return
        self.levels.update(self._correction.cosine_sums, self._correction.cosine_counts)
        self.bank.update(self._pixels)
        if self.paste_bank is not None and self._pastes(context.progress):
            self._remember(self.paste_bank, self._context, self._correction)
        self._pixels = self._correction = self._context = None

    @torch.no_grad()
    def _remember(self, bank: CopyPasteBank, context: LossContext, correction: Correction) -> None:
        """Objects of pictures without pasted ones go to the bank, at full size."""
        batch = context.batch
        cell = batch.images.shape[-1] // correction.instance.shape[-1]
        masks = correction.masks
        hulls = boxes_of_masks(masks.foreground)
        boxes = torch.cat([t.boxes for t in batch.targets])
        usable = correction.known & self.bank.seen[correction.labels]
        usable &= paired_iou(hulls * cell, boxes.to(hulls.dtype)) >= bank.settings.least_fit
        fresh = torch.ones(len(batch), dtype=torch.bool)
        fresh[list(self._pasted)] = False
        usable &= send(fresh, usable.device)[correction.image_index]
        bank.await_objects(CuttingOut(batch, masks.foreground, hulls, masks.scores, usable))

    def _instance_masks(
        self, teacher: MaskSamples, inside_of_samples: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of `count` objects: mask (N, h, w) in 0..1, known (N,) bool, box (N, h, w) bool."""
        index = teacher.instance_index
        weights = positive_weights(
            teacher.predicted_boxes,
            teacher.boxes,
            index,
            count,
            sharpness=self.settings.pseudo.sharpness,
        )
        masks = teacher.logits.float().sigmoid()
        instance, known = weighted_masks(masks, weights, index, count)
        inside = torch.zeros_like(instance, dtype=torch.bool)
        inside[index] = inside_of_samples
        return instance, known, inside

    def _cosine_sums(
        self,
        objects: tuple[Tensor, Tensor],
        background: tuple[Tensor, Tensor],
        *,
        pairs: Tensor,
        pair_of: Tensor,
        seen: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(C, 2) sums of cosines over foreground and background, and (C, 2) numbers of cells.

        Args:
            objects: (N, h, w) cosines, and (N, h, w) bool, cells that are foreground.
            background: (G, h, w) cosines, and (B, h, w) bool, cells outside all boxes. They are the
                same for all objects of a pair, and count once for each.
            pairs: (G,) image * classes + class.
            pair_of: (N,) pair of each object.
            seen: (N,) bool, objects that count.
        """
        image, label = pairs // self.settings.num_classes, pairs % self.settings.num_classes
        times = torch.zeros_like(pairs).index_add_(0, pair_of, seen.to(pairs.dtype))
        cosines, outside = background
        both = (
            self.levels.sums_of(*objects, label[pair_of], seen),
            self.levels.sums_of(cosines, outside[image], label, times),
        )
        sums, counts = (torch.stack(kinds, dim=1) for kinds in zip(*both, strict=True))
        return sums, counts

    def _claimed(self, scores: Tensor, group: Tensor, num_groups: int) -> Tensor:
        """(N, h, w) bool, cells that another object of the group (N,) owns."""
        if not self.settings.pseudo.exclusive:
            return torch.zeros_like(scores, dtype=torch.bool)
        return claimed_by_others(scores, highest_scores(scores, group, num_groups)[group])

    def _seen_in_color(
        self,
        fused: Tensor,
        own: Tensor,
        outside: Tensor,
        image_index: Tensor,
        context: LossContext,
    ) -> tuple[Tensor, Tensor]:
        """The fused maps (N, h, w) asked for colours, and these drawn to borders, if so set."""
        settings, batch = self.settings.pseudo, context.batch
        colored = fused
        if settings.colors:
            lab = context.lab(batch.images.shape[-1] // fused.shape[-1])
            colored = ask_colors(fused, own, outside, image_index, lab, batch)
        if not settings.refine_radius:
            return colored, colored
        return colored, refine(colored, own, image_index, batch, settings)

    def _cosines(self, teacher: MaskSamples, pairs: Tensor) -> Tensor:
        """(G, h, w) cosines of G pairs of image and class, image * classes + class."""
        assert teacher.features is not None
        cosines = self.bank.similarity(
            teacher.features.float(),
            pairs // self.settings.num_classes,
            pairs % self.settings.num_classes,
        )
        factor = teacher.logits.shape[-1] // cosines.shape[-1]
        return aligned_upsample(cosines[:, None], factor)[:, 0]
