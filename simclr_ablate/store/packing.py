"""Making a pack of a store: which runs, evaluations and files travel. `pack.py` says what a pack is."""

import os
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.files import StorageError, names_in, records_in, report_damage, write_atomically
from simclr_ablate.store import derived
from simclr_ablate.store.contents import (
    choice_in,
    evaluation_in,
    experiment_in,
    launch_in,
    pretraining_in,
)
from simclr_ablate.store.evaluation import digest_of
from simclr_ablate.store.pack import (
    BESIDE,
    COMPRESSION,
    LEAST_MEMBER,
    MOST_BYTES,
    MOST_RATIO,
    Pack,
    PackError,
    write,
)
from simclr_ablate.store.records import ExperimentRecord
from simclr_ablate.store.run import Run
from simclr_ablate.store.store import Store, SweepRecord

EXAMPLES = ("false", "transfer", "true")
"""Which results on single test images travel: none, those of evaluations on other data sets, or all."""


@dataclass
class Packed:
    """What is in a pack, and what of the store is not.

    runs, evaluations, launches, examples: how many there are. derived: how many results computed from weights, by name.
    spared: bytes of results on single test images that were not asked for, of evaluations on other data sets
    (`transfer`) and of all (`true`). left_out: in words, what is incomplete or
    damaged. size: the pack's bytes.
    """

    runs: int = 0
    evaluations: int = 0
    launches: int = 0
    examples: int = 0
    derived: Counter[str] = field(default_factory=Counter)
    spared: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)
    size: int = 0


def pack(
    store: Store,
    to: Path,
    sweeps: Sequence[str] = (),
    run_id: str | None = None,
    examples: str = "false",
) -> Packed:
    """Packs the runs with a complete evaluation into the new file `to`.

    sweeps: only the runs of these sweeps' launches, and those launches; (): all runs, and all launches of them.
    Launches that looked at a packed run to decide on its seeds are packed in any case. run_id: only that run. examples:
    which results on single test images are packed, one of EXAMPLES.

    Raises ConfigError if there is nothing to pack, or `to` exists, and StorageError.
    """
    store.check()
    if os.path.lexists(to):
        raise ConfigError(f"to must be a new file, but {to} exists")
    launches = _launches(store, sweeps)
    packing = _Packing(store, examples)
    for run in _chosen(store, launches.values() if sweeps else None, run_id):
        packing.add(run)
    if not packing.packed.runs:
        raise ConfigError("; ".join(["there is no complete run to pack", *packing.told()]))
    looked = {path: launch for path, launch in store.launches().items() if launch.until}
    packing.add_launches(launches | looked)
    packing.add_choices()
    write_atomically(to, packing.write, replaces=False)
    packing.packed.left_out = packing.told()
    packing.packed.size = to.stat().st_size
    return packing.packed


def _launches(store: Store, sweeps: Sequence[str]) -> dict[Path, SweepRecord]:
    """The launches of these sweeps, or all for (), by file. Raises ConfigError for a sweep that was never launched."""
    launches = store.launches()
    known = dict.fromkeys(launch.name for launch in launches.values())
    for name in sweeps:
        if name not in known:
            raise ConfigError(
                f"no sweep {name} was launched in the store {store.root}{nearest(name, known)} "
                f"(launched: {', '.join(known) or 'none'})"
            )
    return {path: each for path, each in launches.items() if not sweeps or each.name in sweeps}


def _chosen(
    store: Store, launches: Collection[SweepRecord] | None, run_id: str | None
) -> Iterator[Run]:
    """The runs of the launches (None: all), or the one of them that is called `run_id`. Raises ConfigError."""
    members = None
    if launches is not None:
        members = {store.run(each).run_id for launch in launches for each in launch.run_ids}
    runs = [run for run in store.runs() if members is None or run.run_id in members]
    if run_id is not None and run_id not in [run.run_id for run in runs]:
        raise ConfigError(f"no run {run_id}{nearest(run_id, [run.run_id for run in runs])}")
    yield from (run for run in runs if run_id in (None, run.run_id))


T = TypeVar("T")


