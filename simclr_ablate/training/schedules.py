"""The learning rate: its peak, warm-up and cosine decay (Section 2.2, App. B.1)."""

import math

RULES = ("linear", "sqrt", "constant")


def peak_lr(lr: float, rule: str, batch_size: int) -> float:
    """The learning rate at the end of warm-up.

    rule: `linear`: lr * batch_size / 256 (the paper's lr is 0.3); `sqrt`: lr * sqrt(batch_size)
        (App. B.1, lr 0.075; equal to `linear` at 4096); `constant`: lr.

    Raises ValueError for another rule.
    """
    if rule == "linear":
        return lr * batch_size / 256
    if rule == "sqrt":
        return lr * math.sqrt(batch_size)
    if rule == "constant":
        return lr
    raise ValueError(f"optimizer.lr_rule must be one of {', '.join(RULES)}, got {rule!r}")


def lr_at(step: int, total_steps: int, warmup_steps: int, peak: float) -> float:
    """The learning rate of a step, counted from 0; the last is total_steps - 1.

    `peak * step / warmup_steps` before warmup_steps, then half a cosine without restarts, from
    `peak` at step warmup_steps to 0 at step total_steps, one after the last. As in the released
    code, the first step of a warm-up has a rate of 0, and no other step has.

    Raises ValueError for a step outside the schedule.
    """
    if not 0 <= step < total_steps:
        raise ValueError(f"step must be >= 0 and < total_steps ({total_steps}), got {step}")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warmup_steps must be >= 0 and <= {total_steps}, got {warmup_steps}")
    if step < warmup_steps:
        return peak * step / warmup_steps
    share = (step - warmup_steps) / (total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * share))
