"""What the store holds and how its runs are going, according to the store and SLURM.

simclr-ablate status                      show a table of all runs
simclr-ablate status run=ID               and how that one was made: command, code, versions, machine
simclr-ablate status sweep=NAME --follow  keep it up to date until nothing is queued or running
simclr-ablate status cancel state=queued  cancel runs, by sweep, run id or state
simclr-ablate status retry sweep=NAME     launch again, as before, what failed or was interrupted
simclr-ablate status clean                remove only what killed processes left unfinished

A damaged file is reported and counts as absent. It affects only its own run, and the run's command makes it again.
"""

import argparse
import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from simclr_ablate import provenance
from simclr_ablate.config import ConfigError, nearest
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.launch.cluster import queue
from simclr_ablate.launch.cluster.queue import JobInfo, Settler, settle
from simclr_ablate.launch.progress import columns, duration
from simclr_ablate.schema import METRIC_NAMES, SCHEMA_VERSION
from simclr_ablate.store import BUSY, STATES, ChoiceFolder, Run, Store, TaskFolder
from simclr_ablate.terminal import make_console, make_message_console, printable, sayer
from simclr_ablate.words import Parser, Values, Vocabulary, ended

COLORS = {
    "complete": "green",
    "running": "cyan",
    "queued": "blue",
    "failed": "red",
    "unreadable": "red",
    "interrupted": "yellow",
}
ACTIONS = {
    "cancel": BUSY,
    "retry": ("failed", "interrupted", "pretrained"),
    "clean": tuple(state for state in STATES if state not in BUSY),
}
"""The actions, each with the states of the runs that it acts on if no state is given."""
WORDS = Vocabulary(
    {"sweep": Values.SWEEP, "run": Values.RUN, "state": STATES, "store": Values.FOLDER},
    alone=tuple(ACTIONS),
)
REFRESH_SECONDS = 2.0


