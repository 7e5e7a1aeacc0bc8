"""Unpacking packs into a store: several become one, and equal results become one result.

Everything is checked before the first write, and nothing that the store has is replaced. Results that a run must have
alone, the last metrics of its pretraining and the metrics of an evaluation, are equal if they are so to the last digit.
What may differ is what another machine, another day or another option of packing makes differ: seconds and speeds,
logs, histories, keys that change no result, what was computed from weights, and whether results on single images are
there. The first then counts: what is in the store, else what comes from the pack that was named first.

A run's files are written under its lease, each atomically, the result of an evaluation last. If the process is killed,
an evaluation is not complete, and unpacking again completes it.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from simclr_ablate.files import StorageError, set_aside, storing, write_atomically, write_json
from simclr_ablate.store.arrays import load_arrays
from simclr_ablate.store.choice import ChoiceFolder
from simclr_ablate.store.contents import (
    evaluation_in,
    experiment_in,
    lasting,
    launch_in,
    pretraining_in,
)
from simclr_ablate.store.evaluation import EvaluationFolder
from simclr_ablate.store.pack import BESIDE, Pack
from simclr_ablate.store.records import ExperimentRecord
from simclr_ablate.store.run import Run
from simclr_ablate.store.store import Store
from simclr_ablate.store.task import TaskFolder

_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

Reader = Callable[[str], bytes | None]
"""The content of a file of a store or pack by its name there; None if there is none."""


@dataclass
class Unpacked:
    """What unpacking has done.

    runs, evaluations: how many the packs have. new, there: how many of the evaluations the store lacked and had.
    completed: how many it had without their results on single images. held: ids of runs that other processes work on,
    of which something is missing now.
    """

    runs: int = 0
    evaluations: int = 0
    new: int = 0
    there: int = 0
    completed: int = 0
    held: list[str] = field(default_factory=list)


class UnequalError(ValueError):
    """Results of one run differ. Nothing is written.

    conflicts: each in a line.
    """

    def __init__(self, conflicts: Sequence[str]) -> None:
        super().__init__("\n".join(conflicts))
        self.conflicts = conflicts


def unpack(packs: Sequence[Pack], store: Store) -> Unpacked:
    """Writes what the packs have and the store lacks. Raises PackError, UnequalError, StorageError."""
    for each in packs:
        each.check()
    found = conflicts(packs, store)
    if found:
        raise UnequalError(found)
    store.prepare()
    done = Unpacked()
    # The launches come first, so that `status` knows of runs that are missing if the process is killed.
    for each in packs:
        _write_launches(each, store)
    for run_id in sorted({run_id for each in packs for run_id in each.run_ids}):
        _write_run(run_id, packs, store, done)
    return done


def conflicts(packs: Sequence[Pack], store: Store) -> list[str]:
    """A line for each result that differs between the packs, or from the store's."""
    sources = {
        f"the store {store.root}": _reader(store),
        **{each.name: _of(each) for each in packs},
    }
    lines: list[str] = []
    for run_id in sorted({run_id for each in packs for run_id in each.run_ids}):
        keys = sorted({key for each in packs for key in each.keys(run_id)})
        experiment = _experiment(run_id, packs)
        found = {where: _pretraining(read, run_id) for where, read in sources.items()}
        lines += _differing(f"{run_id} pretraining", found, _differing_metric)
        for key in keys:
            results = {
                where: _evaluation(read, run_id, key, experiment) for where, read in sources.items()
            }
            lines += _differing(f"{run_id} {key}", results, _differing_result)
    return lines


@dataclass(frozen=True)
class _Result:
    """An evaluation's result, and how to read its results on single images."""

    metrics: dict[str, Any]
    digest: str | None
    examples: Callable[[], bytes | None]


