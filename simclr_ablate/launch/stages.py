"""What a command does first, and what follows where its sweeps choose."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from simclr_ablate.launch.plan import Plan, complete, place, plan_completed
from simclr_ablate.launch.selection import Selection
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Store


@dataclass(frozen=True)
class Stages:
    """A command's experiments, completed, and its sweeps' selections.

    names: the experiments that need no choice, each with the sweeps that it is of. decided: selections whose first
    stage the store has, so that their second is known; pending: the others. records: see `recorded`.
    """

    sweep: str | None
    store: Store
    names: Mapping[Experiment, Sequence[str]]
    decided: tuple[Selection, ...] = ()
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
            done[selection.is_decided(store)].append(selection)
        return cls(sweep, store, names, tuple(done[True]), tuple(done[False]))

    def first(self) -> Plan:
        """All that can be run now: whatever needs no choice, and the second stages that are known."""
        chosen = self._chosen(self.decided)
        names = {
            experiment: list(
                dict.fromkeys([*self.names.get(experiment, ()), *chosen.get(experiment, ())])
            )
            for experiment in (*self.names, *chosen)
        }
        return plan_completed(names, self.store, self.sweep, names)

    def second(self) -> Plan:
        """The second stages that were not known, once their first have come to an end, less what `first` had."""
        chosen = self._chosen(self.pending)
        names = {one: listed for one, listed in chosen.items() if one not in self.names}
        return plan_completed(names, self.store, self.sweep, names)

    def recorded(self, first: Plan) -> Self:
        """The same once the store has a record of each sweep's runs, as far as they are known; it knows those records.

        What is there already of second stages that are to be chosen anew remains part of their sweeps.
        """
        chosen = self._chosen(self.pending)
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

    def close_decided(self) -> None:
        """Notes that the second stages that were known are seen to."""
        for selection in self.decided:
            self.store.close_stage(selection.stage_name)

    def close_pending(self) -> None:
        """Notes that the other second stages, now chosen, are seen to and part of their sweeps."""
        chosen = self._chosen(self.pending)
        plan = plan_completed(chosen, self.store, self.sweep, chosen)
        members = plan.members()
        for name, record in self.records.items():
            self.store.extend_sweep(record, members.get(name, ()))
        for selection in self.pending:
            self.store.close_stage(selection.stage_name)

    def only(self, names: Sequence[str]) -> Self:
        """The same with only these second stages pending. names: see `Selection.stage_name`."""
        left = tuple(each for each in self.pending if each.stage_name in names)
        return replace(self, pending=left)

    def _chosen(self, selections: Sequence[Selection]) -> dict[Experiment, list[str]]:
        names: dict[Experiment, list[str]] = {}
        for selection in selections:
            for experiment in selection.chosen(self.store):
                names.setdefault(experiment, []).append(selection.sweep)
        return names

    def tell_choices(self, selections: Sequence[Selection], say: Callable[[str], None]) -> None:
        """Which values have won."""
        for selection in selections:
            say(selection.heading())
            for choice in selection.choose(self.store):
                say(f"  {choice.describe()}")

    def tell_outlook(self, say: Callable[[str], None]) -> None:
        """What will follow."""
        for selection in self.pending:
            say(selection.outlook(self.store))
