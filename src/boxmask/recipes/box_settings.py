"""Every knob of BoxInst and SIM, with the values of their papers."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

# What the value of a setting may be; pydantic checks it where words give values.
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class BoxInstSettings:
    """Knobs of BoxInst.

    Attributes:
        projection_weight: factor of the projection term. Paper: 1.
        pairwise_weight: factor of the pairwise term, once warm. Paper: 1.
        pairwise_color: colour similarity, in 0..1, from which neighbours must agree. Paper: 0.3.
        pairwise_dilation: mask cells from a cell to its neighbours. Paper: 2.
        pairwise_warmup: share of the run, in 0..1, over which the pairwise term grows; None takes
            the recipe's. Paper: 10,000 steps of 90,000.
        prior_weight: factor of the soft ellipse in each box, which leads masks through that time
            and is gone after it. Paper: 0, there is none.
        guard_fill: share of their boxes, in 0..1, that masks must cover on average; below it the
            soft ellipse of the start comes back, weaker towards the end of the run. 0: never, as
            in the paper.
    """

    projection_weight: NotNegative = 1.0
    pairwise_weight: NotNegative = 1.0
    pairwise_color: Share = 0.3
    pairwise_dilation: Count = 2
    pairwise_warmup: Share | None = None
    prior_weight: NotNegative = 1.0
    guard_fill: Share = 0.3


@dataclass(frozen=True, kw_only=True)
class SIMSettings(BoxInstSettings):
    """Knobs of SIM. "Code" is what was published, where it differs from the paper.

    Attributes:
        pairwise_contrast: an object hides if its colours are nearer than this to those around its
            box, in LAB units. The next two are for hidden objects; colours alone decide at others.
            inf: every object hides. Paper and code: none does.
        pairwise_features: neighbours of one colour must agree if their features are nearer than
            this. They are those of the backbone's layers that never learn, in units in which
            unrelated ones are 1.4 apart. 0 looks at colours alone, as the paper does. Code: mask
            features.
        pairwise_reach: neighbours of like features must agree if their colours are nearer than
            this, in LAB units; matters where `pairwise_features` does.
        pairwise_rest: share of the pairwise term's weight, in 0..1, that stays when pseudo masks
            have come to count fully. Paper and code: 1.
        warmup: share of the run, in 0..1, before pseudo masks teach. Paper: 10,000 steps of
            90,000. In runs of some hundred steps masks still improve fast then, and pseudo masks
            of the slow teacher hold them back.
        prototypes: prototypes L of a class. Paper: 10.
        prototype_momentum: share of the old prototype at each update, in 0..1. Paper: 0.999.
        epsilon: weight of the entropy in the assignment of pixels to prototypes. Code: 0.05.
        assignment_tolerance: relative error of the masses, in 0..1, at which the assignment stops
            on a CPU; a GPU does not look.
        assignment_iterations: of the assignment at most; a GPU makes 30 if this is more. Code: 3.
        prototype_pixels: pixels of a class that an update looks at. Code: all.
        temperature: tau of the semantic map. Paper: 0.1; code: 1.
        calibrated: count cosines from the middle between those of foreground and those of cells
            outside all boxes, class by class. Paper and code count from 0.
        instance_share: alpha, share of the instance mask in a pseudo mask, in 0..1. 1 leaves
            the semantic map out, which is the weaker one with few classes and light models; 0
            leaves the instance masks out. Paper: 0.5.
        sharpness: mu, 0 to 80, how much samples count whose predicted box fits. Paper: 5; code: 0.
        confident: score of the instance mask, in 0..1, from which a cell is sure. Code: 0.7.
        lowest_high: least threshold of foreground, in 0..1. Code: 0.6 (1x) and 0.7 (3x).
        highest_high: largest threshold of foreground, in 0..1. Code: 0.7 (1x) and 0.8 (3x).
        low: threshold, in 0..1, below which a cell is background. Code: 0.4.
        colors: ask each cell of a pseudo mask whether it has the colours of the object near it or
            those outside all boxes. Paper and code do not.
        refine_radius: cells from the middle to the side of windows in which pseudo masks are drawn
            to borders of colours; 0 leaves them as they are, as paper and code do.
        refine_smoothness: variance of colours, in 0..1 squared, below which such a window is plain.
        refine_least: share of a pseudo mask's border, at most 1, that colours must explain; the
            masks of other objects, which hide in colour, stay as they are.
        exclusive: where boxes of one class overlap, a cell belongs to that object alone whose
            instance mask is surest there. Paper and code let touching objects share cells.
        open_share: in a row or column of a box in which a pseudo mask has no foreground, cells
            of at least this share, in 0..1, of the largest score there teach nothing: the object
            is somewhere in them. None: they are background, as in paper and code.
        pseudo_weight: factor of the pseudo mask loss. Paper: 0.5; code: 0.3.
        pseudo_rest: share of that factor, in 0..1, that is left at the end of the run; it falls
            from where pseudo masks count fully. Paper and code: 1.
        pseudo_ramp: share of the run, in 0..1, over which that loss grows after the warm-up.
            Code: the whole run.
        paste_weight: factor of the loss of pasted objects. Paper: 1.
        paste_probability: of pasting into a picture, in 0..1; 0 switches copy-paste off. Code: 0.5.
        paste_passes: passes over the pictures that a run makes to paste with this probability; one
            of fewer pastes less, in proportion. Paper and code: 0, no matter how many.
        paste_until: share of the run, in 0..1, after which nothing is pasted, so that it ends with
            pictures as they are. Paper and code: 1.
        paste_fraction: share of a remembered picture's objects that are pasted. Paper: 0.25.
        paste_most: objects pasted into a picture at most. Paper: 3.
        paste_power: objects are drawn with weights score to this power. Code: 3.
        paste_visible: share of an object, in 0..1, that must stay visible, or it is dropped.
        paste_fit: IoU, in 0..1, of a pseudo mask's own box with the given one from which an object
            may be pasted: others would teach wrong boxes. Paper and code: 0.
        paste_smallest: size of pasted objects relative to their own, from which on it is drawn,
            above 0 and at most 1.
        paste_covered: share of any box of the picture, in 0..1, that a pasted object may cover;
            its place is drawn until it fits. With 1 for this and `paste_smallest` objects keep
            place and size, as in paper and code.
        bank_capacity: pictures whose objects are remembered. Paper: 100; code: 50.
        teacher_decay: of the moving average that teaches and is saved, from 0 to below 1; None
            takes the recipe's. Paper: 0.9999.
    """

    pairwise_contrast: NotNegative = 4.0
    pairwise_features: NotNegative = 1.2
    pairwise_reach: Positive = 15.0
    pairwise_rest: Share = 0.0
    warmup: Share = 0.3
    prototypes: Count = 10
    prototype_momentum: Share = 0.999
    epsilon: Positive = 0.05
    assignment_tolerance: Annotated[float, Field(gt=0, le=1)] = 1e-3
    assignment_iterations: Count = 100
    prototype_pixels: Count = 1024
    temperature: Positive = 0.2
    calibrated: bool = True
    instance_share: Share = 0.85
    sharpness: Annotated[float, Field(ge=0, le=80)] = 5.0
    confident: Share = 0.7
    lowest_high: Share = 0.6
    highest_high: Share = 0.7
    low: Share = 0.4
    colors: bool = True
    refine_radius: Annotated[int, Field(ge=0)] = 2
    refine_smoothness: Positive = 1e-5
    refine_least: Annotated[float, Field(le=1)] = 0.35
    exclusive: bool = True
    open_share: Share | None = 0.4
    pseudo_weight: NotNegative = 1.0
    pseudo_rest: Share = 0.25
    pseudo_ramp: Share = 0.2
    paste_weight: NotNegative = 1.0
    paste_probability: Share = 0.25
    paste_passes: NotNegative = 50.0
    paste_until: Share = 0.75
    paste_fraction: Share = 0.25
    paste_most: Count = 3
    paste_power: NotNegative = 3.0
    paste_visible: Share = 0.25
    paste_fit: Share = 0.75
    paste_smallest: Annotated[float, Field(gt=0, le=1)] = 1.0
    paste_covered: Share = 1.0
    bank_capacity: Count = 50
    teacher_decay: Annotated[float, Field(ge=0, lt=1)] | None = None


# The methods as their papers have them, where they differ from our defaults.
PAPER_BOXINST = BoxInstSettings(pairwise_warmup=0.11, prior_weight=0.0, guard_fill=0.0)
PAPER = SIMSettings(
    pairwise_warmup=0.11,
    prior_weight=0.0,
    guard_fill=0.0,
    pairwise_features=0.0,
    pairwise_rest=1.0,
    instance_share=0.5,
    colors=False,
    refine_radius=0,
    exclusive=False,
    open_share=None,
    warmup=0.11,
    temperature=0.1,
    calibrated=False,
    pseudo_weight=0.5,
    pseudo_rest=1.0,
    pseudo_ramp=0.0,
    paste_probability=0.5,
    paste_passes=0.0,
    paste_until=1.0,
    paste_fit=0.0,
    bank_capacity=100,
    teacher_decay=0.9999,
)
