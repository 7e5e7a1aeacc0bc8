"""What a command is about to do: its experiments, completed and checked, beside what the store already has."""

import dataclasses
import functools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from simclr_ablate.config import ConfigError, is_own, own_values
from simclr_ablate.identity import (
    identity_config,
    result_key,
    slug,
    varying_keys,
)
from simclr_ablate.launch.worker import Job
from simclr_ablate.overrides import override
from simclr_ablate.paths import absolute, default_cache
from simclr_ablate.schema import KEYS, PROTOCOLS, Data, EvaluationData, Experiment
from simclr_ablate.store import Run, Store, TaskFolder
from simclr_ablate.tasks.choose import Choose, Chosen
from simclr_ablate.terminal import count, printable

if TYPE_CHECKING:
    from simclr_ablate.data.sizes import Sizes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """One experiment and its run in the store."""

    experiment: Experiment
    run: Run
    evaluation_key: str
    sweeps: tuple[str, ...] = ()
    """The sweeps of a union that share it."""
    apart: str = ""
    """What tells it from others of its plan whose ids differ in the hash alone: `temperature=0.1 dim=64`."""

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def key(self) -> tuple[str, str]:
        """As `identity.result_key`: experiments of one key are one."""
        return self.run_id, self.evaluation_key

    @property
    def label(self) -> str:
        """The run id without its hash, and what tells it from others, for people."""
        return f"{slug(self.run_id)} {self.apart}".rstrip()

    def state(self) -> str:
        """One of `store.STATES`."""
        return self.run.state(self.evaluation_key)

    @property
    def task(self) -> TaskFolder:
        """What of it is being done now, or is next, or was last: pretraining, or the evaluation."""
        return self.run.task(self.evaluation_key)

    @property
    def evaluating(self) -> TaskFolder:
        """Its evaluation, which ends it."""
        return self.run.evaluating(self.evaluation_key)

    @property
    def tasks(self) -> tuple[TaskFolder, TaskFolder]:
        """Pretraining and evaluation."""
        return self.run, self.evaluating

    def failure(self) -> dict[str, Any] | None:
        """Why the last attempt at it failed."""
        return self.task.failure() or self.run.failure()


