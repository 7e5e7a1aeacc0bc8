"""The command: `python -m simclr_ablate [-m] [key=value ...]`. Compose, plan, launch."""

import os
import sys
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore

from simclr_ablate.calls import quoted
from simclr_ablate.config import ConfigError, keys, told_conditions
from simclr_ablate.launch.plugins import register_plugins
from simclr_ablate.launch.task import exit_status, task
from simclr_ablate.own import look_in
from simclr_ablate.paths import config_folder
from simclr_ablate.plan.keys import (
    CommandKeys,
    launcher_keys,
    misspelled_key,
    misused_group,
    with_groups,
)
from simclr_ablate.plan.sweeps import register_files, register_sweeps
from simclr_ablate.plan.yaml_files import FileConfigSource
from simclr_ablate.schema import Experiment

CONFIG_FOLDER = str(config_folder("conf"))


def main() -> None:
    """Runs the command line. Exits with 0, 1 (a run failed), 2 (bad input) or 130 (stopped)."""
    # With this, Hydra raises errors that it would otherwise print in several lines, with an exit status of its own.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    look_in(os.getcwd())  # for the user's own modules
    sys.exit(exit_status(run))


def run() -> None:
    """Runs the command line. Raises what `exit_status` reports."""
    sys.argv[1:] = map(quoted, with_groups(sys.argv[1:]))
    problem = misspelled_key(sys.argv[1:]) or misused_group(sys.argv[1:])
    if problem:
        raise ConfigError(problem)
    register()
    register_files(sys.argv[1:])
    hydra.main(version_base="1.3", config_path=CONFIG_FOLDER, config_name="config")(task)()


def register() -> None:
    """Registers the plugins, the sweeps and the help with Hydra."""
    register_plugins()
    FileConfigSource.install()
    register_sweeps()
    ConfigStore.instance().store(group="hydra/help", name="keys", node=_help_node())
    _share_config_store()


def _share_config_store() -> None:
    """Keeps Hydra from copying the whole ConfigStore, our sweeps included, whenever it composes or lists a config.

    It copies its config sources, one of which refers to the store. That took most of the time of `--help`. Nothing
    changes the store through a source: what is read from it is a copy of its own.
    """

    def shared(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
        return store

    hydras: Any = ConfigStore
    hydras.__deepcopy__ = shared


def _help_node() -> dict[str, str]:
    rows = [*keys(Experiment), *launcher_keys(), *keys(CommandKeys)]
    lines = []
    sections: set[str] = set()
    for info in rows:
        section = info.name.partition(".")[0]
        if info.section and section not in sections:
            sections.add(section)
            lines.append(f"  {section + '.*':30} count with {told_conditions(*info.section)}")
        counts = f"counts with {told_conditions(info.when)}" if info.when else ""
        inside = "; ".join(filter(None, [info.accepted, counts]))
        line = f"  {info.name:30} {info.type:14} {info.doc}{f' ({inside})' if inside else ''}"
        # Hydra fills the template through string.Template and OmegaConf, to which $ is special.
        lines.append(line.replace("$", "$$"))
    return {"app_name": "simclr_ablate", "template": HELP.replace("KEYS", "\n".join(lines))}


HELP = """simclr_ablate: the ablation study of SimCLR, one command per table or figure

  python -m simclr_ablate                               one run
  python -m simclr_ablate key=value ...                 one run with other values
  python -m simclr_ablate -m sweep=augmentation_grid    a sweep
  python -m simclr_ablate -m sweep=FILE.yaml            a sweep of your own
  python -m simclr_ablate -m loss.temperature=0.1,0.5   any keys, every combination
  ... dry_run=true                                      print the plan and stop
  python -m simclr_ablate.status                        what the store holds
  python -m analysis                                    tables and figures

Groups (group=option); --config-dir DIR adds your own:

$APP_CONFIG_GROUPS
Keys (key=value):

KEYS

  --cfg job prints the composed config; --hydra-help lists Hydra's own flags.
"""


if __name__ == "__main__":
    main()
