"""`simclr-ablate --help`, which shows the keys that are used most, and `--help-all`, which shows all."""

import shutil
import textwrap
from collections.abc import Iterable, Sequence

from simclr_ablate import terminal
from simclr_ablate.commands import COMMANDS, PROGRAM
from simclr_ablate.config import KeyInfo, keys, told_conditions
from simclr_ablate.exit_status import TOLD
from simclr_ablate.plan.groups import groups
from simclr_ablate.plan.keys import CommandKeys, launcher_keys
from simclr_ablate.schema import Experiment
from simclr_ablate.words import QUIET_HELP

MOST_USED = {
    "what is trained": (
        "objective",
        "seed",
        "data.root",
        "data.limit",
        "views.strength",
        "encoder.width",
        "encoder.weights",
        "loss.temperature",
    ),
    "how": (
        "optimizer.epochs",
        "optimizer.batch_size",
        "optimizer.micro_batch",
        "optimizer.lr",
        "compute.device",
        "compute.ranks",
        "launcher.parallel",
    ),
    "what the command does": ("store", "cache", "dry_run", "until", "budget_hours"),
}
"""The keys of `--help`, by what they are about. Groups come before them."""

USAGE = f"""\
usage: {PROGRAM} [run] [-m] [key=value ...]
       {PROGRAM} COMMAND ...

The ablation study of SimCLR: every table or figure of the paper is one command.
"""

EXAMPLES = {
    f"{PROGRAM}": "one run",
    f"{PROGRAM} head=linear loss.temperature=0.5": "one run with other values",
    f"{PROGRAM} -m sweep=augmentation_grid": "a sweep: the runs of Figure 5",
    f"{PROGRAM} -m sweep=FILE.yaml": "a sweep of your own",
    f"{PROGRAM} -m loss.temperature=0.1,0.5": "any keys, every combination",
    f"{PROGRAM} -m sweep=paper dry_run=true": "print the plan and stop",
    f"{PROGRAM} analyse figure5": "draw Figure 5 from its runs",
}

OPTIONS = {
    "-m, --multirun": "a sweep, or several values of a key",
    "--config-dir DIR": "a folder with groups of your own: DIR/GROUP/OPTION.yaml",
    "--cfg job": "print the composed config and stop",
    "--json": "with dry_run=true, print the plan as JSON",
    "--quiet": QUIET_HELP,
    "--version": "print the version",
    "-h, --help": "print this",
    "--help-all": "print every key, with what it accepts and where it counts",
    "--hydra-help": "print the options of Hydra, which reads the keys",
}

WIDEST = 110


def show(words: Sequence[str]) -> int:
    """Prints the help that a command line asks for. Returns the exit status."""
    terminal.prepare()
    parts = [USAGE, *_examples(), *_commands(), *_groups(words)]
    parts += _all_keys() if "--help-all" in words else _most_used()
    parts += ["Options:\n", *_rows(OPTIONS.items()), "", *_filled(f"{TOLD}.", "  ")]
    print("\n".join(parts))
    return 0


def every_key() -> list[KeyInfo]:
    """All keys: those of experiments, of launchers and of the command."""
    return [*keys(Experiment), *launcher_keys(), *keys(CommandKeys)]


def _examples() -> list[str]:
    return [*_rows(EXAMPLES.items(), 46), ""]


def _commands() -> list[str]:
    rows = ((name, named.doc) for name, named in COMMANDS.items())
    return ["Commands (each has --help):\n", *_rows(rows), ""]


def _groups(words: Sequence[str]) -> list[str]:
    rows = [(name, ", ".join(options)) for name, options in groups(words).items()]
    beside = 1 + [name for name, _ in rows].index("evaluation")
    rows.insert(
        beside, ("evaluation.data", "as data: what to evaluate on; null: what is trained on")
    )
    return ["Groups (group=option):\n", *_rows(rows), ""]


def _most_used() -> list[str]:
    infos = {info.name: info for info in every_key()}
    lines = [f"Keys used most (key=value; --help-all has all {len(infos)}):\n"]
    for about, names in MOST_USED.items():
        lines += [f"  {about}:", *_rows(((name, _told(infos[name])) for name in names), 22, 4), ""]
    return lines


def _told(info: KeyInfo) -> str:
    return f"{info.doc} ({info.accepted})" if info.accepted else info.doc


def _all_keys() -> list[str]:
    """One line per key, however long, so that `grep` finds all of it."""
    lines, sections = ["Keys (key=value):\n"], set[str]()
    for info in every_key():
        section = info.name.partition(".")[0]
        if info.section and section not in sections:
            sections.add(section)
            lines.append(f"  {section + '.*':30} count with {told_conditions(*info.section)}")
        counts = f"counts with {told_conditions(info.when)}" if info.when else ""
        inside = "; ".join(filter(None, [info.accepted, counts]))
        line = f"  {info.name:30} {info.type:14} {info.doc}{f' ({inside})' if inside else ''}"
        lines.append(line)
    return [*lines, ""]


def _rows(pairs: Iterable[tuple[str, str]], width: int = 24, indent: int = 2) -> list[str]:
    """Names, each with a text beside it, which is wrapped."""
    lines = []
    for name, text in pairs:
        first, *more = _filled(text, " " * (indent + width + 1))
        lines += [f"{'':{indent}}{name:{width}} {first.lstrip()}", *more]
    return lines


def _filled(text: str, indent: str) -> list[str]:
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 0)).columns)
    return textwrap.wrap(
        text,
        max(width, len(indent) + 30),
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
