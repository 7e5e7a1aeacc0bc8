"""The commands that a report tells, carried out up to their experiments: the runs that it lists are among them."""

import dataclasses
import shlex

import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import analysis
from analysis.artefacts import ARTEFACTS
from analysis.commands import commands
from simclr_ablate.__main__ import main
from simclr_ablate.identity import run_id
from simclr_ablate.launch import plugins
from simclr_ablate.launch.command import Ended, ExitStatus
from simclr_ablate.launch.plan import Plan, complete_data


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """`experiments(line)`: its store, and all that either stage of a command line may run, completed."""

    def expand(line):
        found = []

        def keep(command, planned, sweeps=(), selections=(), jobs=None):
            later = [one for selection in selections for one in selection.experiments()]
            found.extend([command.store.root, *dict.fromkeys([*planned, *later])])
            return Ended(ExitStatus.OK, Plan(None, (), command.store))

        monkeypatch.setattr(plugins, "execute", keep)
        python, option, module, *arguments = shlex.split(line)
        assert (python, option, module) == ("python", "-m", "simclr_ablate")
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which the command sets for its process
        monkeypatch.setattr("sys.argv", [module, *arguments])
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        store, *listed = found
        data = {one.data: complete_data(one.data, str(tmp_path)) for one in listed}
        return store, [dataclasses.replace(one, data=data[one.data]) for one in listed]

    return expand


@pytest.fixture
def told(tmp_path, make, experiments):
    """`told(artefact, line, ...)`: the report on all that these lines run, stored as if they had, its commands, and
    what the lines run."""

    def report(name, *lines):
        launched = [one for line in lines for one in experiments(line)[1]]
        for k, experiment in enumerate(launched):
            metrics = {"probe_accuracy": 50.0} if experiment.evaluation.probe else None
            make.put(tmp_path / "runs", experiment, 40.0 + k % 7, metrics=metrics)
        runs = analysis.load(tmp_path / "runs")
        artefact = ARTEFACTS[name]
        (found,) = artefact.module().reports(artefact.runs_for(runs))
        return found, commands(artefact, found, runs), run_ids(launched)

    return report


def run_ids(listed):
    return {run_id(experiment) for experiment in listed}


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("figure5", ""),
        ("figure5", "optimizer.epochs=3 views.crop_area=0.08"),
        ("table1", "seed=0,1,2"),
        ("table3", "scale=cifar10 data=cifar100 seed=4"),
        ("table4", "seed=0,1"),
        ("table5", "encoder.width=2 data.limit=640 data.label=\"'a b, c=d'\""),
        ("figure7", "scale=cifar10 optimizer.weight_decay=0.01 precision=float32"),
        ("figure8", "evaluation.l2_count=2 loss=nt_logistic loss.temperature=0.3"),
        ("figure9", "data=cifar10 optimizer=sgd optimizer.micro_batch=16 seed=1,2"),
        ("tableB1", "scale=paper data=stl10"),
        ("tableB3", "seed=7"),
    ],
)
def test_the_command_makes_the_runs_and_no_others(told, experiments, tmp_path, name, overrides):
    line = f"python -m simclr_ablate -m sweep={ARTEFACTS[name].sweep} {overrides}"
    report, (command, drawn), launched = told(name, line)
    store, listed = experiments(command)
    assert str(store) == str(tmp_path / "runs")
    assert shlex.split(drawn)[-2:] == ["--store", str(tmp_path / "runs")]
    assert set(report.run_ids) <= run_ids(listed) == launched


def test_a_folder_of_images_is_named(told, experiments, tmp_path):
    folder = tmp_path / "my photos"
    for split in ("train", "test"):
        (folder / split / "cats").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / split / "cats" / "one.png")
    line = (
        "python -m simclr_ablate -m sweep=temperature data=image_folder data.validation=7 "
        f"""data.root="'{folder}'" """
    )
    report, (command, _), _ = told("table5", line)
    assert set(report.run_ids) == run_ids(experiments(command)[1])


def test_runs_beside_the_sweep_have_a_command_of_their_own(told, experiments):
    grid = "python -m simclr_ablate -m sweep=augmentation_grid optimizer.epochs=3"
    report, (command, beside, _), _ = told(
        "figure5", grid, "python -m simclr_ablate -m seed=4,5 optimizer.epochs=3"
    )
    made = [run_ids(experiments(line)[1]) for line in (command, beside)]
    assert len(made[1]) == 2
    assert set(report.run_ids) == set.union(*made)


def test_what_needs_no_runs_has_one_command(make, tmp_path):
    make.put(tmp_path / "runs", make.experiment())
    (report,) = ARTEFACTS["table2"].module().reports(None)
    told = commands(ARTEFACTS["table2"], report, analysis.load(tmp_path / "runs"))
    assert told == ["python -m analysis"]
