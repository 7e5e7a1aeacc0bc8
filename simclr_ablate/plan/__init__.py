"""What there is to do: sweeps as grids of experiments, and a plan of their tasks."""
