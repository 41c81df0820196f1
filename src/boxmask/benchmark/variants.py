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


def _sim(name: VariantName, title: str, setting: str) -> Variant:
    """SIM with one setting changed."""
    return Variant(name=name, title=title, method="sim", settings=(setting,))


VARIANTS = (
    Variant(name="boxinst", title="BoxInst", method="boxinst"),
    Variant(name="sim", title="SIM", method="sim"),
    _sim(
        "sim-without-features", "SIM without features in the pairwise term", "pairwise_features=0"
    ),
    _sim("sim-without-semantic-map", "SIM without semantic map", "instance_share=1"),
    _sim("sim-without-self-correction", "SIM without self-correction", "instance_share=0"),
    _sim("sim-without-weighting", "SIM without weighting", "sharpness=0"),
    _sim("sim-with-neighbors", "SIM, neighbours count to the end", "pairwise_rest=1"),
    _sim("sim-without-owners", "SIM without one owner a cell", "exclusive=false"),
    _sim("sim-without-colors", "SIM without colours of objects", "colors=false"),
    _sim("sim-without-refinement", "SIM without borders of colours", "refine_radius=0"),
    _sim("sim-without-copy-paste", "SIM without copy-paste", "paste_probability=0"),
)


def taught_options(name: Taught) -> dict[str, Any]:
    """What `boxmask.train` is told to train a method or a variant."""
    found = {variant.name: variant for variant in VARIANTS}.get(cast(VariantName, name))
    if found is None:
        return {"method": name}
    return found.options
