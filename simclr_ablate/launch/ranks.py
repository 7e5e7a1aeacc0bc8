"""A run shared by several processes, one per GPU: what each of them does, and who leads them on one machine."""

import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from simclr_ablate.launch import worker
from simclr_ablate.stopping import StopSignal, end_with_parent

POLL_SECONDS = 0.05
GRACE_SECONDS = 5.0
"""How long the other ranks have, once one has failed, to notice by themselves and to log it."""

_ENDINGS = (
    worker.Status.COMPLETE,
    worker.Status.INTERRUPTED,
    worker.Status.HELD,
    worker.Status.TAKEN,
)
"""Exit statuses of a rank that agreed with the others on how to end."""


def carry_out_rank(
    job: worker.Job,
    stop: StopSignal,
    index: int,
    count: int,
    init_method: str,
    tries_again: Callable[[], bool] = lambda: False,
) -> worker.Ending:
    """Carries out rank `index` of the `count` ranks that share the job's run. Never raises.

    job: with this rank's own threads and device. init_method: where the ranks meet (`ranks.join`). tries_again: asked
    on the first rank while another process holds the task, whether all try once more.
    """
    try:
        import torch

        from simclr_ablate.ranks import join

        with join(index, count, init_method, torch.device(job.device)) as ranks:
            while True:
                ending = worker.carry_out_job(job, stop, ranks)
                # Each rank has clocks and signals of its own, so one decides for all: none waits for one that has left.
                if ending.status != worker.Status.HELD or not ranks.from_first(
                    ranks.is_first and tries_again()
                ):
                    return ending
    except Exception as error:  # the ranks did not meet
        return worker.record_failure(job, error, stop, index, count)


def device_of_rank(asked: str, local_rank: int) -> str:
    """The device of the `local_rank`-th rank on this machine: a GPU of its own, if there are GPUs."""
    import torch

    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    kind = "cpu" if accelerator is None else accelerator.type
    if kind == "cpu" or asked not in ("auto", kind):
        return "cpu" if asked == "auto" else asked
    return f"{kind}:{local_rank % torch.accelerator.device_count()}"


def lead(job: worker.Job, stop: Callable[[], bool]) -> worker.Ending:
    """Carries out `job` with a process for each of its devices, and waits for them.

    Call it in a process that has started no threads yet. If a rank dies, the others are ended too, and the run fails
    with the rank's number and how it ended. `stop` is passed on: the ranks checkpoint and end.
    """
    with tempfile.TemporaryDirectory(prefix="simclr_ablate_") as folder:
        processes, receivers = _start(job, f"file://{folder}/meet")
        try:
            culprit = _follow(processes, stop)
        finally:
            for process in processes:
                process.kill()
                process.join()
    if culprit is None or processes[0].exitcode == worker.Status.TAKEN:
        return worker.Ending(processes[0].exitcode or worker.Status.COMPLETE, sent(receivers[0]))
    status = processes[culprit].exitcode
    reason = sent(receivers[culprit])
    if status not in (worker.Status.FAILED, worker.Status.LOST):  # these have recorded their reason
        reason = f"rank {culprit} of {len(processes)} {_ending(status)}"
        return worker.keep_failure(job, reason)
    return worker.Ending(worker.Status.FAILED, reason)


def sent(receiver: Connection) -> str | None:
    """The reason that an ended process sent to its launcher, if any (`worker.leave`)."""
    with receiver, suppress(EOFError, OSError):
        return receiver.recv() if receiver.poll() else None
    return None


def _start(job: worker.Job, init_method: str) -> tuple[list[BaseProcess], list[Connection]]:
    """A process for each rank, and the receiving ends of the pipes for their reasons."""
    context = multiprocessing.get_context("fork")
    count = len(job.devices)
    threads = max(1, job.threads // count)
    processes: list[BaseProcess] = []
    receivers = []
    for index, device in enumerate(job.devices):
        own = dataclasses.replace(job, threads=threads, device=device, devices=())
        receiver, sender = context.Pipe(duplex=False)
        receivers.append(receiver)
        what = (own, index, count, init_method, sender)
        processes.append(context.Process(target=_be_rank, args=what))
    for process in processes:
        process.start()
    return processes, receivers


def _be_rank(job: worker.Job, index: int, count: int, init_method: str, sender: Connection) -> None:
    end_with_parent()
    with StopSignal() as stop:  # the leader's own belongs to the leader's process
        ending = carry_out_rank(job, stop, index, count, init_method)
    worker.leave(ending, sender)


def _follow(processes: Sequence[BaseProcess], stop: Callable[[], bool]) -> int | None:
    """Waits for all ranks; returns the first that failed, if possible one that did not just lose another."""
    asked = False
    deadline: float | None = None
    failed: list[int] = []
    while any(process.exitcode is None for process in processes):
        if stop() and not asked:
            asked = True
            for process in processes:
                process.terminate()
        _note_failed(processes, failed)
        if failed and deadline is None:
            deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    _note_failed(processes, failed)
    own = [index for index in failed if processes[index].exitcode != worker.Status.LOST]
    return next(iter(own or failed), None)


def _note_failed(processes: Sequence[BaseProcess], failed: list[int]) -> None:
    for index, process in enumerate(processes):
        if process.exitcode not in (None, *_ENDINGS) and index not in failed:
            failed.append(index)


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return worker.killed(-status)
    return f"ended with status {status} and gave no reason"
