"""The command `run`: compose the experiments that `[-m] [key=value ...]` asks for, plan and launch them."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from simclr_ablate.commands import COMMANDS, PROGRAM
from simclr_ablate.config import ConfigError
from simclr_ablate.manner import set_manner
from simclr_ablate.own import look_in
from simclr_ablate.paths import config_folder
from simclr_ablate.words import VERSION

CONFIG_FOLDER = str(config_folder("conf"))
OURS = ("--quiet", "--json")
"""The options that Hydra never sees."""
WITH_A_VALUE = (
    *("-c", "--cfg", "-i", "--info", "-p", "--package", "-cd", "--config-dir"),
    *("-cn", "--config-name", "-cp", "--config-path", "--experimental-rerun"),
)
"""Hydra's options that take the next word as their value."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out the command line. Returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help", "--help-all"}.intersection(given):
        from simclr_ablate.help import show

        return show(given)
    if "--version" in given:
        print(VERSION)
        return 0
    set_manner("--quiet" in given, "--json" in given)
    # With this, Hydra raises errors that it would otherwise print in several lines, with an exit status of its own.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    look_in(os.getcwd())  # for the user's own modules
    sys.argv[1:] = [word for word in given if word not in OURS]
    # With it come Hydra and most of our modules, for which --help does not wait.
    from simclr_ablate.launch.task import exit_status

    return exit_status(run)


def run() -> None:
    """Runs the command line. Raises what `exit_status` reports."""
    import hydra

    from simclr_ablate.calls import quoted
    from simclr_ablate.launch.task import task
    from simclr_ablate.plan.keys import misspelled_key, misused_group, with_groups
    from simclr_ablate.plan.sweeps import register_files

    sys.argv[1:] = map(quoted, with_groups(sys.argv[1:]))
    problem = (
        _stray_word(sys.argv[1:]) or misspelled_key(sys.argv[1:]) or misused_group(sys.argv[1:])
    )
    if problem:
        raise ConfigError(problem)
    register()
    register_files(sys.argv[1:])
    hydra.main(version_base="1.3", config_path=CONFIG_FOLDER, config_name="config")(task)()


def register() -> None:
    """Registers the plugins and the sweeps with Hydra."""
    from simclr_ablate.launch.plugins import register_plugins
    from simclr_ablate.plan.sweeps import register_sweeps
    from simclr_ablate.plan.yaml_files import FileConfigSource

    register_plugins()
    FileConfigSource.install()
    register_sweeps()
    _share_config_store()


def _share_config_store() -> None:
    """Keeps Hydra from copying the whole ConfigStore, our sweeps included, whenever it composes or lists a config.

    It copies its config sources, one of which refers to the store. Nothing changes the store through a source: what is
    read from it is a copy of its own.
    """
    from hydra.core.config_store import ConfigStore

    def shared(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
        return store

    hydras: Any = ConfigStore
    hydras.__deepcopy__ = shared


def _stray_word(words: Sequence[str]) -> str | None:
    """A message for the first word that is neither an option nor `key=value`, in place of Hydra's; or None."""
    for before, word in zip(("", *words), words, strict=False):
        if "=" in word or word.startswith(("-", "~")) or before in WITH_A_VALUE:
            continue
        if word in COMMANDS:
            return f"{word} must come first: {PROGRAM} {word} ..."
        return f"unknown word {word!r}: give key=value"
    return None


if __name__ == "__main__":
    sys.exit(main())
