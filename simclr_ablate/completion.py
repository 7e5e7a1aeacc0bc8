"""Completion of commands, keys and their values at the press of TAB.

simclr-ablate completion install         for your shell ($SHELL), in the folder where it looks
simclr-ablate completion install zsh     for bash, zsh or fish
simclr-ablate completion bash            print the script
"""

import argparse
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simclr_ablate.commands import COMMANDS, DEFAULT, EVERYWHERE, PROGRAM, named
from simclr_ablate.config import ConfigError
from simclr_ablate.exit_status import ExitStatus
from simclr_ablate.files import storing, write_text
from simclr_ablate.terminal import make_message_console, sayer, tell
from simclr_ablate.words import Parser, Values, Vocabulary, accepted, ended

SHELLS = ("bash", "zsh", "fish")
INSTALL = "install"
WORDS = Vocabulary({}, alone=(*SHELLS, INSTALL))
MARK = f"# The completion of {PROGRAM}, by `{PROGRAM} completion`."
"""What tells our files from others."""

PATHS = {
    "store": Values.FOLDER,
    "cache": Values.FOLDER,
    "data.root": Values.FOLDER,
    "evaluation.data.root": Values.FOLDER,
    "encoder.weights": Values.FILE,
}
"""The keys of experiments and of `run` whose values are paths."""