def _differing(
    what: str, found: dict[str, Any], difference: Callable[[Any, Any], str | None]
) -> Iterator[str]:
    """A line for each source whose result is not that of the first that has one."""
    there = [(where, result) for where, result in found.items() if result is not None]
    for where, result in there[1:]:
        first, expected = there[0]
        if (problem := difference(expected, result)) is not None:
            yield f"{what}: {problem} ({first}, {where})"


def _differing_metric(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    for name in sorted(one.keys() | other.keys()):
        # As text, since not a number is equal to itself here.
        here, there = repr(one.get(name)), repr(other.get(name))
        if here != there:
            return f"{name} is {here} and {there}"
    return None


def _differing_result(one: _Result, other: _Result) -> str | None:
    differing = _differing_metric(one.metrics, other.metrics)
    if differing is not None or None in (one.digest, other.digest) or one.digest == other.digest:
        return differing
    here, there = one.examples(), other.examples()
    if here is not None and there is not None and _equal(here, there):
        return None  # the same arrays, compressed by another version of a library
    return "results on single images are not the same"


def _equal(one: bytes, other: bytes) -> bool:
    here, there = load_arrays(one), load_arrays(other)
    return here.keys() == there.keys() and all(
        here[name].dtype == there[name].dtype and here[name].tobytes() == there[name].tobytes()
        for name in here
    )


def _reader(store: Store) -> Reader:
    def read(name: str) -> bytes | None:
        path = store.root / name
        try:
            with storing(path, "store"):
                return path.read_bytes()
        except StorageError as error:
            # A folder in the place of a file is damage; what cannot be read now may be whole.
            if isinstance(error.__cause__, _ABSENT):
                return None
            raise

    return read


def _write_launches(pack: Pack, store: Store) -> None:
    read = _reader(store)
    for name in pack.names("sweep"):
        here, theirs = _whole(read(name), launch_in), launch_in(pack.read(name))
        if here is None:
            _write(pack, name, store)
            continue
        # Runs that were looked at more than once, anywhere, stay so.
        added = {key: theirs[key] for key in ("until", "artefact") if key in theirs.keys() - here}
        if added:
            write_json(store.root / name, {**here, **added})
    for name in pack.names("choice"):
        folder = ChoiceFolder((store.root / name).parent)
        # A choice that waits here, or has been made here, is this store's own.
        if not folder.exists() and not folder.is_done():
            _write(pack, name, store)


def _write_run(run_id: str, packs: Sequence[Pack], store: Store, done: Unpacked) -> None:
    """Writes what the store lacks of a run, unless another process works on it."""
    run = Run(store.root / run_id)
    keys = sorted({key for each in packs for key in each.keys(run_id)})
    done.runs += 1
    done.evaluations += len(keys)
    lacking = _Lacking(run, packs, store)
    if not any(any(lacking.of_evaluation(key)) for key in keys) and not any(lacking.of_run()):
        done.there += len(keys)
        return
    with storing(run.path, "store"):
        run.path.mkdir(exist_ok=True)
    with _leased(run) as is_ours:
        if not is_ours:
            done.held.append(run_id)
            return
        for pack, name in lacking.of_run():
            _write(pack, name, store)
        for key in keys:
            folder = run.evaluating(key)
            is_new = not folder.is_done()
            if any(lacking.of_evaluation(key)):
                _write_evaluation(folder, lacking, store, done)
            done.new += is_new and folder.is_done()
            done.there += not is_new


def _write_evaluation(
    folder: EvaluationFolder, lacking: "_Lacking", store: Store, done: Unpacked
) -> None:
    folder.create({})
    # Without its encoder, nobody can evaluate while the run's lease is ours; a lease takes longer than a result.
    with _leased(folder) if folder.run.is_pretrained() else nullcontext(True) as is_ours:
        if not is_ours:
            if folder.run.run_id not in done.held:
                done.held.append(folder.run.run_id)
            return
        done.completed += folder.is_done()
        for pack, name in lacking.of_evaluation(folder.key):
            path = store.root / name
            if path == folder.result_path and path.exists():
                set_aside(path)  # it is damaged, and may be the whole result of another run
            _write(pack, name, store)


class _Lacking:
    """The files of a run that packs have and the store lacks, each with the first pack that has it, as of now."""

    def __init__(self, run: Run, packs: Sequence[Pack], store: Store) -> None:
        self._run, self._packs, self._read = run, packs, _reader(store)
        self._experiment = _experiment(run.run_id, packs)

    def of_run(self) -> Iterator[tuple[Pack, str]]:
        """Those of its pretraining; the config comes first."""
        run_id = self._run.run_id
        whole = {
            f"{run_id}/experiment.json": self._run.exists(),
            f"{run_id}/pretraining.json": _pretraining(self._read, run_id) is not None,
        }
        beside = [f"{run_id}/{name}" for name in BESIDE]
        computed = [name for each in self._packs for name in each.derived(run_id)]
        for name in dict.fromkeys([*whole, *beside, *computed]):
            if not whole.get(name, self._has(name)):
                yield from self._first_with(name)

    def of_evaluation(self, key: str) -> Iterator[tuple[Pack, str]]:
        """Those of an evaluation; its result comes last."""
        name = f"{self._run.run_id}/evaluations/{key}"
        here = self._result(self._read, key)
        first = next(each for each in self._packs if each.has(f"{name}.json"))
        if here is None or here.examples() is None:
            result = here or self._result(_of(first), key)
            for each in self._packs:
                theirs = self._result(_of(each), key)
                if theirs and result and theirs.digest == result.digest and theirs.examples():
                    yield each, f"{name}/examples.npz"
                    break
        if here is None:
            for file in (f"{name}/{each}" for each in BESIDE):
                if first.has(file) and not self._has(file):
                    yield first, file
            yield first, f"{name}.json"

    def _result(self, read: Reader, key: str) -> "_Result | None":
        return _evaluation(read, self._run.run_id, key, self._experiment)

    def _first_with(self, name: str) -> list[tuple[Pack, str]]:
        return [(each, name) for each in self._packs if each.has(name)][:1]

    def _has(self, name: str) -> bool:
        return (self._run.path.parent / name).exists()


def _write(pack: Pack, name: str, store: Store) -> None:
    path, content = store.root / name, pack.read(name)
    with storing(path, "store"):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content))


