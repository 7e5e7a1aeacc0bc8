"""The launcher for SLURM, through submitit, and the jobs that it submits."""
