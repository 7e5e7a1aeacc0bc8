"""What a command is about to do: its experiments, completed and checked, and the state of their runs in the store."""

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from simclr_ablate.artefact import Definition
from simclr_ablate.config import ConfigError, MissingDataError, is_own, own_values
from simclr_ablate.data.sources import SOURCES, check_there, root_of
from simclr_ablate.identity import (
    identity_config,
    result_key,
    slug,
    varying_keys,
)
from simclr_ablate.overrides import override
from simclr_ablate.paths import absolute, default_cache
from simclr_ablate.schema import (
    KEYS,
    PROTOCOLS,
    SHAPES_VERSION,
    TRAINED,
    TRANSFER_SETS,
    Data,
    Encoder,
    EvaluationData,
    Experiment,
)
from simclr_ablate.store import EvaluationFolder, Run, Store, TaskFolder
from simclr_ablate.tasks.choose import Choose, Chosen
from simclr_ablate.terminal import count, printable

if TYPE_CHECKING:
    from simclr_ablate.data.sizes import Sizes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRun:
    """An experiment and its run in the store."""

    experiment: Experiment
    run: Run
    evaluation_key: str
    sweeps: tuple[str, ...] = ()
    """The named sweeps that it belongs to."""
    apart: str = ""
    """What distinguishes it from runs of the plan with the same slug: `temperature=0.1 dim=64`."""

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def key(self) -> tuple[str, str]:
        """The experiment's `identity.result_key`; experiments with equal keys are the same."""
        return self.run_id, self.evaluation_key

    @property
    def label(self) -> str:
        """The run id without its hash, and what distinguishes it from others, for people."""
        return f"{slug(self.run_id)} {self.apart}".rstrip()

    def state(self) -> str:
        """One of `store.STATES`."""
        return self.run.state(self.evaluation_key)

    @property
    def task(self) -> TaskFolder:
        """The task that is current, next or last: pretraining or the evaluation."""
        return self.run.task(self.evaluation_key)

    @property
    def evaluating(self) -> EvaluationFolder:
        """Its evaluation, the last task."""
        return self.run.evaluating(self.evaluation_key)

    @property
    def tasks(self) -> tuple[TaskFolder, TaskFolder]:
        """Pretraining and evaluation."""
        return self.run, self.evaluating

    def failure(self) -> dict[str, Any] | None:
        """Why the last attempt failed."""
        return self.task.failure() or self.run.failure()


