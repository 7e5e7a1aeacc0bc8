"""What a command does first, and what follows where its sweeps choose."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from simclr_ablate.launch.plan import Plan, complete, place, plan_completed
from simclr_ablate.launch.selection import Decision, Selection
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Store


@dataclass(frozen=True)
class Stages:
    """A command's experiments, completed, and its sweeps' selections.

    names: the experiments that need no choice, each with the sweeps that it is of. decided: what selections have come
    to, so that their second stage is known: as planned, those whose first stage the store has whole; from `decide`,
    also those of which trials failed. pending: the other selections. records: see `recorded`.
    """

    sweep: str | None
    store: Store
    names: Mapping[Experiment, Sequence[str]]
    decided: tuple[Decision, ...] = ()
    pending: tuple[Selection, ...] = ()
    records: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def plan(
        cls,
        sweep: str | None,
        store: Store,
        experiments: Iterable[Experiment],
        sweeps: Mapping[Experiment, Sequence[str]],
        selections: Sequence[Selection],
        cache: str | None = None,
    ) -> Self:
        """Completes every experiment of every stage and checks it against its data. Raises ConfigError.

        cache: see `complete`.
        """
        experiments = list(experiments)
        later = [one for selection in selections for one in selection.experiments()]
        completed = complete([*experiments, *later], cache)
        names = {completed[given]: sweeps.get(given, ()) for given in experiments}
        done: dict[bool, list[Selection]] = {True: [], False: []}
        for selection in (each.replaced(completed) for each in selections):
            done[selection.is_ready(store)].append(selection)
        decided = tuple(selection.decide(store) for selection in done[True])
        return cls(sweep, store, names, decided, tuple(done[False]))

    def first(self) -> Plan:
        """All that can be run now: whatever needs no choice, and the second stages that are known."""
        chosen = _chosen(self.decided)
        names = {
            experiment: list(
                dict.fromkeys([*self.names.get(experiment, ()), *chosen.get(experiment, ())])
            )
            for experiment in (*self.names, *chosen)
        }
        return plan_completed(names, self.store, self.sweep, names)

    def decide(self) -> Self:
        """What is left once the first stages have come to an end: the second stages that were not known, now chosen."""
        decided = tuple(selection.decide(self.store) for selection in self.pending)
        return replace(self, decided=decided, pending=())

    def second(self) -> Plan:
        """The second stages that `decide` has chosen, less what needed no choice. Only right for what it returns."""
        chosen = _chosen(self.decided)
        names = {one: listed for one, listed in chosen.items() if one not in self.names}
        return plan_completed(names, self.store, self.sweep, names)

    def recorded(self, first: Plan) -> Self:
        """The same once the store has a record of each sweep's runs, as far as they are known; it knows those records.

        What is there already of second stages that are to be chosen anew remains part of their sweeps.
        """
        chosen = _chosen(self.decide().decided)
        there = {
            one: listed for one, listed in chosen.items() if place(one, self.store).run.exists()
        }
        plan = first.and_then(plan_completed(there, self.store, self.sweep, there))
        members = plan.members().items()
        records = {name: self.store.record_sweep(name, run_ids) for name, run_ids in members}
        return replace(self, records=records)

    def records_of(self, selection: Selection) -> dict[str, str]:
        """The records, by sweep, that the selection's second stage is to be part of."""
        sweeps = (self.sweep, selection.sweep)
        return {name: record for name, record in self.records.items() if name in sweeps}

    def close(self) -> None:
        """Notes that the second stages that are decided are seen to and part of their sweeps."""
        for decision in self.decided:
            decision.close(self.store, self.records_of(decision.selection))

    def only(self, names: Sequence[str]) -> Self:
        """The same with only these second stages pending. names: see `Selection.stage_name`."""
        left = tuple(each for each in self.pending if each.stage_name in names)
        return replace(self, pending=left)

    def tell(self, say: Callable[[str], None]) -> None:
        """Which values have won, and what will follow."""
        for decision in self.decided:
            say(decision.describe())
        for selection in self.pending:
            say(selection.outlook(self.store))


def _chosen(decisions: Sequence[Decision]) -> dict[Experiment, list[str]]:
    """Second stages, each experiment with the sweeps that it is of."""
    names: dict[Experiment, list[str]] = {}
    for decision in decisions:
        for experiment in decision.experiments():
            names.setdefault(experiment, []).append(decision.selection.sweep)
    return names