def parser() -> Parser:
    """The options of `completion`."""
    return Parser("completion", "bash|zsh|fish | install [bash|zsh|fish]", __doc__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a script, or installs it. Returns the exit status."""
    options = parser().read(arguments)
    return ended(lambda: _carry_out(options.words))


def _carry_out(words: Sequence[str]) -> int:
    """Raises ConfigError."""
    alone, _ = WORDS.read(words)
    installs = INSTALL in alone
    shell = WORDS.action([word for word in alone if word != INSTALL])
    if shell is None and not installs:
        raise ConfigError(f"name a shell, got none{accepted((*SHELLS, INSTALL))}")
    if installs:
        install(shell or _own_shell())
    else:
        assert shell is not None
        print(script(shell))
    return ExitStatus.OK


def script(shell: str) -> str:
    """What makes `shell` complete our commands: it asks the command itself, through `complete`."""
    import argcomplete

    first, *rest = argcomplete.shellcode([PROGRAM], shell=shell).strip().splitlines()
    # zsh wants its #compdef in the first line.
    return "\n".join([first, MARK, *rest] if first.startswith("#compdef") else [MARK, first, *rest])


def install(shell: str) -> None:
    """Writes the script where `shell` looks for it, and says where, and what else it takes.

    Raises ConfigError if a file that is not ours is in the way.
    """
    say = sayer(make_message_console())
    path, remark = PLACES[shell]()
    with storing(path):
        if path.exists() and MARK not in path.read_text(errors="replace").splitlines()[:3]:
            raise ConfigError(
                f"{path} is not ours, and is not written over: remove it, or write elsewhere with "
                f"{PROGRAM} completion {shell} > FILE"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, script(shell) + "\n")
    tell(f"wrote {path}")
    say(remark)


def _own_shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        shown = f"$SHELL, which is {name}" if name else "$SHELL, which is empty"
        raise ConfigError(f"name a shell, got {shown}{accepted(SHELLS)}")
    return name


def _bash() -> tuple[Path, str]:
    user = os.environ.get("BASH_COMPLETION_USER_DIR") or _home("XDG_DATA_HOME", ".local/share") / (
        "bash-completion"
    )
    path = Path(user) / "completions" / PROGRAM
    return path, (
        "new shells have it, if they have the package bash-completion; otherwise, add this line to ~/.bashrc:\n"
        f"  source {path}"
    )


def _fish() -> tuple[Path, str]:
    path = _home("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / f"{PROGRAM}.fish"
    return path, "new shells have it"


def _zsh() -> tuple[Path, str]:
    """In the first folder of zsh's that we may write to, or else in one that .zshrc has to name."""
    name = f"_{PROGRAM}"
    for folder in _fpath():
        if folder.is_dir() and os.access(folder, os.W_OK):
            return folder / name, "new shells have it, if ~/.zshrc calls compinit"
    folder = _home("XDG_DATA_HOME", ".local/share") / "zsh" / "site-functions"
    return folder / name, (
        "add these lines to ~/.zshrc, the first before any other compinit:\n"
        f"  fpath=({folder} $fpath)\n"
        "  autoload -Uz compinit && compinit"
    )


def _fpath() -> list[Path]:
    """The folders in which an interactive zsh looks for functions."""
    show = ["zsh", "-i", "-c", "print -rl -- $fpath"]
    try:
        done = subprocess.run(
            show, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [Path(line) for line in done.stdout.splitlines() if line.startswith("/")]


PLACES: Mapping[str, Callable[[], tuple[Path, str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
"""For each shell, where its script goes, and what to say about it."""


def _home(variable: str, usual: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / usual)


def complete() -> None:
    """Answers the shell, which gives its line in the environment, and exits."""
    import argcomplete

    # For this parser, everything is a word; `candidates` knows better.
    finder = argparse.ArgumentParser(PROGRAM, prefix_chars="\0", add_help=False)
    words: Any = finder.add_argument("words", nargs="*")
    words.completer = lambda prefix, parsed_args, **_: candidates(parsed_args.words or (), prefix)
    argcomplete.autocomplete(finder, always_complete_options=False)


def candidates(words: Sequence[str], prefix: str) -> list[str]:
    """What the word that begins with `prefix` may be, after `words`."""
    command, rest = named(words)
    found = list(_of_run(rest, prefix) if command == DEFAULT else _of(command, rest, prefix))
    if not set(words).difference(EVERYWHERE):
        found = [*COMMANDS, *found]
    return [each for each in found if each.startswith(prefix)]


def _of(command: str, words: Sequence[str], prefix: str) -> Iterator[str]:
    """Candidates of a command other than `run`."""
    if command not in COMMANDS:
        return
    module = importlib.import_module(COMMANDS[command].module)
    if prefix.startswith("-"):
        for action in module.parser()._actions:
            yield from action.option_strings if action.help != argparse.SUPPRESS else ()
        return
    alone = [word for word in words if "=" not in word and not word.startswith("-")]
    vocabulary = module.WORDS
    if isinstance(vocabulary, dict):  # one for each action
        actions = Vocabulary({}, alone=tuple(vocabulary))
        vocabulary = vocabulary.get(alone.pop(0), actions) if alone else actions
    given = dict(word.split("=", 1) for word in words if "=" in word)
    key, equals, value = prefix.partition("=")
    if equals:
        kind = vocabulary.keys.get(key, ())
        yield from (f"{key}={each}" for each in _values(kind, value, given))
        return
    yield from (f"{name}=" for name in vocabulary.keys if name not in given)
    yield from (each for each in _values(vocabulary.alone, prefix, given) if each not in alone)


def _values(kind: Values | Collection[str], prefix: str, given: Mapping[str, str]) -> Iterator[str]:
    """Values of that kind. given: the words of the line, which may name the store."""
    if not isinstance(kind, Values):
        yield from kind
    elif kind in (Values.FOLDER, Values.FILE):
        yield from _paths(prefix, files=kind is Values.FILE)
    else:
        from simclr_ablate.store import Store

        store = Store(given.get("store", "runs"))
        if kind is Values.RUN:
            yield from (run.run_id for run in store.runs())
        else:
            yield from dict.fromkeys(record.name for record in store.sweeps())


def _of_run(words: Sequence[str], prefix: str) -> Iterator[str]:
    from simclr_ablate.help import MOST_USED, OPTIONS, every_key
    from simclr_ablate.plan.groups import groups

    if prefix.startswith("-"):
        for spelled in OPTIONS:
            yield from re.findall(r"--?[a-z][\w-]*", spelled)
        return
    infos = {info.name: info for info in every_key()}
    of_groups = groups(words)
    of_groups["evaluation.data"] = of_groups["data"]
    key, equals, value = prefix.partition("=")
    if not equals:
        shown = infos if prefix else [name for names in MOST_USED.values() for name in names]
        yield from (f"{name}=" for name in dict.fromkeys([*of_groups, *shown]))
        return
    # If there are several values, TAB completes the last one.
    before, comma, last = value.rpartition(",")
    if key in PATHS:
        yield from (f"{key}={each}" for each in _values(PATHS[key], value, {}))
        return
    options = list(of_groups.get(key, ()))
    if not options and key in infos:
        options = [*map(str, infos[key].choices)]
        options += ["false", "true"] if infos[key].type.startswith("bool") else []
    if key == "sweep":
        options += _paths(last, files=True, ending=(".yaml", ".yml"))
    yield from (f"{key}={before}{comma}{each}" for each in options)


def _paths(prefix: str, files: bool, ending: tuple[str, ...] = ()) -> Iterator[str]:
    """Folders that begin with `prefix`, each with a slash at its end, and files. ending: of files; (): any."""
    folder, slash, begin = prefix.rpartition("/")
    try:
        entries = sorted(os.scandir(Path(folder + slash).expanduser()), key=lambda e: e.name)
    except (OSError, RuntimeError):
        return
    for entry in entries:
        if not entry.name.startswith(begin) or (entry.name.startswith(".") and not begin):
            continue
        if entry.is_dir():
            yield f"{folder}{slash}{entry.name}/"
        elif files and (not ending or entry.name.endswith(ending)):
            yield f"{folder}{slash}{entry.name}"


if __name__ == "__main__":
    sys.exit(main())
