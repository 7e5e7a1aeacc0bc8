"""One run shared by processes that torchrun started: `torchrun --nproc-per-node 8 -m simclr_ablate key=value ...`."""

import os
import signal
from dataclasses import dataclass
from typing import Self

from simclr_ablate.config import ConfigError
from simclr_ablate.cores import available_cores
from simclr_ablate.freed_memory import keep_freed_memory
from simclr_ablate.launch import worker
from simclr_ablate.launch.ranks import carry_out_rank, device_of_rank
from simclr_ablate.plan.plan import Plan
from simclr_ablate.schema import check_ranks
from simclr_ablate.stopping import STOP_SIGNALS, StopSignal


@dataclass(frozen=True)
class TorchrunRank:
    """This process's rank among torchrun's processes, in all and on this machine."""

    rank: int
    count: int
    local_rank: int
    local_count: int

    @classmethod
    def from_environment(cls) -> Self | None:
        """The rank of this process, or None if torchrun did not start it."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return None
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ[name]) for name in names))


def carry_out_here(plan: Plan, cache: str, torchrun: TorchrunRank) -> int:
    """Carries out this process's part of the plan's one run; returns a `worker.Status`. Raises ConfigError."""
    if len(plan.runs) > 1:
        raise ConfigError(
            f"torchrun carries out one run, got {len(plan.runs)}: give the command without torchrun, "
            "with compute.ranks"
        )
    (planned,) = plan.runs
    compute = planned.experiment.compute
    if compute.ranks not in (None, torchrun.count):
        raise ConfigError(
            f"compute.ranks must be null or torchrun's number of processes ({torchrun.count}), "
            f"got {compute.ranks}"
        )
    check_ranks(planned.experiment, torchrun.count)
    if planned.state() == "complete":
        return worker.Status.COMPLETE
    threads = max(1, available_cores() // torchrun.local_count)
    device = device_of_rank(compute.device, torchrun.local_rank)
    job = worker.Job.of(plan, planned, cache, threads, device=device)
    keep_freed_memory()
    # torchrun passes Ctrl-C on to its processes.
    stops = StopSignal(stop_on=(signal.SIGINT, *STOP_SIGNALS))
    with stops as stop, worker.tracked(job, stop, torchrun.rank == 0):
        return carry_out_rank(job, stop, torchrun.rank, torchrun.count, "env://").status
