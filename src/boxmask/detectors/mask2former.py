"""Mask2Former: queries that each find one object, its class and its mask."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from boxmask.backbones.backbone import BackboneSettings
from boxmask.backbones.stages import PartialMaps
from boxmask.detectors.detector import Detector, SampleAssignment
from boxmask.detectors.picture_masks import (
    MASK_STRIDE,
    boxes_of_logits,
    whole_image_frames,
)
from boxmask.detectors.query_masks import (
    QueryOutputs,
    QuerySettings,
    image_mask_logits,
)
from boxmask.detectors.query_matching import (
    MatchingSettings,
    class_scores,
    match,
    match_every_object,
    matching_costs,
)
from boxmask.ops.masks import boxes_of_masks, mean_foreground_score
from boxmask.structures import Detections, LossSum, MaskSamples, Targets
from boxmask.waitless import Fetched, send

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class Mask2FormerSettings:
    """Settings of Mask2Former.

    Attributes:
        num_classes: classes.
        backbone: see `BackboneSettings`.
        queries: see `QuerySettings`.
        matching: see `MatchingSettings`.
        class_weight: factor of the class loss. Published: 2.
        no_object_weight: how much a query without an object counts in it. Published: 0.1.
        score_threshold: least score of a detection, in 0..1. Published: 0.
        max_detections: of an image. Published: 100.
        architecture: its name in saved files.
    """

    num_classes: int
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    queries: QuerySettings = field(default_factory=QuerySettings)
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    class_weight: float = 2.0
    no_object_weight: float = 0.1
    score_threshold: float = 0.0
    max_detections: int = 100
    architecture: Literal["mask2former"] = "mask2former"

    @property
    def feature_channels(self) -> int:
        """See `DetectorSettings`."""
        return self.queries.channels

    def build(self) -> "Mask2Former":
        """The detector, its backbone pretrained as the settings say."""
        return Mask2Former(self)


class Mask2Former(Detector):
    """Mask2Former, its queries matched by boxes and classes.

    Positions of samples count queries of the first output, then those of the second, and so on.

    Source: Masked-attention Mask Transformer (CVPR 2022).
    """

    def __init__(self, settings: Mask2FormerSettings) -> None:
        from boxmask.detectors.query_decoder import QueryDecoder  # transformers takes seconds

        super().__init__()
        self.settings = settings
        self.num_classes = settings.num_classes
        self.backbone = replace(settings.backbone, strides=STRIDES).build()
        self.decoder = QueryDecoder(settings.queries, self.backbone.channels, settings.num_classes)

    def forward(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None
    ) -> QueryOutputs:
        """See `Detector.forward`."""
        return self.decoder(self.backbone(images, valid, frozen))

    @property
    def map_parts(self) -> list[nn.Module]:
        """See `Detector.map_parts`."""
        return self.backbone.map_parts

    def frozen_outputs(self, images: Tensor, valid: Tensor) -> PartialMaps | None:
        """The backbone's first stages, see `Detector.frozen_outputs`."""
        return self.backbone.frozen_maps(images, valid)

    def assign(self, outputs: QueryOutputs, targets: Sequence[Targets]) -> SampleAssignment:
        """In each output every object gets one query, while there are enough."""
        found = [
            [(i, *match(one)) for i, one in enumerate(costs)]
            for costs in self._costs(outputs, targets)
        ]
        return self._assignment(outputs, targets, found)

    def assign_every_box(
        self, outputs: QueryOutputs, targets: Sequence[Targets]
    ) -> SampleAssignment:
        """In the last output every object gets one query; a query may serve several objects."""
        last = len(outputs.class_logits) - 1
        only = replace(
            outputs,
            class_logits=outputs.class_logits[last:],
            embeddings=outputs.embeddings[last:],
        )
        found = [[(last, *match_every_object(costs[0]))] for costs in self._costs(only, targets)]
        return self._assignment(outputs, targets, found)

    def detection_losses(
        self,
        outputs: QueryOutputs,
        assignment: SampleAssignment,
        targets: Sequence[Targets],
    ) -> dict[str, LossSum]:
        """Cross-entropy of all queries, those without an object to "no object"."""
        logits = outputs.class_logits.float()  # (L, B, Q, C + 1)
        wanted = torch.full(logits.shape[:3], self.num_classes, device=logits.device)
        output, query = self._places(outputs, assignment.position)
        wanted[output, assignment.image_index, query] = assignment.labels
        weights = logits.new_ones(self.num_classes + 1)
        weights[-1] = self.settings.no_object_weight
        total = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), weights, reduction="sum")
        return {"loss_class": LossSum(self.settings.class_weight * total, weights[wanted].sum())}

    def mask_samples(self, outputs: QueryOutputs, assignment: SampleAssignment) -> MaskSamples:
        """Masks at stride 4 of the assigned queries."""
        output, query = self._places(outputs, assignment.position)
        counts = list(assignment.counts)
        places = zip(output.split(counts), query.split(counts), strict=True)
        logits = torch.cat(
            [image_mask_logits(outputs, image, *place) for image, place in enumerate(places)]
        )
        class_logits = outputs.class_logits[output, assignment.image_index, query].detach()
        known = assignment.labels.clamp(max=self.num_classes)
        return MaskSamples(
            logits=logits,
            boxes=assignment.boxes,
            tight=assignment.tight,
            labels=assignment.labels,
            image_index=assignment.image_index,
            instance_index=assignment.instance_index,
            frames=whole_image_frames(logits),
            predicted_boxes=boxes_of_logits(logits, assignment.boxes),
            scores=class_scores(class_logits).gather(1, known[:, None])[:, 0],
            features=outputs.pixels,
            host_index=assignment.host_index,
        )

    def detections(
        self, outputs: QueryOutputs, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """At most `max_detections` objects an image, best first, each with some area."""
        return [
            self._image_detections(outputs, image, size) for image, size in enumerate(image_sizes)
        ]

    def _image_detections(
        self, outputs: QueryOutputs, image: int, image_size: tuple[int, int]
    ) -> Detections:
        """The objects of one image, by the last output."""
        settings = self.settings
        probabilities = outputs.class_logits[-1, image].float().softmax(dim=-1)[:, :-1]  # (Q, C)
        query = torch.arange(len(probabilities), device=probabilities.device)
        last = torch.full_like(query, len(outputs.class_logits) - 1)
        logits = image_mask_logits(outputs, image, last, query)
        mask_scores = logits.sigmoid() * _in_picture(logits, image_size)
        scores = (probabilities * mean_foreground_score(mask_scores)[:, None]).flatten()
        best = scores.argsort(descending=True, stable=True)[: settings.max_detections]
        query = best // self.num_classes
        limits = logits.new_tensor(image_size).flip(0).repeat(2)  # width, height, width, height
        boxes = (boxes_of_masks(mask_scores > 0.5) * MASK_STRIDE).minimum(limits)[query]
        found = Detections(
            boxes=boxes,
            scores=scores[best],
            labels=best % self.num_classes,
            mask_scores=mask_scores[query],
            frames=whole_image_frames(mask_scores[query]),
            image_size=image_size,
        )
        some_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=-1)
        return found.select(some_area & (found.scores > settings.score_threshold))

    def _costs(self, outputs: QueryOutputs, targets: Sequence[Targets]) -> Sequence[Tensor]:
        """(L, Q, N) matching costs of each image, on the CPU; the host waits for all at once."""
        settings = self.settings.matching
        costs = (matching_costs(outputs, *one, settings).detach() for one in enumerate(targets))
        return Fetched(*costs).get()

    def _places(self, outputs: QueryOutputs, position: Tensor) -> tuple[Tensor, Tensor]:
        """Output and query of positions."""
        num_queries = outputs.class_logits.shape[2]
        return position // num_queries, position % num_queries

    def _assignment(
        self,
        outputs: QueryOutputs,
        targets: Sequence[Targets],
        found: list[list[tuple[int, Tensor, Tensor]]],
    ) -> SampleAssignment:
        """Binds (output, queries, objects) of each image to the objects' boxes."""
        num_queries, device = outputs.class_logits.shape[2], outputs.pixels.device
        nothing = torch.zeros(0, dtype=torch.int64)
        positions, images, instances, offset = [nothing], [nothing], [nothing], 0
        for image, matches in enumerate(found):
            for output, query, owner in matches:
                positions.append(query + output * num_queries)
                images.append(torch.full_like(query, image))
                instances.append(owner + offset)
            offset += len(targets[image])
        host_index = torch.cat(instances)
        position, image_index, instance = (
            send(many, device) for many in (torch.cat(positions), torch.cat(images), host_index)
        )
        return SampleAssignment.of(position, image_index, instance, targets, host_index=host_index)


def _in_picture(logits: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(h, w) bool, cells that begin before the padding."""
    rows, columns = (
        torch.arange(count, device=logits.device) * MASK_STRIDE < length
        for count, length in zip(logits.shape[-2:], image_size, strict=True)
    )
    return rows[:, None] & columns