@dataclass(frozen=True)
class Plan:
    """The runs of one command, in order.

    sweep: the sweep's name, if there is one. unused: keys that do not count in some runs, although experiments of the
    same run differ in them. pending: choices whose candidates are not all complete; more runs follow from them.
    decided: choices that have been made; their winners are among the runs. records: the sweeps' records in the store,
    by the sweep's name, once they exist. missing: why data sets to evaluate on are not there, each with the number of
    experiments that are passed over for it. whole: the runs of a larger plan that this is a part of; this machine is
    divided as for all of them, since another number of threads would change results. followed: the keys of runs that
    are there only because of a choice made before; it is divided as before they were.
    """

    sweep: str | None
    runs: tuple[PlannedRun, ...]
    store: Store
    unused: tuple[str, ...] = ()
    pending: tuple[Choose, ...] = ()
    decided: tuple[Chosen, ...] = ()
    records: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    whole: tuple[PlannedRun, ...] = ()
    followed: frozenset[tuple[str, str]] = frozenset()

    def states(self) -> list[str]:
        return [planned.state() for planned in self.runs]

    def restore_pretraining(self) -> list[str]:
        """Rebuilds pretraining.json for complete runs that have lost it; returns the ids of those runs.

        For the other runs, the process that carries them out does it.
        """
        complete = {p.run_id: p.run for p in self.runs if p.state() == "complete"}
        restored = []
        for run in complete.values():
            try:
                if run.restore_pretraining():
                    restored.append(run.run_id)
            except Exception as error:
                # torch can raise anything here, and the run is complete even so.
                log.warning("%s: pretraining.json was not rebuilt: %s", run.run_id, error)
        return restored

    def members(self) -> dict[str, list[str]]:
        """The ids of the runs of each sweep, by name: the plan's own sweep, and those that it unites."""
        members: dict[str, list[str]] = {}
        if self.sweep is not None:
            members[self.sweep] = [planned.run_id for planned in self.runs]
        for planned in self.runs:
            for name in planned.sweeps:
                if name != self.sweep:
                    members.setdefault(name, []).append(planned.run_id)
        return members

    def choose(self, choose: Choose) -> "Plan":
        """Makes a pending choice now; returns a plan of the runs that follow and are not in this plan yet."""
        chosen = choose.decide(self.store)
        ours = {planned.key for planned in self.runs}
        names = dict.fromkeys(chosen.experiments(), (choose.sweep,))
        plan = plan_completed(names, self.store, self.sweep, names)
        runs = tuple(one for one in plan.runs if one.key not in ours)
        return dataclasses.replace(plan, runs=runs, decided=(chosen,), records=self.records)

    def and_then(self, other: "Plan") -> "Plan":
        """This plan and `other`, which follows from some of its pending choices."""
        made = [chosen.choose.name for chosen in other.decided]
        pending = tuple(choose for choose in self.pending if choose.name not in made)
        decided, runs = (*self.decided, *other.decided), (*self.runs, *other.runs)
        return dataclasses.replace(self, runs=runs, pending=pending, decided=decided)

    def recorded(
        self,
        overrides: Sequence[str] = (),
        asked: str | None = None,
        until: str = "",
        artefacts: Mapping[str, Definition] = MappingProxyType({}),
    ) -> "Plan":
        """The same plan, after recording each sweep's runs in the store, as far as they are known.

        If a choice is to be made again, its earlier winners that exist remain part of the sweep.

        overrides: the command line's other overrides. asked: the sweep as the command line named it, if it did. until:
        see `SweepRecord`. artefacts: those that sweeps define, by the sweep's name.
        """
        plan = self
        for choose in self.pending:
            more = self.choose(choose)
            there = tuple(planned for planned in more.runs if planned.run.exists())
            plan = plan.and_then(dataclasses.replace(more, runs=there))
        records = {}
        for name, run_ids in plan.members().items():
            sweep = override("sweep", asked if asked and name == self.sweep else name)
            artefact = artefacts[name].to_record() if name in artefacts else None
            given = [sweep, *overrides]
            records[name] = self.store.record_sweep(name, run_ids, given, until, artefact)
        return dataclasses.replace(self, records=records)

    def added_to(self, records: Mapping[str, str]) -> "Plan":
        """The same plan, after adding its runs to these records of their sweeps in the store."""
        for name, run_ids in self.members().items():
            if name in records:
                self.store.extend_sweep(records[name], run_ids)
        return dataclasses.replace(self, records=records)

    def note_choices(self) -> None:
        """Records the winners and adds them to their sweeps."""
        for chosen in self.decided:
            chosen.note(self.store, self.records_of(chosen.choose))

    def records_of(self, choose: Choose) -> dict[str, str]:
        """The records, by sweep, that the winners of `choose` will be added to."""
        sweeps = (self.sweep, choose.sweep)
        return {name: record for name, record in self.records.items() if name in sweeps}

    def outlook(self) -> list[str]:
        """Lines for people: what was chosen, and what will follow."""
        made = [chosen.describe() for chosen in self.decided]
        return [*made, *(choose.outlook(self.store) for choose in self.pending)]

    def passed_over(self) -> list[str]:
        """Lines for people: the data sets that are missing."""
        return [
            f"MISSING {reason}\n  {count(number, 'experiment')} passed over until then"
            for reason, number in self.missing.items()
        ]

    def second_stage(self) -> list[str]:
        """Lines for people about a plan that follows from choices."""
        return [*self.outlook(), f"second stage: {self.summary()}"]

    def summary(self) -> str:
        """One line: how many experiments there are, are finished, and are to run."""
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
            text += f"; experiments that differ only in {keys} are the same where it doesn't count"
        return text


