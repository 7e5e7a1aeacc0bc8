"""The folder of a choice that waits on a cluster for its candidates."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simclr_ablate.files import remove, report_damage, storing, write_json
from simclr_ablate.store import leftovers
from simclr_ablate.store.records import ChoiceRecord, is_name, read_record
from simclr_ablate.store.task import TaskFolder


class ChoiceFolder(TaskFolder):
    """The folder of one choice, `.choices/NAME`. `choice.json` lists the chosen runs, once submitted or done."""

    @property
    def name(self) -> str:
        return f"choice {self.path.name}"

    def is_done(self) -> bool:
        return read_record(self._file("choice.json"), ChoiceRecord) is not None

    def create(self, config: Mapping[str, Any]) -> None:
        with storing(self.path, "store"):
            self.path.mkdir(parents=True, exist_ok=True)

    def leftovers(self) -> Iterator[Path]:
        return leftovers.of_run(self.path)

    def used_checkpoints(self) -> Iterator[Path]:
        return iter(())

    def write_submission(self, submission: Mapping[str, Any]) -> None:
        # The job that is submitted will choose again.
        remove(self._file("choice.json"))
        super().write_submission(submission)

    def write_choice(self, run_ids: list[str]) -> None:
        """Writes the runs that were chosen, once they are submitted or done. Raises StorageError."""
        self.create({})
        write_json(self._file("choice.json"), {"run_ids": run_ids})

    def exists(self) -> bool:
        """Whether a job was ever submitted to make the choice."""
        return self.last_submission() is not None

    @property
    def sweep(self) -> str:
        """The sweep that chooses."""
        return str((self.last_submission() or {}).get("sweep", self.path.name))

    @property
    def sweeps(self) -> dict[str, str]:
        """Launched sweeps that the chosen runs will be part of, each with its record in the store."""
        records = (self.last_submission() or {}).get("sweeps", {})
        for record in records.values():
            if not is_name(record):
                report_damage(
                    self._file("submission.json"), f"{record!r} is not the record of a sweep"
                )
        return {sweep: record for sweep, record in records.items() if is_name(record)}

    def add_sweeps(self, sweeps: Mapping[str, str]) -> None:
        """Makes the submitted job choose for these launches too."""
        last = self.last_submission()
        if last is not None:
            super().write_submission({**last, "sweeps": {**last.get("sweeps", {}), **sweeps}})
