"""Ways to train that benchmarks compare: the methods, and SIM with one part changed."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from boxmask.api.options import Method

VariantName = Literal[
    "boxinst",
    "sim",
    "sim-without-features",
    "sim-without-semantic-map",
    "sim-without-self-correction",
    "sim-without-weighting",
    "sim-with-neighbors",
    "sim-without-owners",
    "sim-without-colors",
    "sim-without-refinement",
    "sim-without-copy-paste",
]
Taught = Literal[Method, VariantName]  # what a row of a table is trained with


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to train: a method, and what differs from its defaults.

    Attributes:
        name: in commands and folders.
        title: in tables and plots.
        method: see `TrainOptions.method`.
        settings: see `TrainOptions.settings`.
    """

    name: VariantName
    title: str
    method: Method
    settings: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """What `boxmask.train` is told."""
        chosen: dict[str, Any] = {"settings": self.settings} if self.settings else {}
        return {"method": self.method} | chosen


VARIANTS = (
    Variant(name="boxinst", title="BoxInst", method="boxinst"),
    Variant(name="sim", title="SIM", method="sim"),
    Variant(
        name="sim-without-features",
        title="SIM without features in the pairwise term",
        method="sim",
        settings=("pairwise_features=0",),
    ),
    Variant(
        name="sim-without-semantic-map",
        title="SIM without semantic map",
        method="sim",
        settings=("instance_share=1",),
    ),
    Variant(
        name="sim-without-self-correction",
        title="SIM without self-correction",
        method="sim",
        settings=("instance_share=0",),
    ),
    Variant(
        name="sim-without-weighting",
        title="SIM without weighting",
        method="sim",
        settings=("sharpness=0",),
    ),
    Variant(
        name="sim-with-neighbors",
        title="SIM, neighbours count to the end",
        method="sim",
        settings=("pairwise_rest=1",),
    ),
    Variant(
        name="sim-without-owners",
        title="SIM without one owner a cell",
        method="sim",
        settings=("exclusive=false",),
    ),
    Variant(
        name="sim-without-colors",
        title="SIM without colours of objects",
        method="sim",
        settings=("colors=false",),
    ),
    Variant(
        name="sim-without-refinement",
        title="SIM without borders of colours",
        method="sim",
        settings=("refine_radius=0",),
    ),
    Variant(
        name="sim-without-copy-paste",
        title="SIM without copy-paste",
        method="sim",
        settings=("paste_probability=0",),
    ),
)


def taught_options(name: Taught) -> dict[str, Any]:
    """What `boxmask.train` is told to train a method or a variant."""
    found = {variant.name: variant for variant in VARIANTS}.get(cast(VariantName, name))
    if found is None:
        return {"method": name}
    return found.options
