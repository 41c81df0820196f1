"""SOLOv2: cells of a grid predict a class, and the kernel that finds their object's mask."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from boxmask.backbones.backbone import BackboneSettings
from boxmask.backbones.stages import PartialMaps
from boxmask.detectors.cell_detections import CellChoiceSettings, best_cells, found_objects
from boxmask.detectors.cell_masks import NUM_NEAR, dynamic_convolution, near_cell_logits
from boxmask.detectors.detector import Detector, SampleAssignment
from boxmask.detectors.focal_loss import focal_class_loss
from boxmask.detectors.grid_cells import (
    CellTargets,
    GridSettings,
    cell_levels,
    cell_middles,
    cell_targets,
    cells_of_every_box,
)
from boxmask.detectors.picture_masks import boxes_of_logits, whole_image_frames
from boxmask.detectors.sample_choice import best_of_each_object, points_of_objects
from boxmask.detectors.solov2_layers import CellHead, MaskFeatures
from boxmask.ops.masks import mean_foreground_score
from boxmask.structures import Detections, LossSum, MaskSamples, Targets
from boxmask.waitless import constants, scalar

STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class SOLOv2Settings:
    """Settings of SOLOv2.

    Attributes:
        num_classes: classes.
        backbone: see `BackboneSettings`.
        grid: see `GridSettings`.
        pyramid_channels: channels of the feature pyramid. Paper: 256.
        tower_channels: channels of the class and of the kernel tower. Paper: 512.
        tower_depth: 3x3 convolutions of each tower. Paper: 4.
        branch_channels: channels inside the mask features. Paper: 128.
        mask_channels: mask features D. Paper: 256.
        prior: class score of every cell before training, in 0..1.
        near_cell: kernels also weigh how far a pixel is from their cell. Few pictures do not
            teach that to features that only know where in the picture they are. Paper: False.
        choice: see `CellChoiceSettings`.
        samples_per_image: how many cells of an image train masks. Paper: all.
        architecture: its name in saved files.
    """

    num_classes: int
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    grid: GridSettings = field(default_factory=GridSettings)
    pyramid_channels: int = 256
    tower_channels: int = 512
    tower_depth: int = 4
    branch_channels: int = 128
    mask_channels: int = 256
    prior: float = 0.01
    near_cell: bool = False
    choice: CellChoiceSettings = field(default_factory=CellChoiceSettings)
    samples_per_image: int = 64
    architecture: Literal["solov2"] = "solov2"

    @property
    def feature_channels(self) -> int:
        """See `DetectorSettings`."""
        return self.mask_channels

    def build(self) -> "SOLOv2":
        """The detector, its backbone pretrained as the settings say."""
        return SOLOv2(self)


@dataclass(frozen=True, kw_only=True)
class SOLOv2Outputs:
    """Predictions of P cells an image.

    Attributes:
        class_logits: (B, P, classes), or None where only masks are wanted.
        kernels: (B, P, E), weights of the mask features, then those of the near-cell terms.
        features: (B, D, h, w) mask features at stride 4.
        image_size: (height, width) with padding.
    """

    class_logits: Tensor | None
    kernels: Tensor
    features: Tensor
    image_size: tuple[int, int]


class SOLOv2(Detector):
    """SOLOv2 with positive cells from boxes.

    Source: SOLOv2: Dynamic and Fast Instance Segmentation (NeurIPS 2020).
    """

    steady = True

    def __init__(self, settings: SOLOv2Settings) -> None:
        super().__init__()
        self.settings = settings
        self.num_classes = settings.num_classes
        self.backbone = replace(settings.backbone, strides=STRIDES).build()
        channels = settings.pyramid_channels
        self.neck = FeaturePyramidNetwork(
            list(self.backbone.channels), channels, extra_blocks=LastLevelMaxPool()
        )
        self.cell_head = CellHead(
            channels,
            settings.tower_channels,
            depth=settings.tower_depth,
            num_classes=settings.num_classes,
            kernel_channels=settings.mask_channels + (NUM_NEAR if settings.near_cell else 0),
            prior=settings.prior,
        )
        self.mask_features = MaskFeatures(
            channels, settings.branch_channels, settings.mask_channels
        )
        self.to(memory_format=torch.channels_last)  # faster convolutions, on CPUs too

    def forward(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None
    ) -> SOLOv2Outputs:
        """See `Detector.forward`."""
        return self._outputs(images, valid, frozen, classes=True)

    @property
    def map_parts(self) -> list[nn.Module]:
        """See `Detector.map_parts`."""
        return [*self.backbone.map_parts, self.neck, *self.mask_features.map_parts]

    def frozen_outputs(self, images: Tensor, valid: Tensor) -> PartialMaps | None:
        """The backbone's first stages, see `Detector.frozen_outputs`."""
        return self.backbone.frozen_maps(images, valid)

    def mask_outputs(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None = None
    ) -> SOLOv2Outputs:
        """See `Detector.mask_outputs`: the class tower is left out."""
        return self._outputs(images, valid, frozen, classes=False)

    def _outputs(
        self, images: Tensor, valid: Tensor, frozen: PartialMaps | None, *, classes: bool
    ) -> SOLOv2Outputs:
        maps = self.backbone(images, valid, frozen)
        named = {str(stride): one for stride, one in zip(STRIDES, maps, strict=True)}
        levels = list(self.neck(named).values())  # P2 to P6
        class_logits, kernels = self.cell_head(levels, self.settings.grid.sides, classes=classes)
        return SOLOv2Outputs(
            class_logits=class_logits,
            kernels=kernels,
            features=self.mask_features(levels),
            image_size=(images.shape[-2], images.shape[-1]),
        )

    def assign(self, outputs: SOLOv2Outputs, targets: Sequence[Targets]) -> SampleAssignment:
        """Cells around a box's middle; where boxes share one it is the smallest's."""
        cells = cell_targets(self.settings.grid, targets, outputs.image_size)
        scores = best_class_scores(outputs, cells.image_index, cells.position)
        kept, host_index = best_of_each_object(
            cells.instance_index,
            scores,
            cells.counts,
            [len(one) for one in targets],
            self.settings.samples_per_image,
        )
        return SampleAssignment.of(
            cells.position[kept], cells.image_index[kept], cells.instance_index[kept],
            targets, cells, host_index,
        )  # fmt: skip

    def assign_every_box(
        self, outputs: SOLOv2Outputs, targets: Sequence[Targets]
    ) -> SampleAssignment:
        """The best of those cells; a box to which none is left shares those of others."""
        image_index, position, instance = cells_of_every_box(
            self.settings.grid, targets, outputs.image_size
        )
        scores = best_class_scores(outputs, image_index, position)
        counts = [len(one) for one in targets]
        kept, host_index = best_of_each_object(
            instance,
            scores,
            points_of_objects(instance, sum(counts)),
            counts,
            self.settings.samples_per_image,
            cap_objects=False,
        )
        return SampleAssignment.of(
            position[kept],
            image_index[kept],
            instance[kept],
            targets,
            host_index=host_index,
        )

    def detection_losses(
        self,
        outputs: SOLOv2Outputs,
        assignment: SampleAssignment,
        targets: Sequence[Targets],
    ) -> dict[str, LossSum]:
        """Focal class loss over all cells, counted by the positive ones."""
        assert outputs.class_logits is not None
        cells: CellTargets = assignment.detection
        focal = focal_class_loss(outputs.class_logits, cells.labels)
        count = scalar(len(cells.position), focal)
        return {"loss_class": LossSum(focal, count)}

    def mask_samples(self, outputs: SOLOv2Outputs, assignment: SampleAssignment) -> MaskSamples:
        """Masks at stride 4 of the assigned cells; scores are as those of detections."""
        image_index, position = assignment.image_index, assignment.position
        logits = self.mask_logits(outputs, image_index, position, assignment.counts)
        sure = mean_foreground_score(logits.detach().sigmoid())
        return MaskSamples(
            logits=logits,
            boxes=assignment.boxes,
            tight=assignment.tight,
            labels=assignment.labels,
            image_index=image_index,
            instance_index=assignment.instance_index,
            frames=whole_image_frames(logits),
            predicted_boxes=boxes_of_logits(logits, assignment.boxes),
            scores=best_class_scores(outputs, image_index, position) * sure,
            features=outputs.features,
            host_index=assignment.host_index,
        )

    def mask_logits(
        self, outputs: SOLOv2Outputs, image_index: Tensor, position: Tensor, counts: Sequence[int]
    ) -> Tensor:
        """(K, h, w) logits at stride 4 of K cells, in float32; `counts` of each image in turn."""
        kernels = outputs.kernels[image_index, position].float()  # (K, E)
        channels = self.settings.mask_channels
        with torch.autocast(kernels.device.type, enabled=False):
            logits = dynamic_convolution(outputs.features.float(), kernels[:, :channels], counts)
            if not self.settings.near_cell:
                return logits
            grid = self.settings.grid
            middles = cell_middles(grid, outputs.image_size, kernels.device)[position]
            most = constants(tuple(high for _, high in grid.size_ranges), kernels.device)
            reaches = most[cell_levels(grid, kernels.device)[position]] / 2
            return logits + near_cell_logits(
                kernels[:, channels:], middles, reaches, (logits.shape[-2], logits.shape[-1])
            )

    @torch.no_grad()
    def detections(
        self, outputs: SOLOv2Outputs, image_sizes: Sequence[tuple[int, int]]
    ) -> list[Detections]:
        """At most `max_detections` objects an image, best first, each with some area."""
        assert outputs.class_logits is not None
        settings = self.settings
        found = []
        for image, size in enumerate(image_sizes):
            class_scores = outputs.class_logits[image].float().sigmoid()
            position, labels, scores = best_cells(
                class_scores, settings.grid.sides, settings.choice
            )
            counts = [len(position) * (other == image) for other in range(len(outputs.features))]
            index = torch.full_like(position, image)
            logits = self.mask_logits(outputs, index, position, counts)
            found.append(found_objects(logits.sigmoid(), scores, labels, size, settings.choice))
        return found


def best_class_scores(outputs: SOLOv2Outputs, image_index: Tensor, position: Tensor) -> Tensor:
    """(K,) best class score of cells, no graph; 1 where classes are left out."""
    if outputs.class_logits is None:
        return torch.ones(len(position), device=position.device)
    logits = outputs.class_logits[image_index, position].detach().float()
    return logits.amax(dim=-1).sigmoid()
