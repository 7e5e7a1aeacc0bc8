"""How often a finding that is not true is confirmed, or refuted, by somebody who looks at it after every few seeds.

A researcher adds seeds until a finding is decided, at most 21. Its true effect is exactly at its limit, so that both
verdicts are wrong. Beside the looks of `analysis.claims.looks`, the table has the same researcher without a correction.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analysis.claims.claim import TAIL
from analysis.claims.effects import Effect, Greatest, Least, Measured
from analysis.claims.looks import Looked, first_seeds
from benchmarks.measure import print_table
from simclr_ablate.looks import LOOKS

REPETITIONS = 2_000

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]

SCATTERS: dict[str, Draw] = {
    "normal": lambda draw, shape: draw.normal(size=shape),
    "heavy tails (Student's t, 2 degrees of freedom)": lambda draw, shape: draw.standard_t(
        2, shape
    ),
    "skewed (exponential)": lambda draw, shape: draw.exponential(size=shape) - 1,
}

EFFECTS: dict[str, Callable[[list[Measured]], Effect]] = {
    "one difference": lambda numbers: numbers[0],
    "the least of four": Least,
    "the best of two against the best of two": lambda cells: Least(
        [Greatest([one - other for one in cells[:2]]) for other in cells[2:]]
    ),
}


def main() -> None:
    rows = []
    for effect in EFFECTS:
        for scatter in SCATTERS:
            for how, looked in (("five looks", True), ("uncorrected", False)):
                confirmed, refuted = false_verdicts(effect, scatter, looked)
                rows.append([effect, scatter, how, f"{confirmed:.1%}", f"{refuted:.1%}"])
    print_table(["effect", "scatter", "how", "confirmed", "refuted"], rows)


def false_verdicts(
    effect: str, scatter: str, looked: bool, repetitions: int = REPETITIONS, seed: int = 0
) -> tuple[float, float]:
    """The shares of repetitions in which the finding ends as confirmed, and as refuted.

    effect, scatter: names in EFFECTS and SCATTERS. looked: whether the looks are paid for.
    """
    draw = np.random.default_rng(seed)
    verdicts = np.zeros(2)
    for _ in range(repetitions):
        values = SCATTERS[scatter](draw, (4, LOOKS[-1]))
        numbers = [Measured("", dict(enumerate(row))) for row in values.tolist()]
        verdicts += _stopped(EFFECTS[effect](numbers), looked)
    confirmed, refuted = verdicts / repetitions
    return float(confirmed), float(refuted)


def _stopped(whole: Effect, looked: bool) -> tuple[bool, bool]:
    """Whether the first look that decides confirms, and whether it refutes."""
    for look in LOOKS:
        now = first_seeds(whole, look)
        if looked:
            now = Looked(now)
        low, high = now.low(TAIL), now.high(TAIL)
        if low > 0 or high < 0:
            return low > 0, high < 0
    return False, False


if __name__ == "__main__":
    main()
