"""Table 1 of SIM's paper: every row with its published numbers, and how it is trained here.

Mask AP in percent on COCO test-dev, or on val2017 where marked so. Where text and table of the
paper disagree, the table counts.
"""

from dataclasses import dataclass
from typing import Literal

from boxmask.api.options import Method, ScheduleName

Supervision = Literal["masks", "boxes", "boxes and salient masks"]
COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """A row of the table.

    Attributes:
        key: its name in commands.
        method: as the table calls it.
        backbone: as the table calls it.
        schedule: length of training, as the table calls it.
        supervision: what it learns from.
        scores: AP, AP50, AP75, and AP of small, medium and large objects, in percent; None where
            nothing was published.
        split: of COCO, that the numbers are of.
        model: which of our models it is; empty where none is.
        trained_with: our method; None where none is.
        note: what a reader must know.
    """

    key: str
    method: str
    backbone: str
    schedule: str
    supervision: Supervision
    scores: tuple[float | None, ...]
    split: Literal["test-dev", "val"] = "test-dev"
    model: str = ""
    trained_with: Method | None = None
    note: str = ""

    @property
    def ours(self) -> ScheduleName | None:
        """Our schedule; None where the row cannot be trained here."""
        return self.schedule if self.model else None  # pyrefly: ignore


_DCN_NOTE = "its authors' own list says plain FPN"

TABLE_1 = (
    PublishedRow(
        key="maskrcnn-r101-fpn-3x", method="Mask R-CNN", backbone="R-101-FPN", schedule="3x",
        supervision="masks", scores=(37.5, 59.3, 40.2, 21.1, 39.6, 48.3),
        model="maskrcnn-r101", trained_with="full",
    ),
    PublishedRow(
        key="yolact-r101-fpn-4.5x", method="YOLACT-700", backbone="R-101-FPN", schedule="4.5x",
        supervision="masks", scores=(31.2, 50.6, 32.8, 12.1, 33.3, 47.1),
    ),
    PublishedRow(
        key="polarmask-r101-fpn-2x", method="PolarMask", backbone="R-101-FPN", schedule="2x",
        supervision="masks", scores=(32.1, 53.7, 33.1, 14.7, 33.8, 45.3),
    ),
    PublishedRow(
        key="solov2-r101-fpn-3x", method="SOLOv2", backbone="R-101-FPN", schedule="3x",
        supervision="masks", scores=(39.7, 60.7, 42.9, 17.3, 42.9, 57.4),
        model="solov2-r101", trained_with="full",
    ),
    PublishedRow(
        key="condinst-r101-fpn-3x", method="CondInst", backbone="R-101-FPN", schedule="3x",
        supervision="masks", scores=(39.1, 60.9, 42.0, 21.5, 41.7, 50.9),
        model="condinst-r101", trained_with="full",
    ),
    PublishedRow(
        key="mask2former-r101-50e", method="Mask2Former", backbone="R-101-MSDeformAttn",
        schedule="50e", supervision="masks", scores=(44.2, None, None, 23.8, 47.7, 66.7),
        split="val", model="mask2former-r101", trained_with="full",
    ),
    PublishedRow(
        key="bbtp-r101-fpn-1x", method="BBTP", backbone="R-101-FPN", schedule="1x",
        supervision="boxes", scores=(21.1, 45.5, 17.2, 11.2, 22.0, 29.8), split="val",
    ),
    PublishedRow(
        key="bbam-r101-fpn-1x", method="BBAM", backbone="R-101-FPN", schedule="1x",
        supervision="boxes", scores=(25.7, 50.0, 23.3, None, None, None),
    ),
    PublishedRow(
        key="boxcaseg-r101-fpn-1x", method="BoxCaseg", backbone="R-101-FPN", schedule="1x",
        supervision="boxes and salient masks", scores=(30.9, 54.3, 30.8, 12.1, 32.8, 46.3),
    ),
    PublishedRow(
        key="sim-r101-fpn-1x", method="SIM", backbone="R-101-FPN", schedule="1x",
        supervision="boxes", scores=(34.0, 56.8, 35.0, 17.2, 36.8, 45.5),
        model="condinst-r101", trained_with="sim",
    ),
    PublishedRow(
        key="boxlevelset-r101-fpn-3x", method="BoxLevelSet", backbone="R-101-FPN", schedule="3x",
        supervision="boxes", scores=(33.4, 56.8, 34.1, 15.2, 36.8, 46.8),
    ),
    PublishedRow(
        key="boxinst-r101-fpn-3x", method="BoxInst", backbone="R-101-FPN", schedule="3x",
        supervision="boxes", scores=(33.2, 56.5, 33.6, 16.2, 35.3, 45.1),
        model="condinst-r101", trained_with="boxinst",
    ),
    PublishedRow(
        key="sim-r101-fpn-3x", method="SIM", backbone="R-101-FPN", schedule="3x",
        supervision="boxes", scores=(35.3, 58.9, 36.4, 18.4, 38.0, 47.5),
        model="condinst-r101", trained_with="sim",
    ),
    PublishedRow(
        key="boxlevelset-r101-dcn-bifpn-3x", method="BoxLevelSet", backbone="R-DCN-101-BiFPN",
        schedule="3x", supervision="boxes", scores=(35.4, 59.1, 36.7, 16.8, 38.5, 51.3),
        note=_DCN_NOTE,
    ),
    PublishedRow(
        key="boxinst-r101-dcn-bifpn-3x", method="BoxInst", backbone="R-DCN-101-BiFPN",
        schedule="3x", supervision="boxes", scores=(35.0, 59.3, 35.6, 17.1, 37.2, 48.9),
        model="condinst-r101-dcn-bifpn", trained_with="boxinst",
    ),
    PublishedRow(
        key="sim-r101-dcn-bifpn-3x", method="SIM", backbone="R-DCN-101-BiFPN", schedule="3x",
        supervision="boxes", scores=(37.4, 61.8, 38.6, 18.6, 40.2, 51.6),
        model="condinst-r101-dcn-bifpn", trained_with="sim",
    ),
    PublishedRow(
        key="boxinst-swinb-fpn-3x", method="BoxInst", backbone="Swin-B-FPN", schedule="3x",
        supervision="boxes", scores=(37.9, 63.2, 39.0, 20.0, 41.2, 53.1),
        model="condinst-swinb", trained_with="boxinst",
    ),
    PublishedRow(
        key="sim-swinb-fpn-3x", method="SIM", backbone="Swin-B-FPN", schedule="3x",
        supervision="boxes", scores=(40.2, 66.9, 41.3, 21.1, 43.5, 56.0),
        model="condinst-swinb", trained_with="sim",
    ),
    PublishedRow(
        key="boxinst-mask2former-r101-50e", method="BoxInst", backbone="Mask2Former-R101",
        schedule="50e", supervision="boxes", scores=(35.7, 59.8, 36.4, 16.6, 38.5, 55.4),
        split="val", model="mask2former-r101", trained_with="boxinst",
    ),
    PublishedRow(
        key="sim-mask2former-r101-50e", method="SIM", backbone="Mask2Former-R101",
        schedule="50e", supervision="boxes", scores=(37.4, 62.2, 38.7, 17.6, 41.3, 56.6),
        split="val", model="mask2former-r101", trained_with="sim",
    ),
)  # fmt: skip