def parser() -> Parser:
    """The options of `status`."""
    made = Parser(
        "status", "[cancel|retry|clean] [sweep=NAME] [run=ID] [state=STATE] [store=DIR]", __doc__
    )
    made.add_argument("--json", action="store_true", help="print the runs as one JSON list")
    made.add_argument(
        "--follow",
        action="store_true",
        help="keep the table up to date until nothing is queued or running",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, or JSON for scripts. Returns the exit status."""
    options = parser().read(arguments)
    return ended(lambda: _carry_out(options))


def _carry_out(options: argparse.Namespace) -> int:
    """Raises ConfigError."""
    action, filters = read_words(options.words)
    for flag in ("json", "follow") if action else ():
        if getattr(options, flag):
            raise ConfigError(f"--{flag} shows runs, and cannot be given with {action}")
    if options.json and options.follow:
        raise ConfigError("give --json or --follow, got both")
    store = Store(filters.get("store", "runs"))
    store.check()
    if action is not None:
        return act(action, store, filters)
    if options.follow:
        return follow(store, filters)
    runs = select(store, filters.get("sweep"), filters.get("run"))
    rows = in_state(describe_all(runs), filters.get("state"))
    if "run" in filters and rows:
        rows[0]["attempts"] = {task.name: task.attempts() for task in runs[0].tasks()}
    if options.json:
        print(json.dumps(rows, indent=1))
        return ExitStatus.OK
    later = choices(store, filters.get("sweep"))
    console = make_console()
    parts = picture(rows) if rows else [nothing(runs, store, filters)]
    made = [line for run in runs for line in origin(run)] if "run" in filters else []
    for part in (*parts, *made, *told(later, settle(later))):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))
    return ExitStatus.OK


def read_words(words: Sequence[str]) -> tuple[str | None, dict[str, str]]:
    """The action, if there is one, and the filters. Raises ConfigError."""
    alone, filters = WORDS.read(words)
    action = WORDS.action(alone)
    state = filters.get("state")
    if state is not None and state not in STATES:
        raise ConfigError(f"state must be one of {', '.join(STATES)}, got {state!r}")
    return action, filters


def select(store: Store, sweep: str | None, run_id: str | None = None) -> list[Run]:
    """All runs, those of the last launch of `sweep`, or the one called `run_id`. Raises ConfigError."""
    if sweep is None:
        runs = list(store.runs())
    else:
        records = {record.name: record for record in store.sweeps()}
        if sweep not in records:
            raise ConfigError(
                f"no sweep {sweep} was launched in the store {store.root}"
                f"{nearest(sweep, records)} (launched: {', '.join(records) or 'none'})"
            )
        runs = [store.run(run_id) for run_id in records[sweep].run_ids]
    if run_id is None:
        return runs
    named = [run for run in runs if run.run_id == run_id]
    if not named:
        raise ConfigError(f"no run {run_id}{nearest(run_id, [run.run_id for run in runs])}")
    return named


def act(action: str, store: Store, filters: Mapping[str, str]) -> int:
    """Does `action` to the runs that match the filters; returns the exit status. Raises ConfigError."""
    from simclr_ablate.launch.tend import cancel, cancel_choices, clean, retry

    runs, say = select(store, filters.get("sweep"), filters.get("run")), sayer(make_console())
    # A cancelled sweep must not submit its second stage. One run, or the runs that are running, are not a whole sweep.
    if action == "cancel" and "run" not in filters and filters.get("state") != "running":
        for each in cancel_choices(store, filters.get("sweep")):
            say(f"cancelled the second stage of {each.sweep}")
    settle(task for run in runs for task in run.tasks())
    states = (filters["state"],) if "state" in filters else ACTIONS[action]
    chosen = [run for run in runs if run.state() in states]
    if action == "clean":
        return clean(store, chosen, say)
    if not chosen:
        say(f"nothing to {action}: no run is {' or '.join(states)}")
        return ExitStatus.OK
    if action == "retry":
        return retry(store, chosen, make_message_console())
    return cancel(chosen, say)


def follow(store: Store, filters: Mapping[str, str]) -> int:
    """Shows the table until nothing in it is queued or running and no choice is queued, or until Ctrl-C."""
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    console = make_console()
    settle_runs, settle_choices, printed = Settler(), Settler(), ""
    try:
        with Live(console=console, auto_refresh=False) as live:
            while True:
                # Choices come first, so that runs that they have just submitted are seen.
                later = choices(store, filters.get("sweep"))
                infos = settle_choices(later)
                runs = select(store, filters.get("sweep"), filters.get("run"))
                rows = in_state(describe_all(runs, settle_runs), filters.get("state"))
                if console.is_terminal:
                    parts = picture(rows) if rows else [nothing(runs, store, filters)]
                    live.update(Group(*parts, *map(Text, told(later, infos))), refresh=True)
                elif counts(rows) != printed:
                    printed = counts(rows)
                    console.print(printed, highlight=False)
                waiting = any(choice.is_queued() for choice in later)
                if not waiting and not any(row["state"] in BUSY for row in rows):
                    break
                time.sleep(REFRESH_SECONDS)
        if not console.is_terminal:  # on a terminal, they are in the picture
            for line in told(later, infos):
                console.print(line, highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        pass
    return 0


def choices(store: Store, sweep: str | None) -> list[ChoiceFolder]:
    """The unmade choices that a job was to make, of one sweep or (None) of all."""
    pending = (choice for choice in store.choices() if not choice.is_done())
    return [choice for choice in pending if sweep in (None, *choice.sweeps)]


def told(later: Sequence[ChoiceFolder], infos: Mapping[str, JobInfo]) -> list[str]:
    """A line for each choice. infos: what SLURM says about their jobs, by name of the choice."""
    again = "; run its command again to submit it"
    return [
        queue.describe_choice(choice, infos.get(choice.name))
        + ("" if choice.is_queued() else again)
        for choice in later
    ]


def describe_all(
    runs: Sequence[Run], ask: Callable[[Sequence[TaskFolder]], Mapping[str, JobInfo]] = settle
) -> list[dict[str, Any]]:
    """`describe` of every run, with what SLURM says about its job. ask: asks SLURM."""
    tasks = {run.run_id: list(run.tasks()) for run in runs}
    infos = ask([task for of_run in tasks.values() for task in of_run])
    return [
        describe(run, next((infos[t.name] for t in tasks[run.run_id] if t.name in infos), None))
        for run in runs
    ]


def describe(run: Run, info: JobInfo | None = None) -> dict[str, Any]:
    """A run as plain values: its id, state, progress, metrics (percent) by evaluation, failure, job, and what is wrong
    with its config."""
    state, task = run.state(), current(run)
    progress = task.progress()
    if state == "complete":  # it may have been killed before it could write this
        progress = {**progress, "phase": "complete", "fraction": 1.0}
    return {
        "run_id": run.run_id,
        "state": state,
        "folder": str(run.path),
        "progress": progress,
        "holder": task.holder(),
        "job": asdict(info) if info is not None else None,
        "evaluations": {
            key: evaluation["metrics"] for key, evaluation in run.evaluations().items()
        },
        "failure": (task.failure() or run.failure() or {}).get("reason"),
        "log": _log(task),
        "config": _config_problem(run),
    }


def _config_problem(run: Run) -> str | None:
    """What prevents the analysis and `retry` from reading the run's config, or None."""
    closed = run.unreadable()
    if closed is not None:
        return f"its folder cannot be read: {closed}"
    record = run.experiment()
    if record is None:
        return "experiment.json is damaged; the run's command writes it again"
    version = record["schema_version"]
    return None if version == SCHEMA_VERSION else f"of another version: its schema is {version}"


def origin(run: Run) -> list[str]:
    """How each task of a run was made, as far as it is known: a line for each attempt, and its command below it."""
    lines = []
    for task in run.tasks():
        for attempt in task.attempts():
            began = time.strftime("%Y-%m-%d %H:%M", time.localtime(attempt["time"]))
            command = shlex.join(["python", *attempt["command"]])
            lines += [f"{task.name} {began}: {provenance.told([attempt])}", f"  {command}"]
    return [printable(line) for line in lines]


def current(run: Run) -> TaskFolder:
    """The task that decides the state of the run: one that somebody works on, else one that failed, else the last."""
    tasks = list(run.tasks())
    if run.is_pretrained() and len(tasks) > 1:
        tasks = tasks[1:]
    held = [task for task in tasks if task.holder() is not None]
    failed = [task for task in tasks if not task.is_done() and task.failure() is not None]
    return [*tasks, *failed[:1], *held[:1]][-1]


def _log(task: TaskFolder) -> str:
    """The path of the task's log, or of its job's output before there is a log."""
    last = task.last_submission()
    if last is not None and not os.path.exists(task.log_path):
        return last["output"]
    return str(task.log_path)


def in_state(rows: list[dict[str, Any]], state: str | None) -> list[dict[str, Any]]:
    """The rows in `state`; all rows for None."""
    return [row for row in rows if state in (None, row["state"])]


def picture(rows: list[dict[str, Any]]) -> list[Any]:
    """What to print, one after the other: a table with a line per run, and counts by state."""
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(
        Column("run", no_wrap=True), "state", "top-1", "kNN", Column("details", overflow="fold")
    )
    for row in rows:
        metrics = {k: v for each in row["evaluations"].values() for k, v in each.items()}
        cells = [_accuracy(metrics, prefix) for prefix in ("", "knn_")]
        state = Text(row["state"], style=COLORS.get(row["state"], ""))
        table.add_row(Text(row["run_id"]), state, *cells, Text(_details(row)))
    return [table, Text(counts(rows))]


def _accuracy(metrics: Mapping[str, float], prefix: str) -> str:
    """Top-1; mAP, so marked, if images have several labels; `-` if there is neither."""
    if f"{prefix}top1" in metrics:
        return f"{metrics[f'{prefix}top1']:.1f}"
    several = f"{prefix}map11"
    return f"{metrics[several]:.1f} {METRIC_NAMES['map11']}" if several in metrics else "-"


def nothing(runs: Sequence[Run], store: Store, filters: Mapping[str, str]) -> str:
    """Why no run is shown. runs: the selected runs, in any state."""
    if not runs:
        of_sweep = f" of sweep {filters['sweep']}" if "sweep" in filters else ""
        return f"the store {store.root} holds no runs{of_sweep} yet"
    return f"none of {len(runs)} runs in the store {store.root} is {filters['state']}"


def counts(rows: list[dict[str, Any]]) -> str:
    """`48 complete, 1 failed`."""
    by_state = Counter(row["state"] for row in rows)
    return ", ".join(f"{n} {state}" for state, n in by_state.items())


def _details(row: dict[str, Any]) -> str:
    if row["state"] == "failed":
        return f"{row['failure']} (log: {row['log']})"
    parts = [row["config"]] if row["config"] else []
    progress = row["progress"]
    if row["state"] in ("running", "interrupted") and progress:
        since = duration(max(0.0, time.time() - progress["time"]))
        parts.append("  ".join(columns(progress)) + f"  ({since} ago)")
    if row["state"] in BUSY and row["job"] is not None:
        parts.append(queue.describe(JobInfo(**row["job"])))
    return "  ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
