"""The claims. To add one, add the differences that it rests on to differences.py, and an entry here."""

from functools import partial

from ..artefacts import figureb8, table1
from . import differences
from .claim import Claim
from .effects import FiveInSix, Greatest, Least

NO_HELP = 0.5
"""A gain of fewer points counts as none: Table B.1 notes only differences above it."""
LOW_RANK = 25.0
"""Percent of the outputs of a linear head: half of the effective rank of a matrix of independent normal draws."""
HARDLY = 1.5
"""Points: half of the 3 points by which the nonlinear head beats the linear one in Section 4.2."""
MUCH = 10.0
"""Points: "more than 10%" of Section 4.2."""


def _apart(times: int) -> str:
    """How far apart the ends of a range must be for its ends to judge it, in words."""
    return f"at least {times}x apart"


STRENGTHS, BATCH_SIZES, LENGTHS = map(
    _apart,
    (differences.STRENGTHS_APART, differences.BATCH_SIZES_APART, differences.LENGTHS_APART),
)
DIMENSIONS, WIDTHS, DEPTHS = map(
    _apart, (differences.DIMENSIONS_APART, differences.WIDTHS_APART, differences.DEPTHS_APART)
)
STEP = differences.STEP
AS_MANY = (
    "No temperature is chosen beforehand, and neither side has more tries: the side with more temperatures gives only "
    "its middle ones, as many as the other has."
)
BY_LUCK = (
    "The verdict is on these temperatures alone: if the temperature mattered and the norm did not, the best one would "
    "be on either side equally often."
)
LINEAR, NONLINEAR = differences.FREE_HEADS

