"""The environment in which SLURM's programs are called: the user's own, even inside an allocation."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_CLIENT = {
    *("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT"),
    *("SLURM_TIME_FORMAT", "SLURM_EXIT_ERROR", "SLURM_DEBUG_FLAGS"),
}
"""Variables that tell SLURM's programs where and how to ask; they do not belong to an allocation."""
_OF_A_JOB = ("SLURM_", "SLURMD_", "SRUN_", "SUBMITIT_", "SBATCH_CPU_BIND", "SBATCH_MEM_BIND")
_OF_A_RANK = {
    *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
}
_QUESTIONS = ("SQUEUE_", "SACCT_", "SCANCEL_")
"""Prefixes of a user's own filters, which would hide jobs."""


@contextmanager
def outside_of_an_allocation(sbatch: Mapping[str, str] | None = None) -> Iterator[None]:
    """Hides the variables that a surrounding job has set, which sbatch would take for options.

    sbatch: the user's SBATCH_ variables (SBATCH_ACCOUNT, ...), which replace those of this environment; None keeps
    these.
    """
    before = dict(os.environ)
    _set(_without(before, sbatch))
    try:
        yield
    finally:
        _set(before)


def sbatch_variables() -> dict[str, str]:
    """The user's own SBATCH_ variables, to pass on to a later submission."""
    return {name: value for name, value in _without(os.environ, None).items() if _is_sbatch(name)}


def for_questions() -> dict[str, str]:
    """The environment for queries, without the user's filters: everybody gets the same answers."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_QUESTIONS)}


def _set(environment: Mapping[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def _without(environment: Mapping[str, str], sbatch: Mapping[str, str] | None) -> dict[str, str]:
    kept = {
        name: value
        for name, value in environment.items()
        if name in _CLIENT or not (name.startswith(_OF_A_JOB) or name in _OF_A_RANK)
    }
    if sbatch is None:
        return kept
    return {**{name: value for name, value in kept.items() if not _is_sbatch(name)}, **sbatch}


def _is_sbatch(name: str) -> bool:
    return name.startswith("SBATCH_")
