"""Plan a sweep, carry out its runs and show their progress."""
