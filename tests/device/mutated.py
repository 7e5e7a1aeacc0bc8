"""Runs of a copy of the package in which one line has been changed, each in a process of its own.

`python -m tests.device.mutated FOLDER`: prints a line of JSON for each of MUTATIONS, its number and how its run ended,
and one for the package as it is. The copies are made in FOLDER.
"""

import importlib
import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

BLUR, BROADER = "views: pair of blur alone", "views: extra broader"
MUTATIONS: tuple[tuple[str, str, str, str], ...] = (
    # File, what is there, what takes its place, and the case of test_tasks that is run.
    ("device.py", "    if not is_accelerator(device):\n        return tree", "    return tree", "protocol: knn"),
    ("tasks/networks.py", "encoder.to(device).to(", "encoder.to(", "protocol: knn"),
    ("tasks/networks.py", ", head.to(device)", ", head", "loss: nt_xent"),
    ("augment/policies.py", "prepared, positions = send(", "prepared, _ = send(", "loss: nt_xent"),
    ("augment/policies.py", "device=images.device, memory_format", "memory_format", "loss: nt_xent"),
    ("augment/resampling.py", "interpolation).to(device)", "interpolation)", "loss: nt_xent"),
    ("augment/filters.py", ".flatten(1).to(device)", ".flatten(1)", BLUR),
    ("augment/filters.py", "radius + 1, device=images.device, ", "radius + 1, ", BLUR),
    ("augment/filters.py", "(extent, device=images.device, ", "(extent, ", BROADER),
    ("augment/color.py", ".view(3, 1, 1).to(device)", ".view(3, 1, 1)", "loss: nt_xent"),
    ("augment/color.py", "dtype=torch.int64, device=levels.device", "dtype=torch.int64", BROADER),
    ("augment/auto_augment.py", "(width, device=levels.device)", "(width)", "views: autoaugment"),
    ("training/supervised.py", "send(batch.labels, self.training.device)", "batch.labels", "objective: supervised"),
    ("training/loop.py", "torch.stack(self._unseen).cpu().double()", "torch.stack(self._unseen)", "loss: nt_xent"),
    ("losses/blockwise.py", "positive = v.new_zeros(", "positive = torch.zeros(", "loss: nt_xent"),
    ("losses/semi_hard.py", ", device=positive.device", "", "loss: margin_triplet semi-hard"),
    ("evaluation/features.py", "images = images.to(device, non_blocking=True)", "images = images", "protocol: knn"),
    ("evaluation/knn.py", "labels = train.labels.to(device)", "labels = train.labels", "protocol: knn"),
    ("evaluation/knn.py", "F.normalize(block.float().to(device))", "F.normalize(block.float())", "protocol: knn"),
    ("evaluation/linear.py", "self.labels = data.labels.to(device)", "self.labels = data.labels", "protocol: linear"),
    ("evaluation/linear.py", "problem.inputs.shape[1], device=device)", "problem.inputs.shape[1])", "protocol: linear"),
    ("evaluation/probe.py", "y = train.labels.to(device)", "y = train.labels", "protocol: probe of color"),
    ("evaluation/training.py", "subject.classes).to(device)", "subject.classes)", "protocol: linear_sgd"),
)  # fmt: skip


UNCHANGED = "loss: nt_xent"
"""The case for the package as it is."""


def main(folder: Path) -> None:
    # What others have written, once for all; nothing that imports the package, nor starts autograd's threads.
    for name in ("hydra", "numpy", "pandas", "pytest", "rich.progress", "torchvision"):
        importlib.import_module(name)
    assert not any(name.startswith("simclr_ablate") for name in sys.modules)
    composed = folder / "composed"
    if status := _forked(_compose, composed):
        sys.exit(f"composing died with status {status}")
    cases = pickle.loads(composed.read_bytes())
    for number in range(-1, len(MUTATIONS)):
        if status := _forked(_tell_ending, number, folder / str(number), cases):
            _tell(number, f"died with status {status}")


def _forked(act: Callable[..., None], *arguments: Any) -> int:
    """Acts in a process of its own; how that ended."""
    process = os.fork()
    if process == 0:
        act(*arguments)
        os._exit(0)
    return os.waitpid(process, 0)[1]


def _tell(number: int, ending: str | None) -> None:
    print(json.dumps([number, ending]), flush=True)


def _tell_ending(number: int, folder: Path, cases: dict[str, Any]) -> None:
    _tell(number, _carry_out(number, folder, cases))


def _compose(path: Path) -> None:
    """Writes the sections of each case's experiment to `path`.

    It takes longer than a run, and no mutation concerns it.
    """
    from hydra import compose, initialize_config_dir

    from simclr_ablate.plan.grid import experiment_sections
    from simclr_ablate.run import CONFIG_FOLDER, register
    from tests.device.test_tasks import CASES, COMMON

    register()
    cases = {UNCHANGED, *(case for *_, case in MUTATIONS)}
    with initialize_config_dir(CONFIG_FOLDER, version_base="1.3"):
        composed = {case: compose("config", [*COMMON, *CASES[case]]) for case in cases}
    path.write_bytes(pickle.dumps({case: experiment_sections(composed[case]) for case in cases}))


def _carry_out(number: int, folder: Path, cases: dict[str, Any]) -> str | None:
    """How the run with this mutation, or -1 for none, ended: the reason for which it failed."""
    shutil.copytree(ROOT / "simclr_ablate", folder / "simclr_ablate")
    for name in ("conf", "sweeps"):
        (folder / name).symlink_to(ROOT / name)
    case = UNCHANGED
    if number >= 0:
        file, before, after, case = MUTATIONS[number]
        path = folder / "simclr_ablate" / file
        source = path.read_text()
        assert source.count(before) == 1, f"{file} has {source.count(before)} times {before!r}"
        path.write_text(source.replace(before, after))
    sys.path.insert(0, str(folder))

    import simclr_ablate

    assert Path(simclr_ablate.__file__).is_relative_to(folder)

    from simclr_ablate.launch import worker
    from simclr_ablate.plan.plan import make_plan
    from simclr_ablate.schema import Experiment
    from simclr_ablate.stopping import StopSignal
    from simclr_ablate.store import Store
    from tests.device import sim

    sim.install()
    store, cache = Store(folder / "store"), str(folder / "cache")
    plan = make_plan([Experiment.from_config(cases[case])], store, None, cache)
    job = worker.Job.of(plan, plan.runs[0], cache, 1, device="sim:0", keeps_log=False)
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - tracebacks that are wanted
    return worker.carry_out_job(job, StopSignal()).reason


if __name__ == "__main__":
    main(Path(sys.argv[1]))
