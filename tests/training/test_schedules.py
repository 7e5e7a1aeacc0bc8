import math
from itertools import pairwise

import pytest

from simclr_ablate.training.schedules import lr_at, peak_lr


def test_rules_agree_with_the_paper_at_4096() -> None:
    assert peak_lr(0.3, "linear", 4096) == pytest.approx(4.8)
    assert peak_lr(0.075, "sqrt", 4096) == pytest.approx(4.8)
    assert peak_lr(3e-3, "constant", 4096) == 3e-3


def test_rules_scale_with_the_batch() -> None:
    assert peak_lr(0.3, "linear", 512) == pytest.approx(2 * peak_lr(0.3, "linear", 256))
    assert peak_lr(0.3, "sqrt", 1024) == pytest.approx(2 * peak_lr(0.3, "sqrt", 256))


def test_warm_up_is_a_line_from_0_to_the_peak() -> None:
    rates = [lr_at(step, 100, 10, 2.0) for step in range(11)]
    assert rates == pytest.approx([0.2 * step for step in range(11)])


@pytest.mark.parametrize("warmup", [0, 10])
def test_cosine_in_closed_form(warmup: int) -> None:
    decay = 100 - warmup
    rates = [lr_at(step, 100, warmup, 2.0) for step in range(warmup, 100)]
    assert rates == pytest.approx(
        [2 * math.cos(math.pi * k / decay / 2) ** 2 for k in range(decay)]
    )
    assert rates[0] == 2
    assert rates[decay // 2] == pytest.approx(1)
    assert all(earlier > later for earlier, later in pairwise(rates))
    # One more step would have a rate of 0.
    assert 0 < rates[-1] < 2e-3


def test_warm_up_may_take_the_whole_run() -> None:
    assert [lr_at(step, 4, 4, 1.0) for step in range(4)] == [0, 0.25, 0.5, 0.75]


def test_refuses_steps_outside_the_schedule_and_unknown_rules() -> None:
    with pytest.raises(ValueError, match=r"step must be >= 0 and < total_steps \(10\), got 10"):
        lr_at(10, 10, 2, 1.0)
    with pytest.raises(ValueError, match=r"warmup_steps must be >= 0 and <= 10, got 11"):
        lr_at(0, 10, 11, 1.0)
    with pytest.raises(ValueError, match=r"optimizer\.lr_rule must be one of .*, got 'cubic'"):
        peak_lr(1.0, "cubic", 256)
