"""The command: `python -m simclr_ablate [-m] [key=value ...]`. Compose, plan, launch."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from simclr_ablate.config import ConfigError, KeyInfo, keys, unknown_key
from simclr_ablate.launch.command import OK, REFUSED, execute, refusing
from simclr_ablate.launch.grid import experiment_sections, resolve
from simclr_ablate.launch.plugins import read_command, register_plugins
from simclr_ablate.launch.settings import LAUNCHERS
from simclr_ablate.own import look_in
from simclr_ablate.paths import config_folder
from simclr_ablate.schema import Experiment

CONFIG_FOLDER = str(config_folder("conf"))


def main() -> None:
    """Runs the command line; exits with 0, or 1 (a run failed), 2 (refused), 130 (stopped)."""
    look_in(os.getcwd())  # for modules of the user's own
    problem = misspelled_key(sys.argv[1:])
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(REFUSED)
    register()
    status = refusing(lambda: register_own_sweep(sys.argv[1:]))
    if status != OK:
        sys.exit(status)
    hydra_main()


def register() -> None:
    """Makes the plugins, the sweeps and the help known to Hydra."""
    register_plugins()
    store = ConfigStore.instance()
    for path in sorted(config_folder("sweeps").glob("*.yaml")):
        store.store(group="sweep", name=path.stem, node=OmegaConf.load(path))
    store.store(group="hydra/help", name="keys", node=_help_node())


def register_own_sweep(arguments: Sequence[str]) -> int:
    """Makes the file that `sweep=FILE.yaml` names known to Hydra, which finds it by that name; returns OK.

    A sweep that does not say its name has the file's. Raises ConfigError for no such file, and for one that is no YAML.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key != "sweep" or not value.endswith(".yaml"):
            continue
        path = Path(value)
        try:
            node = OmegaConf.merge({"name": path.stem}, OmegaConf.load(path))
        except (OSError, YAMLError, OmegaConfBaseException) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"sweep must be the name of a sweep or its file, got {value!r}: {reason}"
            ) from error
        group = "/".join(["sweep", *filter(None, value.split("/")[:-1])])  # as Hydra looks for it
        ConfigStore.instance().store(group=group, name=path.stem, node=node, package="sweep")
    return OK


@hydra.main(version_base="1.3", config_path=CONFIG_FOLDER, config_name="config")
def hydra_main(config: DictConfig) -> None:
    sys.exit(refusing(lambda: run_one(config)))


def run_one(config: DictConfig) -> int:
    """The command without `-m`: one experiment."""
    app = resolve(config)
    if app.get("sweep") is not None:
        raise ConfigError(f"sweep={app['sweep'].get('name')} holds many experiments: add -m")
    command = read_command(app, HydraConfig.get())
    return execute(command, [Experiment.from_config(experiment_sections(config))])


def misspelled_key(arguments: Sequence[str]) -> str | None:
    """A message for the first `key=value` whose key nobody could mean, before Hydra's own less helpful one."""
    known = [info.name for info in keys(Experiment)]
    known += [info.name for info in _launcher_keys()]
    sections = {name.split(".")[0] for name in known if "." in name}
    elsewhere = {"store", "cache", "dry_run", "scale", "sweep", "hydra"}
    if {"-sc", "--shell-completion"}.intersection(arguments):
        return None  # what follows is Hydra's own: install=bash
    for argument in arguments:
        name = argument.split("=")[0]
        if "=" not in argument or argument.startswith(("-", "+", "~")) or "@" in name:
            continue
        top = name.split(".")[0].split("/")[0]
        if name in known or name in sections or top in elsewhere:
            continue
        return unknown_key(name, [*known, *sections, *elsewhere])
    return None


def _launcher_keys() -> list[KeyInfo]:
    """The keys of all launchers; one that two of them have is named once, with the launchers' names."""
    found: dict[str, KeyInfo] = {}
    for settings in LAUNCHERS.values():
        for info in keys(settings, "launcher"):
            found.setdefault(info.name, info)
    return list(found.values())


def _help_node() -> dict[str, str]:
    rows = [*keys(Experiment), *_launcher_keys()]
    lines = []
    for info in rows:
        accepted = f" ({info.accepted})" if info.accepted else ""
        # Hydra fills the template with string.Template and OmegaConf: neither character may stand alone.
        lines.append(f"  {info.name:30} {info.type:14} {info.doc}{accepted}".replace("$", "$$"))
    return {"app_name": "simclr_ablate", "template": HELP.replace("KEYS", "\n".join(lines))}


HELP = """simclr_ablate: the ablation study of SimCLR, one command per table or figure

  python -m simclr_ablate                               one run
  python -m simclr_ablate key=value ...                 one run, changed
  python -m simclr_ablate -m sweep=augmentation_grid    a sweep
  python -m simclr_ablate -m sweep=FILE.yaml            a sweep of your own
  python -m simclr_ablate -m loss.temperature=0.1,0.5   any keys, multiplied
  ... dry_run=true                                      the plan, and nothing else
  python -m simclr_ablate.status                        what the store holds
  python -m analysis                                    tables and figures

Groups (group=option), each with files of your own through --config-dir DIR:

$APP_CONFIG_GROUPS
Keys (key=value):

KEYS
  store                          str            folder of the runs
  cache                          str or null    folder of decoded images; null: $$SIMCLR_ABLATE_CACHE or ~/.cache
  dry_run                        bool           print the plan and start nothing

  --cfg job prints the composed config; --hydra-help Hydra's own flags.
"""


if __name__ == "__main__":
    main()