def make_plan(
    experiments: Iterable[Experiment], store: Store, sweep: str | None, cache: str | None = None
) -> Plan:
    """Completes each experiment, checks it against its data, and looks up its run. Raises ConfigError.

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
    """The plan of all experiments, with the winners of those choices whose candidates are complete.

    Everything that may run later is completed and checked too. Experiments whose evaluation needs a data set that is
    not there are passed over, if others are left. Raises ConfigError.

    sweeps: the sweeps that each experiment belongs to. cache: see `complete`.
    """
    experiments = list(experiments)
    later = [one for choose in chooses for one in choose.experiments()]
    completed, absent = complete_present([*experiments, *later], cache)
    there = [given for given in experiments if given in completed]
    if absent and not there:
        raise next(iter(absent.values()))
    missing = Counter(str(absent[given]) for given in experiments if given in absent)
    names = {completed[given]: list(sweeps.get(given, ())) for given in there}
    first, pending, decided = set(names), [], []
    for choose in (each.replaced(completed) for each in chooses):
        if not choose.candidates:
            continue
        if not choose.is_ready(store):
            pending.append(choose)
            continue
        decided.append(choose.decide(store))
        for experiment in decided[-1].experiments():
            listed = names.setdefault(experiment, [])
            listed.extend({choose.sweep}.difference(listed))
    plan = plan_completed(names, store, sweep, names)
    return dataclasses.replace(
        plan,
        pending=tuple(pending),
        decided=tuple(decided),
        missing=missing,
        followed=frozenset(map(result_key, names.keys() - first)),
    )


def complete(
    experiments: Iterable[Experiment], cache: str | None = None
) -> dict[Experiment, Experiment]:
    """Maps each experiment to itself, completed and checked against its data and weights. Raises ConfigError.

    cache: folder of decoded images; None: the default.
    """
    completed, absent = complete_present(experiments, cache)
    if absent:
        raise next(iter(absent.values()))
    return completed


def complete_present(
    experiments: Iterable[Experiment], cache: str | None = None
) -> tuple[dict[Experiment, Experiment], dict[Experiment, MissingDataError]]:
    """As `complete`, of the experiments whose `evaluation.data` is there; and why it is not, for the others.

    Raises ConfigError for anything else that is wrong, such as missing images to pretrain on.
    """
    cache = cache or default_cache()
    complete_once = functools.cache(lambda given: complete_data(given, cache))
    sizes_of = functools.cache(lambda given: _sizes_of(given, cache))
    missing = functools.cache(lambda given: _missing(given, cache, complete_once))
    import_once = functools.cache(_complete_weights)
    completed, absent = dict[Experiment, Experiment](), dict[Experiment, MissingDataError]()
    for experiment in experiments:
        if own_values(experiment):
            from simclr_ablate.plan.trial import try_own

            try_own(experiment)
        evaluation = experiment.evaluation
        data = complete_once(experiment.data)
        if evaluation.data.name is not None:
            if (error := missing(experiment.evaluated_data)) is not None:
                absent[experiment] = error
                continue
            other = dataclasses.asdict(complete_once(experiment.evaluated_data))
            other["exact"] = evaluation.data.exact
            evaluation = dataclasses.replace(evaluation, data=EvaluationData(**other))
        encoder = experiment.encoder
        if experiment.objective == "imported":
            encoder = import_once(encoder, experiment.evaluated_data.size)
        completed[experiment] = dataclasses.replace(
            experiment, data=data, encoder=encoder, evaluation=evaluation
        )
        _check_sizes(completed[experiment], sizes_of(data))
        evaluated = completed[experiment].evaluated_data
        _check_evaluated_sizes(completed[experiment], sizes_of(evaluated))
    return completed, absent


def _missing(
    data: Data, cache: str, complete_once: Callable[[Data], Data]
) -> MissingDataError | None:
    """Why a data set to evaluate on is not there, or None."""
    try:
        complete_once(data)
        if data.name in SOURCES:  # these complain only when they are opened
            check_there(data.name, root_of(data.root, Path(cache)), Path(cache), data.size)
    except MissingDataError as error:
        return error
    return None


def plan_completed(
    experiments: Iterable[Experiment],
    store: Store,
    sweep: str | None,
    sweeps: Mapping[Experiment, Sequence[str]] = MappingProxyType({}),
) -> Plan:
    """The plan of experiments that are completed already: each distinct one once, in order.

    sweeps: the named sweeps that each experiment belongs to.
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
    return Plan(sweep, tuple(_distinguished(runs)), store, tuple(unused))


