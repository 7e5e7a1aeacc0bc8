"""What tests share: the composed default config, a way to change it, modules of a user's, and shared runs."""

import functools
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from analysis.artefacts import ARTEFACTS
from simclr_ablate.launch.local import PRELOAD
from simclr_ablate.plan.grid import experiment_sections
from simclr_ablate.ranks import join
from simclr_ablate.run import CONFIG_FOLDER, register
from simclr_ablate.schema import Experiment

# A shell starts what it puts in the background with SIGINT ignored, and nohup with SIGHUP. Then so do the commands that
# tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The jobs that tests write down are not those of a cluster which happens to be here. tests/slurm reaches its own.
os.environ["SLURM_CONF"] = os.devnull

CLUSTER = "tests/slurm/"
DEVICE = "tests/device/"
WAITING = "tests/launch/"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts tests that mostly wait beside others (`pytest -n 4`): those on the cluster are among the first, in a process
    of their own; those of the launchers are spread evenly, file by file. Those of the simulated accelerator come before
    all, since autograd asks once a process for its devices. All on the cluster or that accelerator are slow.
    """
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for file in dict.fromkeys(_file(item) for item in items):
        kinds[file.startswith(WAITING)].append(file)
    place = {
        file: (index + 0.5) / len(files)
        for files in kinds.values()
        for index, file in enumerate(files)
    }
    first = (DEVICE, CLUSTER)

    def order(item: pytest.Item) -> tuple[list[bool], float]:
        return [not _file(item).startswith(folder) for folder in first], place[_file(item)]

    items.sort(key=order)
    for item in items:
        if _file(item).startswith(first):
            item.add_marker(pytest.mark.slow)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run in one process, and so do all that share the cluster, or the simulated accelerator."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            for folder in (DEVICE, CLUSTER):
                if nodeid.startswith(folder):
                    return folder
            return super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _fork_server() -> None:
    """One that has loaded everything its children may need. Otherwise the first test to ask for a fork server decides
    what it has loaded, and after a test of the analysis each run would load torch by itself."""
    artefacts = [artefact.module_name for artefact in ARTEFACTS.values()]
    command = ["simclr_ablate.run", "simclr_ablate.launch.plugins", "simclr_ablate.plan.yaml_files"]
    modules = [*PRELOAD, *command, "hydra", "analysis.writing", *artefacts]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    forkserver.ensure_running()


@pytest.fixture(scope="session")
def compose_config() -> Callable[[list[str]], Any]:
    """Override strings -> the app's config, composed by Hydra as the command does."""
    register()

    def build(overrides: list[str]) -> Any:
        GlobalHydra.instance().clear()
        with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
            return compose("config", overrides, return_hydra_config=False)

    return build


@pytest.fixture(scope="session")
def make_experiment(compose_config: Callable[[list[str]], Any]) -> Callable[..., Experiment]:
    """`make_experiment("seed=1", ...)`: the checked experiment of those overrides, composed once a session."""

    @functools.cache
    def build(*overrides: str) -> Experiment:
        return Experiment.from_config(experiment_sections(compose_config(list(overrides))))

    return build


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's content."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target / "site")
    return target / "site"


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """`own_module(source)`: the name of a module of a user's that can be imported during the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []

    def write(source: str) -> str:
        names.append(f"mine_{uuid.uuid4().hex}")
        (tmp_path / f"{names[-1]}.py").write_text(source)
        importlib.invalidate_caches()
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can look into, which pytest's are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def on_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """`on_ranks(2, function, ...)`: what `function(ranks, ...)`, at a module's top, returns in each of 2 processes."""
    monkeypatch.syspath_prepend(
        str(Path(__file__).parents[1])
    )  # for them to import the test's module
    context = multiprocessing.get_context("forkserver")

    def run(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        folder = tmp_path / f"ranks{len(list(tmp_path.glob('ranks*')))}"
        folder.mkdir()
        processes = [
            context.Process(target=_be_rank, args=(index, count, folder, function, arguments))
            for index in range(count)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            process.kill()
        assert [process.exitcode for process in processes] == [0] * count
        return [torch.load(folder / f"{k}.pt", weights_only=False) for k in range(count)]

    return run


def _be_rank(
    index: int, count: int, folder: Path, function: Callable[..., Any], arguments: Any
) -> None:
    torch.set_num_threads(1)
    with join(index, count, f"file://{folder}/meet", torch.device("cpu")) as ranks:
        result = function(ranks, *arguments)
    torch.save(result, folder / f"{index}.pt")
