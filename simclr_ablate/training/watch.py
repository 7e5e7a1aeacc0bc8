"""What happens between the steps of a loop: progress, checkpoints, the history, and stopping on request."""

import csv
import io
import time
from collections.abc import Sequence

import torch

from simclr_ablate.files import write_text
from simclr_ablate.lease import Lease
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.stopping import Interrupted, Stop
from simclr_ablate.store import TaskFolder
from simclr_ablate.training.checkpoint import save_checkpoint
from simclr_ablate.training.loop import LOOK_SECONDS, Loop
from simclr_ablate.training.step_metrics import StepMetrics


class Watch:
    """Looks after a loop between its steps: progress, checkpoints, requests to stop.

    With several ranks, only the one that holds the lease writes, and all stop after the same step.
    """

    def __init__(
        self,
        folder: TaskFolder,
        lease: Lease | None,
        stop: Stop,
        checkpoint_seconds: float,
        ranks: Ranks = SOLO,
        phase: str = "pretraining",
        outcomes: Sequence[dict[str, float]] = (),
        recorder: StepMetrics | None = None,
    ) -> None:
        """phase: what is being done, for people who watch. outcomes: those of the task's earlier loops.

        recorder: writes the metrics of steps, before a checkpoint that is past them.
        """
        self.recorder = recorder
        self.phase, self.outcomes = phase, outcomes
        self.folder, self.lease, self.stop, self.ranks = folder, lease, stop, ranks
        self.checkpoint_seconds = checkpoint_seconds
        self.looked = self.saved = self.start = time.monotonic()
        self.first_step: int | None = None

    def __call__(self, loop: Loop) -> None:
        now = time.monotonic()
        if self.first_step is None:
            self.first_step, self.start = loop.step, now
        asked, saving = self.stop(), self.is_saving_due(now)
        if not self.ranks.any(asked or saving or self.is_look_due(now)):
            return
        loop.look()  # on all ranks, so that all leave a diverged loop after the same step
        stopping = self.ranks.any(asked)
        if self.lease is not None:
            self.tend(loop, self.lease, now, stopping or saving)
        if stopping:
            self.ranks.wait()  # for the checkpoint
            raise Interrupted(together=True)

    def is_saving_due(self, now: float) -> bool:
        if self.lease is None:
            return False
        return self.stop.take_save_request() or now - self.saved >= self.checkpoint_seconds

    def is_look_due(self, now: float) -> bool:
        return self.lease is not None and now - self.looked >= LOOK_SECONDS

    def tend(self, loop: Loop, lease: Lease, now: float, saving: bool) -> None:
        lease.check()
        if self.recorder is not None:
            self.recorder.write(durably=saving)
        if saving:
            self.save(loop, lease)
            self.saved = now
            lease.check()
        self.folder.write_progress(self.progress(loop, now))
        self.looked = now

    def save(self, loop: Loop, lease: Lease) -> None:
        lease.check()
        state = {
            "loop": loop.state_dict(),
            "threads": torch.get_num_threads(),
            "ranks": self.ranks.count,
            "outcomes": list(self.outcomes),
        }
        save_checkpoint(self.folder.path, state)
        write_history(self.folder, loop)

    def progress(self, loop: Loop, now: float) -> dict[str, object]:
        assert self.first_step is not None
        steps_per_second = (loop.step - self.first_step) / max(now - self.start, 1e-9)
        epochs, batch_size = loop.epochs, loop.training.optimizer.batch_size
        left = (loop.total_steps - loop.step) / steps_per_second if steps_per_second else None
        return {
            "phase": self.phase,
            "epoch": min(loop.step // loop.steps_per_epoch + 1, epochs),
            "epochs": epochs,
            "step": loop.step,
            "steps": loop.total_steps,
            "fraction": loop.step / loop.total_steps,
            "loss": loop.last_loss,
            "lr": loop.lr,
            f"{loop.SEEN}_per_second": steps_per_second * batch_size,
            "seconds_left": left,
        }


def write_history(folder: TaskFolder, loop: Loop) -> None:
    """Writes one row per finished epoch: loss (nats), accuracy on the training views, and entropy (nats) if any."""
    text = io.StringIO()
    table = csv.DictWriter(text, ["epoch", *loop.METRICS], lineterminator="\n")
    table.writeheader()
    table.writerows(loop.history)
    write_text(folder.history_path, text.getvalue())