def _distinguished(runs: Sequence[PlannedRun]) -> Iterator[PlannedRun]:
    groups: dict[str, list[PlannedRun]] = {}
    for planned in runs:
        groups.setdefault(slug(planned.run_id), []).append(planned)
    varied = {name: _varied(group) for name, group in groups.items()}
    for planned in runs:
        names = varied[slug(planned.run_id)]
        values = identity_config(planned.experiment) if names else {}
        differing = [(name, values[name]) for name in names if name in values]
        yield dataclasses.replace(planned, apart=_spelled(differing))


def _varied(group: Sequence[PlannedRun]) -> list[str]:
    """The keys that differ between the runs and can change a result."""
    if len(group) == 1:
        return []
    return [n for n in varying_keys([p.experiment for p in group]) if n in _IDENTITY]


def _spelled(values: Sequence[tuple[str, Any]]) -> str:
    """`head=none temperature=0.1`: each key by its last part, or by its section if that part is `name` or `kind`."""
    short = [
        section if section and last in ("name", "kind") else last
        for section, _, last in (name.rpartition(".") for name, _ in values)
    ]
    return " ".join(
        f"{word if short.count(word) == 1 else name}={'null' if value is None else printable(str(value))}"
        for word, (name, value) in zip(short, values, strict=True)
    )


def planned_run(experiment: Experiment, store: Store, sweeps: Sequence[str] = ()) -> PlannedRun:
    """A completed experiment and its run in `store`."""
    run_id, evaluation_key = result_key(experiment)
    return PlannedRun(experiment, store.run(run_id, evaluation_key), evaluation_key, tuple(sweeps))


def complete_data(data: Data, cache: str) -> Data:
    """Fills in a fingerprint and a label, which identify the images. Raises ConfigError.

    Images of a folder or of a user's function are made for this, unless the cache has them.
    """
    if is_own(data.name):
        return _complete_own(data, cache)
    if not data.is_folder:
        if data.name == "shapes" and data.version != SHAPES_VERSION:
            raise ConfigError(
                f"data.version must be {SHAPES_VERSION} for data=shapes, got {data.version}: "
                "earlier versions are no longer drawn"
            )
        if data.name in TRANSFER_SETS:
            check_there(data.name, root_of(data.root, Path(cache)), Path(cache), data.size)
        return dataclasses.replace(data, root=data.root and absolute(data.root, "data.root"))
    assert data.root is not None  # check_experiment requires it
    root = absolute(data.root, "data.root")
    data = dataclasses.replace(data, root=root, label=data.label or Path(root).name)
    if not data.is_streamed:
        from simclr_ablate.data.image_folder import make_image_folder

        made = make_image_folder(root, data.size, data.on_error, Path(cache))
        return dataclasses.replace(data, fingerprint=made)
    from simclr_ablate.data.kept_listing import fingerprint_streamed

    made = fingerprint_streamed(root, data.on_error, Path(cache))
    return dataclasses.replace(data, fingerprint=made)


def _complete_own(data: Data, cache: str) -> Data:
    from simclr_ablate.data.own_sets import make_own

    root = data.root and absolute(data.root, "data.root")
    label = data.label or data.name.partition(":")[2]
    data = dataclasses.replace(data, root=root, label=label, fingerprint=None)
    return dataclasses.replace(data, fingerprint=make_own(data, Path(cache)))


def _complete_weights(encoder: Encoder, size: int) -> Encoder:
    from simclr_ablate.weights.importing import complete_weights

    return complete_weights(encoder, size)


def _sizes_of(data: Data, cache: str) -> "Sizes":
    from simclr_ablate.data.sizes import data_sizes

    return data_sizes(data, cache)


def _check_sizes(experiment: Experiment, sizes: "Sizes") -> None:
    """Raises ConfigError if the experiment needs more images or classes than the data has."""
    data, supervised = experiment.data, experiment.objective == "supervised"
    available = sizes.labelled if supervised else sizes.pretraining
    batch_size = experiment.optimizer.batch_size
    if batch_size > available and experiment.objective in TRAINED:
        raise ConfigError(
            f"optimizer.batch_size must be <= {available}, the training images "
            f"{'with labels ' if supervised else ''}of data={data.name}, got {batch_size}"
        )
    if supervised and sizes.classes < 2:
        raise ConfigError(
            f"data={data.name} must have at least two classes for a classifier, got {sizes.classes}"
        )


def _check_evaluated_sizes(experiment: Experiment, sizes: "Sizes") -> None:
    """Raises ConfigError if the evaluation needs more images or classes than its data has."""
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
