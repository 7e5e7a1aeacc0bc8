"""The loops of one task, trained one after the other, each resumed where an earlier attempt left it."""

import logging
from collections.abc import Callable

import torch

from simclr_ablate.lease import Lease
from simclr_ablate.ranks import SOLO, Ranks
from simclr_ablate.stopping import Stop
from simclr_ablate.store import TaskFolder
from simclr_ablate.training.checkpoint import load_checkpoint, save_checkpoint
from simclr_ablate.training.loop import Loop, NonFiniteLossError
from simclr_ablate.training.step_metrics import StepMetrics
from simclr_ablate.training.watch import Watch, write_history

log = logging.getLogger(__name__)

Outcome = dict[str, float]


class Trainer:
    """Trains a task's loops. The task's checkpoint holds all that a later attempt needs.

    phase: what is being done, for people who watch. every: how many steps there are between two whose metrics are kept;
    None: none are. With several ranks, the first has the lease and writes.
    """

    def __init__(
        self,
        folder: TaskFolder,
        lease: Lease | None,
        stop: Stop,
        checkpoint_seconds: float,
        ranks: Ranks = SOLO,
        phase: str = "training",
        every: int | None = None,
    ) -> None:
        self.folder, self.lease, self.stop, self.ranks = folder, lease, stop, ranks
        self.checkpoint_seconds, self.phase, self.every = checkpoint_seconds, phase, every
        self._begun = 0
        self._state = load_checkpoint(folder.path) or {}
        self._outcomes: list[Outcome] = self._state.get("outcomes", [])
        self._noted = len(self._outcomes)

    def train(
        self,
        make_loop: Callable[[], Loop],
        finish: Callable[[Loop], Outcome],
        diverged: Outcome | None = None,
    ) -> Outcome:
        """Trains the loop `make_loop()` and returns `finish(loop)`; a loop that is done already is not trained again.

        A task must train the same loops in the same order in every attempt. With several ranks, all must call this, and
        all get the first one's result.

        diverged: the result of a loop whose loss is not finite; None: raises NonFiniteLossError.

        Raises Interrupted once `stop` is true on any rank.
        """
        number, self._begun = self._begun, self._begun + 1
        if number < len(self._outcomes):
            return self._outcomes[number]
        if self.lease is not None and len(self._outcomes) > self._noted:
            self._note_outcomes(self.lease)
        loop = make_loop()
        self._resume(loop)
        if self.ranks.is_first:
            log.info("%s from step %d of %d", self.phase, loop.step, loop.total_steps)
        watch = Watch(
            self.folder,
            self.lease,
            self.stop,
            self.checkpoint_seconds,
            self.ranks,
            self.phase,
            self._outcomes,
            self._record(loop),
        )
        with self.stop.deferred():
            try:
                loop.run(watch)
            except NonFiniteLossError as error:
                if loop.recorder is not None:
                    loop.recorder.write()
                if diverged is None:
                    raise
                log.info("%s", error)
                outcome = diverged
            else:
                if loop.recorder is not None:
                    loop.recorder.write(durably=True)
                if self.lease is not None:
                    write_history(self.folder, loop)
                outcome = self.ranks.from_first(finish(loop))
        self._outcomes.append(outcome)
        return outcome

    def _resume(self, loop: Loop) -> None:
        """Resumes `loop` from the last checkpoint, whatever the number of ranks that wrote it."""
        state, self._state = self._state, {}
        if state.get("loop") is not None:
            # With another number of threads, sums have another order.
            if state.get("ranks", 1) == self.ranks.count:
                torch.set_num_threads(state["threads"])
            loop.load_state_dict(state["loop"])
        here = torch.tensor(loop.step, device=loop.training.device)
        steps = [int(step) for step in self.ranks.gather(here)]
        if len(set(steps)) > 1:
            raise RuntimeError(
                f"ranks read checkpoints of different steps in {self.folder.path}: {steps}; "
                "does each see the same files?"
            )

    def _record(self, loop: Loop) -> StepMetrics | None:
        """Makes the loop keep the metrics of its steps, if they are kept and this process writes."""
        if self.lease is not None and self.every is not None:
            self.lease.check()
            loop.recorder = StepMetrics(self.folder.metrics, self.every, loop)
        return loop.recorder

    def _note_outcomes(self, lease: Lease) -> None:
        """Saves the outcomes, so that no finished loop is trained again."""
        lease.check()
        threads, ranks = torch.get_num_threads(), self.ranks.count
        state = {"loop": None, "threads": threads, "ranks": ranks, "outcomes": self._outcomes}
        save_checkpoint(self.folder.path, state)
        self._noted = len(self._outcomes)
