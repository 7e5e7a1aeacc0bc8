"""The numbers of seeds at which findings are looked at, while seeds are added to decide them."""

LOOKS = (3, 5, 8, 13, 21)
"""About 1.6 times as many each time, so that no look comes much too late. Fixed: with other numbers, the error that
each look may have would not be known beforehand."""


def next_look(seeds: int) -> int | None:
    """The number of seeds at the look after `seeds`; None if that was the last."""
    return next((look for look in LOOKS if look > seeds), None)