@dataclass(frozen=True)
class Plan:
    """The runs of one command, in order.

    sweep: its name, if it is one. unused: keys in which experiments differed that are the same run, since these keys
    don't count in them. pending: choices between runs that are not complete, from which more runs follow. decided:
    those that have been made, what they have chosen being among the runs. records: of the sweeps that the runs are of,
    by name, once the store has them.
    """

    sweep: str | None
    runs: tuple[PlannedRun, ...]
    store: Store
    unused: tuple[str, ...] = ()
    pending: tuple[Choose, ...] = ()
    decided: tuple[Chosen, ...] = ()
    records: Mapping[str, str] = field(default_factory=dict)

    def states(self) -> list[str]:
        return [planned.state() for planned in self.runs]

    def restore_pretraining(self) -> list[str]:
        """Rebuilds pretraining.json where a complete run has lost it; returns the ids of those runs.

        Whoever carries out the other runs does it for them.
        """
        complete = {p.run_id: p.run for p in self.runs if p.state() == "complete"}
        restored = []
        for run in complete.values():
            try:
                if run.restore_pretraining():
                    restored.append(run.run_id)
            except Exception as error:
                # torch raises whatever it comes upon, and the run is complete all the same.
                log.warning("%s: pretraining.json is not rebuilt: %s", run.run_id, error)
        return restored

    def members(self) -> dict[str, list[str]]:
        """The runs of the sweep, where it has a name, and of each that it unites."""
        members: dict[str, list[str]] = {}
        if self.sweep is not None:
            members[self.sweep] = [planned.run_id for planned in self.runs]
        for planned in self.runs:
            for name in planned.sweeps:
                if name != self.sweep:
                    members.setdefault(name, []).append(planned.run_id)
        return members

    def choose(self, choose: Choose) -> "Plan":
        """What follows from a pending choice that is made now: the runs that are not in this plan already."""
        chosen = choose.decide(self.store)
        ours = {planned.key for planned in self.runs}
        names = dict.fromkeys(chosen.experiments(), (choose.sweep,))
        plan = plan_completed(names, self.store, self.sweep, names)
        runs = tuple(one for one in plan.runs if one.key not in ours)
        return dataclasses.replace(plan, runs=runs, decided=(chosen,), records=self.records)

    def and_then(self, other: "Plan") -> "Plan":
        """Both, where `other` has come of some of the pending choices."""
        made = [chosen.choose.name for chosen in other.decided]
        pending = tuple(choose for choose in self.pending if choose.name not in made)
        decided, runs = (*self.decided, *other.decided), (*self.runs, *other.runs)
        return dataclasses.replace(self, runs=runs, pending=pending, decided=decided)

    def recorded(self, overrides: Sequence[str] = (), asked: str | None = None) -> "Plan":
        """The same once the store has a record of each sweep's runs, as far as they are known.

        What is there already of choices that are to be made anew remains part of their sweeps.

        overrides: what the command line said besides. asked: the sweep as it named it, where it named one.
        """
        plan = self
        for choose in self.pending:
            more = self.choose(choose)
            there = tuple(planned for planned in more.runs if planned.run.exists())
            plan = plan.and_then(dataclasses.replace(more, runs=there))
        records = {}
        for name, run_ids in plan.members().items():
            sweep = override("sweep", asked if asked and name == self.sweep else name)
            records[name] = self.store.record_sweep(name, run_ids, [sweep, *overrides])
        return dataclasses.replace(self, records=records)

    def note_choices(self) -> None:
        """Records what was chosen, and makes it part of its sweeps."""
        for chosen in self.decided:
            chosen.note(self.store, self.records_of(chosen.choose))

    def records_of(self, choose: Choose) -> dict[str, str]:
        """The records, by sweep, of which what is chosen is to be part."""
        sweeps = (self.sweep, choose.sweep)
        return {name: record for name, record in self.records.items() if name in sweeps}

    def outlook(self) -> list[str]:
        """Lines for a person: what was chosen, and what will follow."""
        made = [chosen.describe() for chosen in self.decided]
        return [*made, *(choose.outlook(self.store) for choose in self.pending)]

    def second_stage(self) -> list[str]:
        """Lines for a person, of a plan that has come of choices."""
        return [*self.outlook(), f"second stage: {self.summary()}"]

    def job(self, planned: PlannedRun, cache: str, threads: int, **more: Any) -> Job:
        """What a worker needs to carry `planned` out. threads: where `compute.threads` doesn't say. more: of Job."""
        return Job(
            config=planned.experiment.to_config(),
            store=str(self.store.root.resolve()),
            cache=cache,
            threads=planned.experiment.compute.threads or threads,
            folder=os.getcwd(),
            **more,
        )

    def summary(self) -> str:
        """One line: experiments, already finished, to run."""
        states = Counter(self.states())
        done = states.pop("complete", 0)
        parts = [
            count(len(self.runs), "experiment"),
            f"{done} already finished",
            f"{len(self.runs) - done} to run",
        ]
        notable = [f"{n} {state}" for state, n in states.items() if state != "planned"]
        text = ", ".join(parts) + (f" ({', '.join(notable)})" if notable else "")
        if self.unused:
            keys = ", ".join(self.unused)
            text += f"; experiments that differ only in {keys} are one where it doesn't count"
        return text


def make_plan(
    experiments: Iterable[Experiment], store: Store, sweep: str | None, cache: str | None = None
) -> Plan:
    """Completes every experiment, checks it against its data, and looks up its run. Raises ConfigError.

    cache: see `complete`.
    """
    return plan_completed(complete(experiments, cache).values(), store, sweep)


