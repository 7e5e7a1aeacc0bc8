"""Planning a sweep, carrying its runs out, showing how they go."""