@contextmanager
def _leased(task: TaskFolder) -> Iterator[bool]:
    """Holds the task's lease inside, or yields False if another process has it."""
    lease = task.lease()
    try:
        yield lease is not None
    finally:
        if lease is not None:
            lease.release()


def _of(pack: Pack) -> Reader:
    return lambda name: pack.read(name) if pack.has(name) else None


def _experiment(run_id: str, packs: Sequence[Pack]) -> ExperimentRecord:
    """The run's config. All packs that have it, and the store, have the same as far as it counts."""
    name = f"{run_id}/experiment.json"
    return next(experiment_in(each.read(name), run_id) for each in packs if each.has(name))


def _pretraining(read: Reader, run_id: str) -> dict[str, Any] | None:
    content = read(f"{run_id}/pretraining.json")
    metrics = _whole(content, lambda c: pretraining_in(c, run_id))
    return None if metrics is None else lasting(metrics)


def _evaluation(
    read: Reader, run_id: str, key: str, experiment: ExperimentRecord
) -> _Result | None:
    name = f"{run_id}/evaluations/{key}"
    result = _whole(read(f"{name}.json"), lambda c: evaluation_in(c, run_id, key, experiment))
    if result is None:
        return None
    digest = result.get("examples")

    def examples() -> bytes | None:
        content = read(f"{name}/examples.npz")
        whole = content is not None and hashlib.sha256(content).hexdigest() == digest
        return content if whole else None

    return _Result(result["metrics"], digest, examples)


def _whole(content: bytes | None, parse: Callable[[bytes], Any]) -> Any | None:
    """What `parse` makes of the content; None if there is none, or it is damaged."""
    try:
        return None if content is None else parse(content)
    except ValueError:
        return None