def plan_all(
    sweep: str | None,
    store: Store,
    experiments: Iterable[Experiment],
    sweeps: Mapping[Experiment, Sequence[str]],
    chooses: Sequence[Choose],
    cache: str | None = None,
) -> Plan:
    """The plan of experiments and of sweeps that choose, with what follows where all they try is complete.

    Everything that may be run later is completed and checked too. Raises ConfigError.

    sweeps: of which sweeps an experiment is. cache: see `complete`.
    """
    experiments = list(experiments)
    later = [one for choose in chooses for one in choose.experiments()]
    completed = complete([*experiments, *later], cache)
    names = {completed[given]: list(sweeps.get(given, ())) for given in experiments}
    pending, decided = [], []
    for choose in (each.replaced(completed) for each in chooses):
        if not choose.is_ready(store):
            pending.append(choose)
            continue
        decided.append(choose.decide(store))
        for experiment in decided[-1].experiments():
            listed = names.setdefault(experiment, [])
            listed.extend({choose.sweep}.difference(listed))
    plan = plan_completed(names, store, sweep, names)
    return dataclasses.replace(plan, pending=tuple(pending), decided=tuple(decided))


def complete(
    experiments: Iterable[Experiment], cache: str | None = None
) -> dict[Experiment, Experiment]:
    """Each experiment, as given, completed and checked against its data. Raises ConfigError.

    cache: where images are kept; None: the default.
    """
    cache = cache or default_cache()
    complete_once = functools.cache(lambda given: complete_data(given, cache))
    sizes_of = functools.cache(lambda given: _sizes_of(given, cache))
    completed = {}
    for experiment in experiments:
        if own_values(experiment):
            from simclr_ablate.launch.trial import try_own

            try_own(experiment)
        evaluation = experiment.evaluation
        if evaluation.data.name is not None:
            other = dataclasses.asdict(complete_once(experiment.evaluated_data))
            evaluation = dataclasses.replace(evaluation, data=EvaluationData(**other))
        data = complete_once(experiment.data)
        completed[experiment] = dataclasses.replace(experiment, data=data, evaluation=evaluation)
        _check_sizes(completed[experiment], sizes_of(data))
        evaluated = completed[experiment].evaluated_data
        _check_evaluated_sizes(completed[experiment], sizes_of(evaluated))
    return completed


def plan_completed(
    experiments: Iterable[Experiment],
    store: Store,
    sweep: str | None,
    sweeps: Mapping[Experiment, Sequence[str]] = MappingProxyType({}),
) -> Plan:
    """The plan of experiments that are completed already; each run once, in order.

    sweeps: of which sweeps an experiment is, where several are united.
    """
    alike: dict[tuple[str, str], list[PlannedRun]] = {}
    for experiment in experiments:
        planned = planned_run(experiment, store, sweeps.get(experiment, ()))
        alike.setdefault(planned.key, []).append(planned)
    runs, unused = [], dict[str, None]()
    for group in alike.values():
        of_all = chain.from_iterable(planned.sweeps for planned in group)
        runs.append(dataclasses.replace(group[0], sweeps=tuple(dict.fromkeys(of_all))))
        unused |= dict.fromkeys(_varied(group))
    return Plan(sweep, tuple(_told_apart(runs)), store, tuple(unused))


def _told_apart(runs: Sequence[PlannedRun]) -> Iterator[PlannedRun]:
    groups: dict[str, list[PlannedRun]] = {}
    for planned in runs:
        groups.setdefault(slug(planned.run_id), []).append(planned)
    varied = {name: _varied(group) for name, group in groups.items()}
    for planned in runs:
        names = varied[slug(planned.run_id)]
        values = identity_config(planned.experiment) if names else {}
        told = [(name, values[name]) for name in names if name in values]
        yield dataclasses.replace(planned, apart=_spelled(told))


def _varied(group: Sequence[PlannedRun]) -> list[str]:
    """The keys that differ between the runs' experiments and can change a result."""
    if len(group) == 1:
        return []
    return [n for n in varying_keys([p.experiment for p in group]) if n in _IDENTITY]


