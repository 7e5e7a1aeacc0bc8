"""What a command's `sweep` and swept keys name is planned whole, or refused by name in one line."""

import contextlib
import io
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from simclr_ablate import run as command
from simclr_ablate.config import ConfigError
from simclr_ablate.launch.task import exit_status
from simclr_ablate.plan.yaml_files import read_yaml

Planned = Callable[..., tuple[int, str]]


@pytest.fixture
def planned(tmp_path, monkeypatch) -> Planned:
    """`planned(...)`: exit status and output of the command in this process, with dry_run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv("COLUMNS", "250")

    def give(*arguments: str) -> tuple[int, str]:
        dry = [] if any(a.startswith("dry_run=") for a in arguments) else ["dry_run=true"]
        flags = [a for a in arguments if a.startswith("-")]
        words = [a for a in arguments if not a.startswith("-")]
        monkeypatch.setattr(sys, "argv", ["simclr_ablate", *flags, *words, *dry])
        GlobalHydra.instance().clear()
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            try:
                status = exit_status(command.run)
            except SystemExit as ended:
                status = int(ended.code or 0)
        return status, told.getvalue()

    return give


def count(output: str) -> int:
    """The experiments that a plan says it has."""
    (line,) = [line for line in output.splitlines() if "already finished" in line]
    return int(line.rpartition(": ")[2].split()[0])


def runs(output: str) -> set[str]:
    return {word for line in output.splitlines() for word in line.split() if word[:6] == "shapes"}


@pytest.mark.slow
def test_a_list_of_sweeps_is_their_union(planned: Planned) -> None:
    alone = [runs(planned("-m", f"sweep={name}")[1]) for name in ("temperature", "batch_size")]
    for together in ("sweep=temperature,batch_size", "sweep=[temperature,batch_size]"):
        status, output = planned("-m", together)
        assert status == 0, output
        assert runs(output) == alone[0] | alone[1]
        assert count(output) == len(alone[0] | alone[1])


def test_a_pattern_of_sweeps_is_their_union(planned: Planned) -> None:
    _, expected = planned("-m", "sweep=[temperature,transformation_probe]")
    status, output = planned("-m", "sweep=glob(t*e)")
    assert status == 0, output
    assert runs(output) == runs(expected)
    assert count(output) == count(expected)


def test_a_pattern_of_options_is_each_of_them(planned: Planned) -> None:
    status, output = planned("-m", "loss=glob(nt_*)")
    assert status == 0, output
    assert count(output) == 2


@pytest.mark.slow
def test_a_scale_that_is_swept_has_its_own_values(planned: Planned) -> None:
    scales = ("laptop", "cifar10")
    alone = [count(planned("-m", f"scale={scale}", "sweep=temperature")[1]) for scale in scales]
    status, output = planned("-m", f"scale={','.join(scales)}", "sweep=temperature")
    assert status == 0, output
    assert count(output) == sum(alone)
    batches = [count(planned("-m", f"scale={scale}", "sweep=batch_size")[1]) for scale in scales]
    assert batches[0] != batches[1], "so that the test can fail"
    assert count(planned("-m", f"scale={','.join(scales)}", "sweep=batch_size")[1]) == sum(batches)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["launcher=local,slurm"], "launcher holds for the whole command and cannot be swept"),
        (["store=a,b"], "store holds for the whole command and cannot be swept, got a, b"),
        (["cache=a,b"], "cache holds for the whole command"),
        (["dry_run=true,false"], "dry_run holds for the whole command"),
        (["launcher.parallel=1,2"], "launcher.parallel holds for the whole command"),
        (["+foo=1,2"], "unknown key foo"),
        (["+scale.epoch=3"], "unknown key scale.epoch; did you mean scale.epochs?"),
        (["seed=interval(0,3)"], "seed must have values that can be listed"),
        (["seed=range(3,0)"], "seed must have at least one value"),
        (["loss.temperature=glob(*)"], "loss.temperature must have at least one value"),
        (["sweep=glob(nothing*)"], "sweep must have at least one value"),
        (["sweep=temperatur"], "sweep/temperatur"),
        (["loss=null,nt_xent"], "loss must be the name of a config file, got null,nt_xent"),
        (["loss=true"], "loss must be the name of a config file, got true"),
        (
            ["compute={threads:1},{threads:2}"],
            "compute must be swept key by key, such as compute.th",
        ),
        (
            ["launcher.parallel=${optimizer.epochs}", "scale=laptop,cifar10", "data=shapes"],
            "scale=cifar10 changes launcher, which must be the same for all experiments",
        ),
        (
            ["hydra/launcher=slurm", "hydra.launcher.time_minutes=${optimizer.epochs}"],
            "hydra.launcher.time_minutes holds for the whole command and cannot refer to",
        ),
        (["hydra.job.name=a,b"], "Sweeping over Hydra's configuration is not supported"),
    ],
)
def test_what_cannot_be_swept_is_refused_by_name(planned: Planned, arguments, message) -> None:
    status, output = planned("-m", *arguments)
    assert status == 2, output
    (line,) = output.splitlines()
    assert line.startswith("error: ")
    assert message in line


FOLLOWING = {
    "optimizer/follows.yaml": "defaults: [adamw]\nweight_decay: ${loss.temperature}\n",
    "optimizer/selects.yaml": "defaults: [adamw]\nweight_decay: ${oc.select:loss.temperature}\n",
}


def own_groups(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return f"--config-dir={folder}"


@pytest.mark.slow
def test_what_a_swept_group_refers_to_is_followed(planned: Planned, tmp_path) -> None:
    """Otherwise runs that differ would be dropped as doubles."""
    flag = own_groups(tmp_path / "config", FOLLOWING)
    for optimizers in ("follows,adamw", "selects,adamw", "follows", "adamw,follows,selects"):
        values = ("0.1", "0.2", "0.3")
        status, output = planned(
            "-m", flag, f"optimizer={optimizers}", f"loss.temperature={','.join(values)}"
        )
        assert status == 0, output
        # Two files that say the same in other words hold the same experiments.
        assert count(output) == 3 + 3 * ("adamw" in optimizers), output
        assert all(value in output for value in values)


def test_a_sweep_may_refer_to_what_the_command_sweeps(planned: Planned, tmp_path) -> None:
    for reference in ("${optimizer.lr}", "${oc.select:optimizer.lr}"):
        (tmp_path / "mine.yaml").write_text(f"grids:\n  - loss.temperature: ['{reference}', 0.9]\n")
        status, output = planned("-m", "sweep=./mine.yaml", "optimizer.lr=0.1,0.2")
        assert status == 0, output
        assert count(output) == 4


def test_one_reference_may_bring_in_the_next(planned: Planned, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("grids:\n  - optimizer.weight_decay: '${views.strength}'\n")
    strengths = r"views.strength=${loss.temperature},${optimizer.lr}"
    status, output = planned("-m", "sweep=./mine.yaml", strengths, "loss.temperature=0.11,0.55")
    assert status == 0, output
    assert count(output) == 4
    # Each time as the temperature, as the strength and as the weight decay; and twice beside the learning rate.
    assert (output.count(" 0.11 "), output.count(" 0.55 ")) == (4, 4)


def test_keys_that_the_command_sets_in_one_mapping_win_too(planned: Planned) -> None:
    status, output = planned("-m", "sweep=color_strength", "views={strength: 0.9}")
    assert status == 0, output
    assert "views.strength" not in output


def test_a_sweep_that_refers_to_what_it_varies_is_refused(planned: Planned, tmp_path) -> None:
    grid = "grids:\n  - loss.temperature: ['${optimizer.lr}']\n    optimizer.lr: [0.1, 0.2]\n"
    (tmp_path / "mine.yaml").write_text(grid)
    status, output = planned("-m", "sweep=./mine.yaml")
    assert status == 2
    assert output == (
        "error: sweep=./mine.yaml varies optimizer.lr and has values that refer to it: "
        "write them out, or give -m optimizer.lr=0.1,0.2\n"
    )
    status, output = planned("-m", "sweep=./mine.yaml", "optimizer.lr=0.1,0.2")
    assert (status, count(output)) == (0, 2)


def test_a_swept_value_may_refer_to_a_key(planned: Planned) -> None:
    status, output = planned("-m", "loss.temperature=${optimizer.lr},0.5", "optimizer.lr=0.1,0.2")
    assert status == 0, output
    assert count(output) == 4


@pytest.mark.slow
def test_swept_values_are_hydras_own(planned: Planned) -> None:
    assert "seed must be" in planned("-m", "seed=010,2")[1]
    for labels in ("@a,@b", r"'it\'s',b", "'x, y',b"):
        status, output = planned("-m", f"data.label={labels}")
        assert status == 0, output


def test_what_the_whole_command_has_cannot_follow_what_is_swept(planned: Planned) -> None:
    status, output = planned("-m", "store='runs/${seed}'", "seed=0,1")
    assert status == 2
    assert output == (
        "error: seed=1 changes store, which must be the same for all experiments of a sweep: "
        "give a command for each value\n"
    )


def test_a_part_that_holds_nothing_is_named(planned: Planned, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text("grids: []\n")
    status, output = planned("-m", "sweep=[temperature,./mine.yaml]")
    assert (status, output) == (2, "error: sweep=mine holds no experiments\n")


def test_the_folder_of_another_sweeper_is_below_the_store(planned: Planned, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    basic = ("-m", "hydra/sweeper=basic", "seed=0")
    status, output = planned(*basic, "store='~/my_runs'")
    assert status == 0, output
    assert not list(tmp_path.iterdir()), "a dry run has left something"
    # Refused as soon as there is a job, so that nothing is trained here.
    status, output = planned(*basic, "store='~/my_runs'", "dry_run=false", "loss.temperature=-1")
    assert status == 2, output
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert list((tmp_path / "home/my_runs/.hydra").glob("*/multirun.yaml"))
    (tmp_path / "file").touch()
    status, output = planned(*basic, "store=file/my_runs", "dry_run=false")
    assert status == 2
    (line,) = output.splitlines()
    assert "file is a file, not a folder; choose another place with store=DIR" in line


def test_keys_of_another_launcher_are_refused(planned: Planned) -> None:
    for key, instead in (
        ("launcher.parallel=3", "give hydra.launcher.parallel"),
        ("launcher=slurm", "leave it out"),
    ):
        status, output = planned("-m", "hydra/launcher=slurm", key, "seed=0,1")
        assert status == 2, output
        assert f"means nothing with hydra/launcher=slurm: {instead}, got {key}" in output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid:\n  - seed: [0]\n", "unknown key sweep.grid; did you mean sweep.grids?"),
        ("grids:\n  - loss:\n      temperature: [0.1]\n", "written as loss.temperature"),
        ("grids:\n  - scale.lengths: [[1], [2]]\n", "scale.lengths must have single values"),
        ("grids: []\n", "holds no experiments"),
        ("seeds: []\ngrids:\n  - head: none\n", "sweep: seeds must have at least one value"),
        ("grids:\n  - launcher: [local, slurm]\n", "launcher holds for the whole command"),
        ("grids:\n  - scale: [laptop, paper]\n", "scale cannot be varied in a sweep"),
        ("sweeps: []\n", "sweep.sweeps must be a list of sweeps"),
        ("sweeps: [./mine.yaml]\n", "unites itself"),
        (
            "artefact: figure55\ngrids:\n  - seed: [0]\n",
            "got 'figure55' in ./mine.yaml; did you mean figure5?",
        ),
        ("name: a/b\ngrids:\n  - seed: [0]\n", "sweep.name must be a valid file name"),
        ("name: ../../out\ngrids:\n  - seed: [0]\n", "sweep.name must be a valid file name"),
        ("name: .hidden\ngrids:\n  - seed: [0]\n", "sweep.name must be a valid file name"),
        ("name: 3\ngrids:\n  - seed: [0]\n", "sweep.name must be a valid file name"),
        (
            "name: " + "a" * 300 + "\ngrids:\n  - seed: [0]\n",
            "sweep.name must be a valid file name",
        ),
        ("grids:\n  - seed: [0]\ngrids:\n  - seed: [1]\n", "the key grids is given twice"),
        (
            "grids:\n  - seed: ${nope}\n",
            "sweep=./mine.yaml, line 2: sweep.grids[0].seed: Interpolation key 'nope' not found",
        ),
        (
            "artefact:\n  title: 'Cost ${x}'\n  rows: head.kind\ngrids:\n  - seed: [0]\n",
            "sweep=./mine.yaml, line 2: sweep.artefact.title: Interpolation key 'x' not found",
        ),
        ("grids:\n  - hydra.job.num: [1, 2]\n", "hydra.job.num cannot be varied in a sweep"),
        ("grids:\n  - ++optimizer.lr: [0.1]\n", "must be written without +, as optimizer.lr"),
        ("grids:\n  - loss: [null, nt_xent]\n", "loss must be the name of a config file, got null"),
        ("seeds: [1, 2]\ngrids:\n  - optimizer.lr: '${seed}'\n", "varies seed and has values"),
        (
            "grids:\n  - scale.linear_lr: [0.1]\n    optimizer.lr: '${scale.linear_lr}'\n",
            "varies scale.linear_lr and has values that refer to it",
        ),
    ],
)
def test_what_is_no_sweep_is_refused_by_name(planned: Planned, tmp_path, text, message) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    status, output = planned("-m", "sweep=./mine.yaml")
    assert status == 2, output
    (line,) = output.splitlines()
    assert message in line


GRID = "grids:\n  - loss.temperature: [0.1, 0.3]\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "encoding", "argument"),
    [
        ("t=0.1.yaml", "utf-8", "sweep='{path}'"),
        ("two words, and more.yaml", "utf-8", "sweep='{path}'"),
        ("short.yml", "utf-8", "sweep={path}"),
        ("bom.yaml", "utf-8-sig", "sweep={path}"),
        ("wide.yaml", "utf-16", "sweep={path}"),
        ("here.yaml", "utf-8", "sweep=here.yaml"),
        ("both.yaml", "utf-8", "sweep=[{path},temperature]"),
    ],
)
def test_a_file_is_found_and_read(planned: Planned, tmp_path, name, encoding, argument) -> None:
    (tmp_path / name).write_bytes(("# Temperatur – τ\n" + GRID).encode(encoding))
    status, output = planned("-m", argument.format(path=tmp_path / name))
    assert status == 0, output
    assert count(output) >= 2
    assert Path(name).stem in output


def test_home_is_where_a_sweep_may_lie(planned: Planned, tmp_path, monkeypatch) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/mine.yaml").write_text(GRID)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert count(planned("-m", "sweep='~/mine.yaml'")[1]) == 2


def test_other_encodings_are_refused_by_name(planned: Planned, tmp_path) -> None:
    (tmp_path / "latin.yaml").write_bytes(("# caf\u00e9\n" + GRID).encode("latin-1"))
    status, output = planned("-m", "sweep=latin.yaml")
    assert status == 2
    assert "error: sweep=latin.yaml must be text in UTF-8: byte 6 cannot be read" in output


def bomb(levels: int = 12) -> str:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{','.join([f'*a{level - 1}'] * 9)}]")
    return "\n".join(lines) + "\n"


def test_a_few_bytes_that_stand_for_billions_are_refused_at_once(
    planned: Planned, tmp_path
) -> None:
    (tmp_path / "sweep").mkdir()
    for path in (tmp_path / "bomb.yaml", tmp_path / "sweep/inner.yaml"):
        path.write_text(bomb() + GRID)
    begin = time.monotonic()
    for arguments in (["sweep=bomb.yaml"], [f"--config-dir={tmp_path}", "sweep=inner"]):
        status, output = planned("-m", *arguments)
        assert status == 2, output
        assert "must hold at most 20,000 values" in output
    (tmp_path / "loop.yaml").write_text("a: &a\n  - *a\n")
    assert "an alias refers to a node" in planned("-m", "sweep=loop.yaml")[1]
    assert time.monotonic() - begin < 30


def test_aliases_of_a_usual_number_are_read(tmp_path) -> None:
    values = random.Random(0).sample(range(100), 5)
    (tmp_path / "some.yaml").write_text(f"a: &a {values}\nb: [*a, *a]\n")
    assert read_yaml(tmp_path / "some.yaml", "it") == {"a": values, "b": [values, values]}
    (tmp_path / "twice.yaml").write_text("a:\n  1: x\n  1: y\n")
    with pytest.raises(ConfigError, match="the key 1 is given twice, in line 3"):
        read_yaml(tmp_path / "twice.yaml", "it")
    # In Python these are one key, and the first would be lost without a word.
    for first, second in (("1", "true"), ("1", "1.0"), ("no", "0")):
        (tmp_path / "same.yaml").write_text(f"a:\n  {first}: x\n  {second}: y\n")
        with pytest.raises(ConfigError, match=f"{second} is the same key as {first}, in line 3"):
            read_yaml(tmp_path / "same.yaml", "it")
    (tmp_path / "other.yaml").write_text("a: {1: x, '1': y, 'true': z, 2: v}\n")
    assert list(read_yaml(tmp_path / "other.yaml", "it").a.values()) == ["x", "y", "z", "v"]
    (tmp_path / "null.yaml").write_text("a:\n  null: x\n")
    with pytest.raises(ConfigError, match="a key must not be null, in line 2"):
        read_yaml(tmp_path / "null.yaml", "it")


def test_a_file_of_ones_own_may_set_what_is_known(planned: Planned, tmp_path) -> None:
    place = tmp_path / "mine/place"
    place.mkdir(parents=True)
    (place / "home.yaml").write_text("# @package _global_\nstore: ~/my_runs\n")
    (place / "odd.yaml").write_text("# @package _global_\nstoree: ~/my_runs\n")
    options = [f"--config-dir={tmp_path / 'mine'}"]
    assert planned(*options, "+place=home")[0] == 0
    assert "unknown key storee; did you mean store?" in planned(*options, "+place=odd")[1]
    status, output = planned("-m", *options, "+place=home,odd")
    assert (status, output.count("\n")) == (2, 1)


def test_members_of_a_union_are_recorded_under_their_own_names(environment, tmp_path) -> None:
    """As a process, for a run is carried out."""
    from simclr_ablate.store import Store
    from tests.commands import own_sweeps, run

    flags = own_sweeps(
        tmp_path / "config",
        alpha="name: alpha\ngrids:\n  - loss.temperature: [0.1, 0.2]\n",
        beta="name: beta\ngrids:\n  - loss.temperature: [0.2, 0.3]\n",
    )
    more = ["optimizer.epochs=1", "data.limit=64", "data.validation=20"]
    status, output = run(environment, tmp_path / "store", *flags, "sweep=alpha,beta", *more)
    assert status == 0, output
    members = {record.name: len(record.run_ids) for record in Store(tmp_path / "store").sweeps()}
    assert members == {"alpha": 2, "beta": 2}
    assert len(list(Store(tmp_path / "store").runs())) == 3


def test_planning_loads_no_torch(tmp_path) -> None:
    arguments = ["-m", "sweep=temperature,batch_size", "dry_run=true", f"store={tmp_path}/x"]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "simclr_ablate", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert " torch\n" not in done.stderr
