"""The commands that a report names are those that made its runs, given to the real command up to the launch."""

import itertools
import shlex

import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import analysis
from analysis.artefacts import ARTEFACTS
from analysis.command_line import commands, covering
from simclr_ablate.__main__ import main
from simclr_ablate.launch import command as commands_module
from simclr_ablate.launch.command import ExitStatus
from simclr_ablate.store import Store, SweepRecord

BEGIN = ["simclr-ablate"]


@pytest.fixture
def plan(monkeypatch):
    """`plan(line)`: the plan of a command line, once the store has its record, and all that may follow from it."""

    def run(line):
        plans = []

        def keep(command, plan, *_):
            plans.append(plan)
            return ExitStatus.OK

        monkeypatch.setattr(commands_module, "launch", keep)
        words = shlex.split(line)
        assert words[:1] == BEGIN
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # which the command sets for its process
        monkeypatch.setattr("sys.argv", words)
        GlobalHydra.instance().clear()
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
        (planned,) = plans
        return planned

    return run


@pytest.fixture
def told(tmp_path, make, plan):
    """`told(artefact, arguments, ...)`: the report on all that these command lines plan, stored as if they had run, and
    its commands."""

    def report(name, *lines):
        store = tmp_path / "runs"
        number = 0
        for line in lines:
            planned = plan(shlex.join([*BEGIN, *shlex.split(line), f"store={store}"]))
            later = [one for choose in planned.pending for one in choose.experiments()]
            for experiment in (*(one.experiment for one in planned.runs), *later):
                metrics = {"probe_accuracy": 50.0} if experiment.evaluation.probe else None
                make.put(store, experiment, 40.0 + number % 7, metrics=metrics)
                number += 1
        runs = analysis.load(store)
        (found,) = ARTEFACTS[name].reports(runs)
        return found, commands(ARTEFACTS[name], found, runs)

    return report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("figure5", ["optimizer.epochs=3", "views.crop_area=0.08"]),
        ("table1", ["seed=0,1,2", "launcher.parallel=1", "compute.threads=1"]),
        ("table4", ["seed=0,1", "scale.epochs=2"]),
        ("table5", ["encoder.width=2", "data.limit=640", "data.label='a b, c=d'"]),
        ("tableB1", ["scale=paper", "data=stl10"]),
    ],
)
def test_the_command_is_the_one_that_was_given(told, tmp_path, name, overrides):
    given = [f"sweep={ARTEFACTS[name].sweep}", *overrides]
    _, (command, drawn) = told(name, shlex.join(["-m", *given]))
    kept = [each for each in given if not each.startswith("launcher")]
    assert shlex.split(command) == [*BEGIN, "-m", *kept, f"store={tmp_path / 'runs'}"]
    assert shlex.split(drawn) == [*BEGIN, "analyse", f"store={tmp_path / 'runs'}"]


def test_it_plans_the_same_runs(told, plan):
    report, (command, _) = told("table5", "-m sweep=temperature \"data.label='a `b` $c'\"")
    assert set(report.run_ids) <= {planned.run_id for planned in plan(command).runs}


def test_a_folder_of_images_is_named(told, plan, tmp_path):
    folder = tmp_path / "my photos"
    for split, name in itertools.product(("train", "test"), ("cats", "dogs")):
        (folder / split / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (32, 32)).save(folder / split / name / f"{number}.png")
    line = (
        "-m sweep=temperature data=image_folder data.validation=4 evaluation.knn=3 "
        f"""optimizer.batch_size=4 "data.root='{folder}'" """
    )
    report, (command, _) = told("table5", line)
    assert {planned.run_id for planned in plan(command).runs} == set(report.run_ids)


def test_each_sweep_of_a_union_has_its_own_command(told, tmp_path):
    line = "-m sweep=augmentation_grid,temperature seed=4 evaluation.data=shapes"
    _, (command, _) = told("figure5", line)
    assert shlex.split(command)[1:5] == [
        *("-m", "sweep=augmentation_grid", "seed=4", "evaluation.data=shapes")
    ]


def test_runs_of_several_launches_have_several_commands(told):
    first = "-m sweep=augmentation_grid optimizer.epochs=3 seed=0"
    report, (one, other, _) = told("figure5", first, first.replace("seed=0", "seed=1"))
    assert len(report.run_ids) > 49
    assert {shlex.split(line)[3] for line in (one, other)} == {"optimizer.epochs=3"}
    assert {shlex.split(line)[4] for line in (one, other)} == {"seed=0", "seed=1"}


def test_a_sweep_in_a_file_is_called_by_it(told, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: other\ngrids:\n- loss.temperature: [0.1, 0.5]\n")
    _, (command, _) = told("table5", f"-m sweep={path}")
    assert shlex.split(command)[2] == f"sweep={path}"


def test_of_an_earlier_versions_store_the_sweep_alone_is_known(make, tmp_path):
    made = [
        make.put(tmp_path, make.pair("crop", second), 50.0).run_id for second in ("crop", "color")
    ]
    runs = analysis.load(tmp_path)
    artefact = ARTEFACTS["figure5"]
    (report,) = artefact.reports(runs)
    bare = [*BEGIN, "-m", "sweep=augmentation_grid", f"store={tmp_path}"]
    assert shlex.split(commands(artefact, report, runs)[0]) == bare
    Store(tmp_path).record_sweep("mine", made)
    assert "sweep=mine" in commands(artefact, report, runs)[0]


def test_few_launches_that_have_all_runs_are_chosen_and_the_artefacts_own_first():
    launches = [
        SweepRecord("union", ("a", "b", "c", "x", "y"), 1.0),
        SweepRecord("own", ("a",), 2.0),
        SweepRecord("own", ("a", "b"), 3.0),
        SweepRecord("other", ("c", "d"), 4.0),
        SweepRecord("wide", ("c", "d", "e"), 5.0),
    ]
    assert covering("own", launches, ["a", "b", "c", "d"]) == [launches[2], launches[3]]
    assert covering("own", launches, ["a", "x", "nowhere"]) == [launches[1], launches[0]]
    assert covering("own", [], ["a"]) == []


def test_what_needs_no_runs_has_one_command(make, tmp_path):
    make.put(tmp_path / "runs", make.experiment())
    runs = analysis.load(tmp_path / "runs")
    (report,) = ARTEFACTS["table2"].reports(runs)
    assert commands(ARTEFACTS["table2"], report, runs) == ["simclr-ablate analyse"]