def _spelled(values: Sequence[tuple[str, Any]]) -> str:
    """`head=none temperature=0.1`: by each key's last name; by its section's where that names a kind of things."""
    short = [
        section if section and last in ("name", "kind") else last
        for section, _, last in (name.rpartition(".") for name, _ in values)
    ]
    return " ".join(
        f"{word if short.count(word) == 1 else name}={'null' if value is None else printable(str(value))}"
        for word, (name, value) in zip(short, values, strict=True)
    )


def planned_run(experiment: Experiment, store: Store, sweeps: Sequence[str] = ()) -> PlannedRun:
    """A completed experiment with its run in `store`."""
    run_id, evaluation_key = result_key(experiment)
    return PlannedRun(experiment, store.run(run_id), evaluation_key, tuple(sweeps))


def complete_data(data: Data, cache: str) -> Data:
    """Fills in what identifies the images: a fingerprint and a label. Raises ConfigError.

    Images of a folder, and of a user's function, are made for it, where the cache does not have them.
    """
    if is_own(data.name):
        return _complete_own(data, cache)
    if data.name not in ("image_folder", "imagenet"):
        return dataclasses.replace(data, root=data.root and absolute(data.root, "data.root"))
    assert data.root is not None  # check_experiment requires it
    root = absolute(data.root, "data.root")
    data = dataclasses.replace(data, root=root, label=data.label or Path(root).name)
    if data.name == "image_folder":
        from simclr_ablate.data.image_folder import make_image_folder

        made = make_image_folder(root, data.size, data.on_error, Path(cache))
        return dataclasses.replace(data, fingerprint=made)
    from simclr_ablate.data.listing import fingerprint, list_images

    listing = list_images(root, data.name, data.on_error)
    return dataclasses.replace(data, fingerprint=fingerprint(listing, data.on_error))


def _complete_own(data: Data, cache: str) -> Data:
    from simclr_ablate.data.own_sets import make_own

    root = data.root and absolute(data.root, "data.root")
    label = data.label or data.name.partition(":")[2]
    data = dataclasses.replace(data, root=root, label=label, fingerprint=None)
    return dataclasses.replace(data, fingerprint=make_own(data, Path(cache)))


def _sizes_of(data: Data, cache: str) -> "Sizes":
    from simclr_ablate.data.sizes import data_sizes

    return data_sizes(data, cache)


def _check_sizes(experiment: Experiment, sizes: "Sizes") -> None:
    """Raises ConfigError where the experiment needs more images, or more classes, than there are."""
    data, supervised = experiment.data, experiment.objective == "supervised"
    available = sizes.labelled if supervised else sizes.pretraining
    batch_size = experiment.optimizer.batch_size
    if batch_size > available and experiment.objective != "none":
        raise ConfigError(
            f"optimizer.batch_size must be <= {available}, the training images "
            f"{'with labels ' if supervised else ''}of data={data.name}, got {batch_size}"
        )
    if supervised and sizes.classes < 2:
        raise ConfigError(
            f"data={data.name} must have at least two classes for a classifier, got {sizes.classes}"
        )


def _check_evaluated_sizes(experiment: Experiment, sizes: "Sizes") -> None:
    """The same of what it is evaluated on."""
    evaluation, data = experiment.evaluation, experiment.evaluated_data
    named = f"data={data.name}" if evaluation.data.name is None else f"evaluation.data={data.name}"
    if sizes.classes < 2 and evaluation.protocol != "probe":
        raise ConfigError(
            f"{named} must have at least two classes for a classifier, got {sizes.classes}: "
            "evaluation=probe with objective=contrastive needs none"
        )
    if "knn" in PROTOCOLS.get(evaluation.protocol, ()) and evaluation.knn > sizes.labelled:
        raise ConfigError(
            f"evaluation.knn must be <= {sizes.labelled}, the training images with labels of "
            f"{named}, got {evaluation.knn}"
        )


_IDENTITY = {info.name for info in KEYS if info.identity}