class _Packing:
    """The members of a pack that is being made, each with its file, or its content if it is computed."""

    def __init__(self, store: Store, examples: str) -> None:
        self._store, self._examples = store, examples
        self._members: dict[str, bytes | Path] = {}
        self._derived = derived.Found()
        self._run_ids: set[str] = set()
        self._incomplete: Counter[str] = Counter()
        self._unfinished = 0
        self._left_out: list[str] = []
        self.packed = Packed()

    def add(self, run: Run) -> None:
        """Adds what is complete of a run, if anything is."""
        path = run.path / "experiment.json"
        experiment = _whole(path, partial(experiment_in, run_id=run.run_id))
        if experiment is None:
            self._incomplete["damaged or of another version"] += 1
            return
        evaluations = dict(self._evaluations(run, experiment))
        if not evaluations:
            self._incomplete[run.state()] += 1
            return
        self._run_ids.add(run.run_id)
        self._members[f"{run.run_id}/experiment.json"] = path
        self.packed.runs += 1
        self._add_pretraining(run)
        for key, result in evaluations.items():
            self._add_evaluation(run, key, result)
        begun = [task for task in run.tasks() if task.path.name not in (run.run_id, *evaluations)]
        self._unfinished += len(begun)

    def _evaluations(
        self, run: Run, experiment: ExperimentRecord
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The complete evaluations by key."""
        for path in records_in(run.path / "evaluations"):
            check = partial(evaluation_in, run_id=run.run_id, key=path.stem, experiment=experiment)
            if (result := _whole(path, check)) is not None:
                yield path.stem, result

    def _add_pretraining(self, run: Run) -> None:
        path = run.path / "pretraining.json"
        if _whole(path, partial(pretraining_in, run_id=run.run_id)) is not None:
            self._members[f"{run.run_id}/{path.name}"] = path
        for name, arrays in self._derived.of(run).items():
            self._members[f"{run.run_id}/derived/{name}.npz"] = arrays
            self.packed.derived[name] += 1
        self._add_beside(run.run_id, run.path)

    def _add_evaluation(self, run: Run, key: str, result: dict[str, Any]) -> None:
        folder, member = run.evaluating(key), f"{run.run_id}/evaluations/{key}"
        self._members[f"{member}.json"] = folder.result_path
        self.packed.evaluations += 1
        self._add_beside(member, folder.path)
        path = folder.examples_path
        if "examples" not in result or not path.exists():
            return
        kinds = ("transfer", "true") if is_on_other_data(result) else ("true",)
        if self._examples not in kinds:
            self.packed.spared.update(dict.fromkeys(kinds, path.stat().st_size))
        elif digest_of(path) != result["examples"]:
            report_damage(path, "it does not match the digest in the result")
        else:
            self._members[f"{member}/examples.npz"] = path
            self.packed.examples += 1

    def _add_beside(self, member: str, folder: Path) -> None:
        for name in BESIDE:
            path = folder / name
            if not path.is_file():
                continue
            if path.stat().st_size > MOST_BYTES[path.suffix]:
                self._left_out.append(f"{member}/{name}, which is too large")
            elif _repeats_itself(path):
                self._left_out.append(f"{member}/{name}, which repeats itself too often")
            else:
                self._members[f"{member}/{name}"] = path

    def add_launches(self, launches: Mapping[Path, SweepRecord]) -> None:
        """Adds the records of those launches that any packed run belongs to. launches: by the files of the records."""
        for path, launch in launches.items():
            members = {self._store.run(each).run_id for each in launch.run_ids}
            if members & self._run_ids and _whole(path, launch_in) is not None:
                self._members[f".sweeps/{path.name}"] = path
                self.packed.launches += 1

    def add_choices(self) -> None:
        """Adds the choices that chose a packed run."""
        folder = self._store.root / ".choices"
        for name in names_in(folder):
            path = folder / name / "choice.json"
            chosen = _whole(path, choice_in)
            if chosen is not None and self._run_ids.intersection(chosen):
                self._members[f".choices/{name}/choice.json"] = path

    def write(self, file: BinaryIO) -> None:
        """Writes the pack, reads it again and checks it as whoever unpacks it will. Raises StorageError."""
        write(file, ((name, self._content_of(name)) for name in sorted(self._members)))
        file.flush()
        try:
            with Pack(Path(file.name), "the pack") as made:
                made.check()
        except PackError as error:
            raise StorageError(f"nothing is packed, since it could not be read: {error}") from error

    def _content_of(self, name: str) -> bytes:
        content = self._members[name]
        return content.read_bytes() if isinstance(content, Path) else content

    def told(self) -> list[str]:
        """In words, what is left out of what was asked for."""
        lines = []
        if self._incomplete:
            states = ", ".join(f"{n} {state}" for state, n in sorted(self._incomplete.items()))
            lines.append(f"runs without a complete evaluation: {states}")
        if self._unfinished:
            lines.append(f"evaluations that are not complete: {self._unfinished}")
        return [*lines, *self._left_out]


def _repeats_itself(path: Path) -> bool:
    """Whether a file shrinks so much that a pack with many of its like would be taken for a bomb."""
    size = path.stat().st_size
    # The name of a member alone makes up for a small one.
    if size <= MOST_RATIO * LEAST_MEMBER:
        return False
    packed = len(zlib.compress(path.read_bytes(), COMPRESSION))
    return size > MOST_RATIO * (packed + LEAST_MEMBER)


def is_on_other_data(result: Mapping[str, Any]) -> bool:
    """Whether an evaluation is on another data set than its encoder was trained on. Early ones never were."""
    data = result["config"].get("data")
    return isinstance(data, Mapping) and data.get("name") is not None


def _whole(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """What `parse` makes of the file; None if it is missing, or damaged, which is reported."""
    try:
        return parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        report_damage(path, str(error))
        return None
