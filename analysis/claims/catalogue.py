"""The claims. To add one: what it estimates, in measures.py, and an entry here."""

from functools import partial

from analysis import table1
from analysis.claims import measures
from analysis.claims.claim import Claim

NO_HELP = 0.5
"""A gain of fewer points is none: Table B.1 takes note of differences above it."""
HARDLY = 1.5
"""Points: half of the 3 by which Section 4.2 has the nonlinear head above the linear one."""


def _apart(times: int) -> str:
    """Of a range that is wide enough to be judged by its ends."""
    return f"at least {times}x apart"


STRENGTHS, BATCH_SIZES, LENGTHS = map(
    _apart, (measures.STRENGTHS_APART, measures.BATCH_SIZES_APART, measures.LENGTHS_APART)
)
DIMENSIONS, WIDTHS, DEPTHS = map(
    _apart, (measures.DIMENSIONS_APART, measures.WIDTHS_APART, measures.DEPTHS_APART)
)

CLAIMS = [
    Claim(
        "crop-and-color",
        "Crop and colour distortion are the best pair of augmentations.",
        "Section 3.1, Figure 5",
        ("figure5",),
        "The least lead of crop + color over the 20 other pairs is above 0. A pair is the mean of "
        "its two orders. To confirm, every lead must be clear; to refute, one, corrected for 20.",
        measures.crop_and_color,
    ),
    Claim(
        "no-single-augmentation",
        "No single augmentation suffices: the best one stays below the best pair.",
        "Section 3.1, Figure 5",
        ("figure5",),
        "The best pair minus the best single operation is above 0. No choice is made beforehand: "
        "over every single one some pair must have a clear lead, where crop + color has half of "
        "the 5% for error and the 20 other pairs share the rest. To refute, one must be clearly "
        "above all pairs, corrected for 7.",
        measures.pair_over_singles,
    ),
    Claim(
        "color-strength-simclr",
        "Stronger colour distortion helps SimCLR.",
        "Section 3.2, Table 1",
        ("table1",),
        f"SimCLR’s strongest colour distortion minus its weakest, both without blur and {STRENGTHS}, "
        "is above 0.",
        partial(measures.stronger_color, table1.SIMCLR),
    ),
    Claim(
        "color-strength-supervised",
        "Stronger colour distortion does not help supervised training.",
        "Section 3.2, Table 1",
        ("table1",),
        "Supervised training’s strongest colour distortion minus its weakest, both without blur and "
        f"{STRENGTHS}, is below {NO_HELP:g} points.",
        partial(measures.stronger_color, table1.SUPERVISED),
        NO_HELP,
    ),
    Claim(
        "color-strength-simclr-more",
        "Stronger colour distortion suits SimCLR better than it suits supervised training.",
        "Section 3.2, Table 1",
        ("table1",),
        "SimCLR’s change from the weakest to the strongest colour distortion that both trainings "
        f"have, without blur and {STRENGTHS}, minus supervised training’s, is above 0.",
        measures.stronger_color_for_simclr_more,
    ),
    Claim(
        "autoaugment",
        "AutoAugment is worse for SimCLR than crop and strong colour distortion.",
        "Section 3.2, Table 1",
        ("table1",),
        f"SimCLR’s strongest colour distortion without blur, of strengths {STRENGTHS}, minus "
        "AutoAugment, is above 0.",
        measures.color_over_autoaugment,
    ),
    Claim(
        "wider-encoders",
        "Wider encoders help SimCLR.",
        "Section 4.1, Figure 7",
        ("figure7",),
        "After short training, the widest minus the narrowest encoder of a depth, in the mean over "
        f"depths, of which one has widths {WIDTHS}, is above 0.",
        measures.wider,
    ),
    Claim(
        "deeper-encoders",
        "Deeper encoders help SimCLR.",
        "Section 4.1, Figure 7",
        ("figure7",),
        "After short training, the deepest minus the shallowest encoder of a width, in the mean "
        f"over widths, of which one has depths {DEPTHS}, is above 0.",
        measures.deeper,
    ),
    Claim(
        "wider-encoders-simclr-more",
        "SimCLR gains more from bigger encoders than supervised training does.",
        "Section 4.1, Figure 7",
        ("figure7",),
        "The gain from the narrowest to the widest encoder of a depth, in the mean over depths "
        f"that both trainings have, of which one has widths {WIDTHS}, is greater for SimCLR after "
        "long training than for supervised training.",
        measures.wider_for_simclr_more,
    ),
    Claim(
        "nonlinear-head",
        "A nonlinear projection head is better than a linear one.",
        "Section 4.2, Figure 8",
        ("figure8",),
        "The nonlinear head minus the linear one, in the mean over the output dimensions that both "
        "have, is above 0. The paper’s text: 3 points.",
        measures.nonlinear_over_linear,
    ),
    Claim(
        "linear-head",
        "A linear projection head is better than none.",
        "Section 4.2, Figure 8",
        ("figure8",),
        "The linear head, in the mean over its output dimensions, minus no head is above 0. The "
        "paper’s text: more than 10 points for any head.",
        measures.linear_over_none,
    ),
    Claim(
        "output-dimension",
        "The output dimension of the projection head hardly matters.",
        "Section 4.2, Figure 8",
        ("figure8",),
        f"Every output dimension, of the linear and of the nonlinear head, of dimensions "
        f"{DIMENSIONS}, lies less than {HARDLY:g} points from the mean over dimensions: each must "
        "clearly do so to confirm; to refute, one must clearly not, corrected for their number. The "
        "margin is half of the paper’s 3 points of nonlinear over linear.",
        measures.dimension,
        HARDLY,
    ),
    Claim(
        "h-over-z",
        "The representation h before the projection head is better than z = g(h) after it.",
        "Section 4.2, text",
        ("figure8",),
        "With the nonlinear head, h minus z is above 0 at every output dimension, of dimensions "
        f"{DIMENSIONS}: all must be clear to confirm; to refute, one clearly below, corrected for "
        "their number. The paper’s text, which has no table of it: more than 10 points, regardless "
        "of the dimension.",
        measures.h_over_z,
    ),
    Claim(
        "h-remembers",
        "h keeps information on rotation, noise and Sobel filtering that g(h) loses.",
        "Section 4.2, Table 3",
        ("table3",),
        "The accuracy from h minus that from g(h) is above 0 for each of the three: all must be "
        "clear to confirm; to refute, one clearly below, corrected for 3.",
        measures.h_remembers,
    ),
    Claim(
        "nt-xent",
        "NT-Xent is better than every other loss.",
        "Section 5.1, Table 4",
        ("table4",),
        "The least lead of NT-Xent over the four other losses is above 0: all must be clear to "
        "confirm; to refute, one clearly below, corrected for 4. Each loss has the values that are "
        "best on the validation split (Table 4 tells which, and of which seeds); the lead is on the "
        "test split.",
        measures.nt_xent_over_others,
    ),
    Claim(
        "semi-hard-negatives",
        "Semi-hard negatives help the margin and the logistic loss.",
        "Section 5.1, Table 4",
        ("table4",),
        "Top-1 with semi-hard negatives minus top-1 without is above 0 for both losses, each tuned on the "
        "validation split: both must be clear to confirm; to refute, one clearly below, corrected "
        "for 2.",
        measures.semi_hard,
    ),
    Claim(
        "l2-norm",
        "The l2 norm with a suited temperature is better than none.",
        "Section 5.1, Table 5",
        ("table5",),
        "The best temperature with l2 norm minus the best without is above 0. No temperature is "
        "chosen beforehand: over each without, one with must have a clear lead, corrected for the "
        "number of those with; to refute, the other way round.",
        measures.norm_over_none,
    ),
    Claim(
        "contrastive-accuracy",
        "Without the l2 norm the contrastive accuracy is higher, but the representation is worse.",
        "Section 5.1, Table 5",
        ("table5",),
        "The best contrastive accuracy without l2 norm minus the best with it, and the best top-1 "
        "with it minus the best without, are both above 0. No temperature is chosen beforehand: over "
        "each, one of the other side must have a clear lead, corrected for the number of those; to "
        "refute, one of the two the other way round, corrected for 2.",
        measures.accuracy_misleads,
    ),
    Claim(
        "larger-batches",
        "Larger batches help at few epochs.",
        "Section 5.2, Figure 9",
        ("figure9",),
        f"At the fewest epochs, of lengths {LENGTHS}, the largest batch size minus the smallest, "
        f"{BATCH_SIZES}, is above 0.",
        measures.larger_batch,
    ),
    Claim(
        "batch-gap-shrinks",
        "The lead of large batches over small ones shrinks with more epochs.",
        "Section 5.2, Figure 9",
        ("figure9",),
        "The lead of the largest batch size over the smallest, of those that have both lengths and "
        f"are {BATCH_SIZES}, at the fewest epochs is greater than its lead at the most, {LENGTHS}, "
        "and than the smallest’s lead there: both must be clear to confirm; to refute, one clearly "
        "not, corrected for 2.",
        measures.shrinking_gap,
    ),
    Claim(
        "longer-training",
        "Longer training helps SimCLR.",
        "Section 5.2, Figure 9",
        ("figure9",),
        f"The most epochs minus the fewest, {LENGTHS}, in the mean over batch sizes that have both, "
        "is above 0.",
        measures.longer,
    ),
    Claim(
        "square-root-scaling",
        "Square-root scaling of the learning rate helps small batches at few epochs.",
        "Appendix B.1, Table B.1",
        ("tableB1",),
        "Square root minus linear scaling is above 0 at the smallest batch size and the fewest "
        f"epochs, of sizes {BATCH_SIZES} and lengths {LENGTHS} that both rules have.",
        measures.square_root,
    ),
    Claim(
        "longer-supervised",
        "Longer supervised training with stronger augmentation does not help.",
        "Appendix B.3, Table B.3",
        ("tableB3",),
        "For every encoder, the longest training with colour and blur minus the shortest with crops "
        f"alone, {LENGTHS}, is below {NO_HELP:g} points: for each clearly so to confirm; to refute, "
        "for one clearly not, corrected for their number.",
        measures.long_and_strong,
        NO_HELP,
    ),
]