CLAIMS = [
    Claim(
        "crop-and-color",
        "Crop and colour distortion are the best pair of augmentations.",
        "Section 3.1, Figure 5",
        ("figure5",),
        "The least lead of crop + color over the 20 other pairs is above 0. A pair is the mean of "
        "its two orders.",
        differences.crop_and_color,
        (Least,),
    ),
    Claim(
        "no-single-augmentation",
        "No single augmentation suffices: the best one stays below the best pair.",
        "Section 3.1, Figure 5",
        ("figure5",),
        "The best pair minus the best single operation is above 0. No pair is chosen beforehand: "
        "each of the 7 single operations has a group of differences, all 21 pairs minus it. In a "
        "group, crop + color has half of the 5% for error, and the 20 other pairs share the rest.",
        differences.pair_over_singles,
        (Least, Greatest, Greatest),
    ),
    Claim(
        "harder-task",
        "Composing augmentations makes the contrastive task harder.",
        "Section 3.1, text of Figure 5",
        ("figure5",),
        "The contrastive accuracy of the last epoch, averaged over the 7 single operations, minus that averaged over "
        "the 42 ordered pairs, is above 0.",
        differences.harder_task,
    ),
    Claim(
        "color-strength-simclr",
        "Stronger colour distortion helps SimCLR.",
        "Section 3.2, Table 1",
        ("table1",),
        "SimCLR’s strongest colour distortion minus its weakest is above 0. Both are without blur "
        f"and {STRENGTHS}.",
        partial(differences.stronger_color, table1.SIMCLR),
    ),
    Claim(
        "color-helps",
        "Colour distortion helps SimCLR.",
        "Section 3.1, text; Table 1",
        ("table1",),
        "SimCLR’s best colour distortion minus random crop and flip alone is above 0. No strength is chosen "
        "beforehand: each has a difference of its own, and they are several tries against one. They are without blur "
        f"and {STRENGTHS}. Table 1 of the paper has no crops alone, Figure 5 has them.",
        differences.color_over_crop,
        (Greatest,),
    ),
    Claim(
        "color-strength-supervised",
        "Stronger colour distortion does not help supervised training.",
        "Section 3.2, Table 1",
        ("table1",),
        "Supervised training’s strongest colour distortion minus its weakest is below "
        f"{NO_HELP:g} points. Both are without blur and {STRENGTHS}.",
        partial(differences.stronger_color, table1.SUPERVISED),
        limit=NO_HELP,
        below=True,
    ),
    Claim(
        "color-strength-simclr-more",
        "Stronger colour distortion suits SimCLR better than it suits supervised training.",
        "Section 3.2, Table 1",
        ("table1",),
        "SimCLR’s change from the weakest to the strongest colour distortion, minus supervised "
        "training’s, is above 0. Both trainings have both strengths, without blur and "
        f"{STRENGTHS}.",
        differences.stronger_color_for_simclr_more,
    ),
    Claim(
        "autoaugment-no-better",
        "AutoAugment does not work better for SimCLR than crop and strong colour distortion.",
        "Section 3.2, Table 1",
        ("table1",),
        "AutoAugment minus SimCLR’s strongest colour distortion without blur is below "
        f"{NO_HELP:g} points. The strengths are {STRENGTHS}.",
        differences.autoaugment_over_color,
        limit=NO_HELP,
        below=True,
    ),
    Claim(
        "wider-encoders",
        "Wider encoders help SimCLR.",
        "Section 4.1, Figure 7",
        ("figure7",),
        "After short training, the widest minus the narrowest encoder of a depth, averaged over "
        f"depths, is above 0. At least one depth has widths {WIDTHS}.",
        differences.wider,
    ),
    Claim(
        "deeper-encoders",
        "Deeper encoders help SimCLR.",
        "Section 4.1, Figure 7",
        ("figure7",),
        "After short training, the deepest minus the shallowest encoder of a width, averaged over "
        f"widths, is above 0. At least one width has depths {DEPTHS}.",
        differences.deeper,
    ),
    Claim(
        "wider-encoders-simclr-more",
        "SimCLR gains more from bigger encoders than supervised training does.",
        "Section 4.1, Figure 7",
        ("figure7",),
        "The gain from the narrowest to the widest encoder of a depth, averaged over the depths "
        "that both trainings have, is greater for SimCLR after long training than for supervised "
        f"training. At least one depth has widths {WIDTHS}.",
        differences.wider_for_simclr_more,
    ),
    Claim(
        "nonlinear-head",
        "A nonlinear projection head is better than a linear one.",
        "Section 4.2, Figure 8",
        ("figure8",),
        "The nonlinear head minus the linear one, averaged over the output dimensions that both "
        "have, is above 0. The paper’s text: 3 points.",
        differences.nonlinear_over_linear,
    ),
    Claim(
        "linear-head",
        "A linear projection head is better than none.",
        "Section 4.2, Figure 8",
        ("figure8",),
        "The linear head with as many outputs as h has dimensions, minus no head, is above 0.",
        partial(differences.head_over_none, LINEAR),
    ),
    Claim(
        "nonlinear-head-over-none",
        "A nonlinear projection head is much better than none: by more than 10 points.",
        "Section 4.2, Figure 8",
        ("figure8",),
        "The nonlinear head with as many outputs as h has dimensions, minus no head, is above "
        f"{MUCH:g} points. It is refuted if the lead is smaller, even if there is one.",
        partial(differences.head_over_none, NONLINEAR),
        limit=MUCH,
    ),
    Claim(
        "output-dimension",
        "The output dimension of the projection head hardly matters.",
        "Section 4.2, Figure 8",
        ("figure8",),
        "Every output dimension of the linear and of the nonlinear head lies less than "
        f"{HARDLY:g} points from the mean over dimensions, which are {DIMENSIONS}. The margin is "
        "half of the paper’s 3 points of nonlinear over linear.",
        differences.dimension,
        (Greatest,),
        limit=HARDLY,
        below=True,
    ),
    Claim(
        "h-over-z",
        "The representation h before the projection head is better than z = g(h) after it.",
        "Section 4.2, text",
        ("figure8",),
        "With the nonlinear head, h minus z is above 0 at every output dimension. The dimensions "
        f"are {DIMENSIONS}. The paper’s text, which has no table of it: more than 10 points, "
        "regardless of the dimension.",
        differences.h_over_z,
        (Least,),
    ),
    Claim(
        "h-remembers",
        "h keeps information on rotation, noise and Sobel filtering that g(h) loses.",
        "Section 4.2, Table 3",
        ("table3",),
        "The accuracy from h minus that from g(h) is above 0 for each of the three.",
        differences.h_remembers,
        (Least,),
    ),
    Claim(
        "nt-xent",
        "NT-Xent is better than every other loss.",
        "Section 5.1, Table 4",
        ("table4",),
        "The least lead of NT-Xent over the four other losses is above 0. Each loss has the values "
        "that are best on the validation split (Table 4 says which, and with which seeds); the "
        "lead is on the test split.",
        differences.nt_xent_over_others,
        (Least,),
    ),
    Claim(
        "semi-hard-negatives",
        "Semi-hard negatives help the margin and the logistic loss.",
        "Section 5.1, Table 4",
        ("table4",),
        "Top-1 with semi-hard negatives minus top-1 without is above 0 for both losses, each tuned "
        "on the validation split.",
        differences.semi_hard,
        (Least,),
    ),
    Claim(
        "l2-norm",
        "The l2 norm with a suited temperature is better than none.",
        "Section 5.1, Table 5",
        ("table5",),
        f"The best temperature with l2 norm minus the best without is above 0. {AS_MANY} Each temperature without norm "
        f"has a group of differences, the temperatures with norm minus it. {BY_LUCK} Up to half of such cases would be "
        "confirmed, and as many refuted.",
        differences.norm_over_none,
        (Least, Greatest),
    ),
    Claim(
        "contrastive-accuracy",
        "Without the l2 norm the contrastive accuracy is higher, but the representation is worse.",
        "Section 5.1, Table 5",
        ("table5",),
        "The best contrastive accuracy without l2 norm minus the best with it, and the best top-1 with it minus the "
        f"best without, are both above 0. {AS_MANY} Each temperature of the side that should be lower has a group of "
        f"differences, the temperatures of the other side minus it. {BY_LUCK} If it mattered to the two accuracies in "
        "unrelated ways, up to a quarter of such cases would be confirmed, and three quarters refuted.",
        differences.accuracy_misleads,
        (Least, Greatest),
    ),
    Claim(
        "larger-batches",
        "Larger batches help at few epochs.",
        "Section 5.2, Figure 9",
        ("figure9",),
        f"At the fewest epochs, the largest batch size minus the smallest, {BATCH_SIZES}, is above "
        f"0. The lengths of training are {LENGTHS}.",
        differences.larger_batch,
    ),
    Claim(
        "batch-gap-shrinks",
        "The lead of large batches over small ones shrinks with more epochs.",
        "Section 5.2, Figure 9",
        ("figure9",),
        "At the fewest epochs, the lead of the largest batch size over the smallest is greater "
        "than its lead at the most epochs, and than the smallest’s lead there. Both sizes have "
        f"both lengths; the sizes are {BATCH_SIZES}, the lengths {LENGTHS}.",
        differences.shrinking_gap,
        (Least,),
    ),
    Claim(
        "longer-training",
        "Longer training helps SimCLR.",
        "Section 5.2, Figure 9",
        ("figure9",),
        f"The most epochs minus the fewest, {LENGTHS}, averaged over the batch sizes that have "
        "both, is above 0.",
        differences.longer,
    ),
    Claim(
        "square-root-scaling",
        "Square-root scaling of the learning rate helps small batches at few epochs.",
        "Appendix B.1, Table B.1",
        ("tableB1",),
        "Square root minus linear scaling is above 0 at the smallest batch size and the fewest "
        f"epochs that both rules have, among sizes {BATCH_SIZES} and lengths {LENGTHS}.",
        differences.square_root,
    ),
    Claim(
        "batches-saturate",
        "With square-root scaling, even larger batches hardly help.",
        "Appendix B.1, Figure B.2",
        ("figureB2",),
        f"The largest batch size minus the next that is at least {STEP} times smaller, averaged "
        f"over the lengths that both have, is below {NO_HELP:g} points. The sizes are "
        f"{BATCH_SIZES}. In the paper, the accuracy seems to saturate at 8,192 images, of up to "
        "32K.",
        differences.larger_still,
        limit=NO_HELP,
        below=True,
    ),
    Claim(
        "even-longer-training",
        "With square-root scaling, even longer training still helps.",
        "Appendix B.1, Figure B.2",
        ("figureB2",),
        f"The most epochs minus the next that are at least {STEP} times fewer, averaged over the "
        "batch sizes that have both, is above 0.",
        differences.longer_still,
    ),
    Claim(
        "supervised-length",
        "Longer supervised training does not help.",
        "Appendix B.3, Table B.3",
        ("tableB3",),
        f"For every encoder, the most epochs minus the fewest, {LENGTHS}, averaged over the augmentations that both "
        f"have, is below {NO_HELP:g} points.",
        differences.longer_supervised,
        (Greatest,),
        limit=NO_HELP,
        below=True,
    ),
    Claim(
        "supervised-length-if-strong",
        "With stronger augmentation, a narrow supervised encoder needs longer training.",
        "Appendix B.3, Table B.3",
        ("tableB3",),
        f"With colour and blur, the most epochs minus the fewest, {LENGTHS}, is above 0 for the narrowest encoder, "
        "which is the paper’s ResNet-50.",
        differences.longer_if_strong,
    ),
    Claim(
        "supervised-strong-if-wide",
        "Stronger augmentation slightly improves supervised training of a wide encoder.",
        "Appendix B.3, Table B.3",
        ("tableB3",),
        "Colour and blur minus crops alone, averaged over the lengths of training that have both, is above 0 for the "
        f"widest encoder, which is the paper’s ResNet-50 (4x). The widths are "
        f"{_apart(differences.SUPERVISED_WIDTHS_APART)}. The paper’s table: 0.2 to 0.4 points.",
        differences.strong_if_wide,
    ),
    Claim(
        "flip",
        "The random horizontal flip helps.",
        "Appendix A, text",
        ("appendixA",),
        "Top-1 with the flip minus top-1 without is above 0. The paper’s text: 64.5 and 63.4.",
        differences.flip,
    ),
    Claim(
        "broader-augmentation",
        "Broader augmentation helps a little.",
        "Appendix B.2, text",
        ("tableB2",),
        "Top-1 of linear evaluation with the added augmentations minus top-1 without, averaged over the encoders, is "
        "above 0. The paper’s text: 0.2 to 0.7 points.",
        differences.broader,
    ),
    Claim(
        "few-labels",
        "With 1% and 10% of the labels, SimCLR beats training from random weights.",
        "Section 6, Table 7; Table B.4",
        ("tableB4",),
        "SimCLR’s top-1 minus that of the same encoder trained on the same labels from random weights is above 0, for "
        "every encoder that has both, with both shares of labels, and at every learning rate of the latter.",
        differences.over_the_baseline,
        (Least,),
    ),
    Claim(
        "wider-fewer-labels",
        "Larger encoders are more label-efficient: they gain more with fewer labels.",
        "Section 6, Table 7; Table B.4",
        ("tableB4",),
        "SimCLR’s gain in top-1 from the narrowest to the widest encoder of a depth with 1% of the labels, minus that "
        f"with 10%, is above 0. The widths are {WIDTHS}.",
        differences.fewer_labels_if_wider,
    ),
    Claim(
        "linear-predicts-lengths",
        "Over lengths of training, linear evaluation and training on few labels agree in rank.",
        "Appendix B.7, Figure B.5",
        ("figureB5",),
        "For every pair of lengths, linear evaluation says at each seed which is better. The lead of that one after "
        "training on few labels, averaged over all pairs, is above 0 with each share of labels.",
        differences.alike_in_order,
        (Least,),
    ),
    Claim(
        "linear-predicts-encoders",
        "Over encoders, linear evaluation and training on few labels agree in rank.",
        "Appendix B.7, Figure B.6",
        ("figureB6",),
        "For every pair of encoders, linear evaluation says at each seed which is better. The lead of that one after "
        "training on few labels, averaged over all pairs, is above 0 with each share of labels.",
        differences.alike_in_order,
        (Least,),
    ),
    Claim(
        "transfer",
        "Fine-tuned, SimCLR’s wide encoder equals or beats the supervised one on ten of twelve data sets.",
        "Section 6, Table 8; Appendix B.8",
        ("table8",),
        f"On five in six data sets, supervised training minus SimCLR is below {HARDLY:g} points after fine-tuning; the "
        "paper calls up to 1.0 points a tie. The table counts data sets by the paper’s own test.",
        differences.supervised_over_simclr,
        (FiveInSix,),
        limit=HARDLY,
        below=True,
    ),
    Claim(
        "low-rank-head",
        "A linear projection head is of low rank.",
        "Appendix B.3, Figure B.3",
        ("figureB3",),
        f"The head’s effective rank is below {LOW_RANK:g}% of its outputs, half of what a matrix of independent normal "
        "draws has. The figure says what the effective rank is.",
        differences.effective_rank,
        limit=LOW_RANK,
        below=True,
    ),
    Claim(
        "temperature-of-long-training",
        "After long training, the best temperature is 0.5 at every batch size.",
        "Appendix B.9, Figure B.8",
        ("figureB8",),
        f"At {figureb8.LONG}, temperature {differences.BEST_TEMPERATURE:g} minus each other one, of which some are "
        "lower and some higher, is above 0 at every batch size, averaged over learning rates and lengths of training. "
        f"The sizes are {BATCH_SIZES}.",
        differences.best_temperature,
        (Least,),
    ),
    Claim(
        "batches-at-low-temperature",
        "A low temperature gains from larger batches.",
        "Appendix B.9, Figure B.8",
        ("figureB8",),
        f"With temperature {differences.LOW_TEMPERATURE:g}, the largest batch size minus the smallest, {BATCH_SIZES}, "
        f"averaged over learning rates and lengths of training, is above 0 for {figureb8.SHORT} and for "
        f"{figureb8.LONG}, as far as they were run.",
        differences.low_temperature_gains,
        (Least,),
    ),
]
