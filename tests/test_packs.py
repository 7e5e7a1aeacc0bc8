"""Packs: the results of a store in one file, merged without loss, and harmless whatever they hold."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import analysis
from simclr_ablate import status
from simclr_ablate.identity import evaluation_key, run_id
from simclr_ablate.store import Run, Store
from simclr_ablate.store.__main__ import main
from simclr_ablate.store.pack import FORMAT, LONGEST_NAME, MANIFEST, VERSION
from simclr_ablate.store.records import write_sealed
from tests.small_runs import SMALL, give_seeds

SEEDS = 3
PROOF = "PROOF"
"""The variable that says what code of a file would make."""

Members = dict[str, bytes]


@pytest.fixture(scope="session")
def command(compose_config, make_experiment, tmp_path_factory) -> Callable[..., None]:
    """`command(store, knn=5)`: the command of a sweep `seeds`, given (again); it must come to its end."""
    cache = tmp_path_factory.mktemp("cache")
    first = make_experiment(*SMALL)

    def give_it(store: Path, knn: int = 5) -> None:
        give_seeds(compose_config, store, cache, first, SEEDS, knn)
        Store(store).record_sweep("seeds", [run.run_id for run in runs_of(store)], ["sweep=seeds"])

    return give_it


@pytest.fixture(scope="session")
def whole(command, tmp_path_factory) -> Path:
    """A store of three runs with two evaluations each."""
    store = tmp_path_factory.mktemp("whole") / "runs"
    command(store)
    command(store, knn=3)
    return store


@pytest.fixture(scope="session")
def packed(whole: Path, tmp_path_factory) -> Path:
    """Its pack, with the results on each test image."""
    file = tmp_path_factory.mktemp("packed") / "study.zip"
    pack(whole, file, "examples=true")
    return file


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """The same for a test that changes it."""
    return Path(shutil.copytree(whole, tmp_path / "runs"))


def pack(store: Path, to: Path, *words: str) -> Path:
    assert main(["pack", f"store={store}", f"to={to}", *words]) == 0
    return to


def unpack(store: Path, *packs: Path) -> int:
    return main(["unpack", *map(str, packs), f"store={store}"])


def members_of(file: Path) -> Members:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != MANIFEST}


def manifest_of(members: Members, **changes: Any) -> bytes:
    files = {name: hashlib.sha256(content).hexdigest() for name, content in members.items()}
    return json.dumps({"format": FORMAT, "version": VERSION, "files": files} | changes).encode()


def write_pack(file: Path, members: Members, **changes: Any) -> Path:
    """A pack with these members, which its manifest knows."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**members, MANIFEST: manifest_of(members, **changes)}.items():
            archive.writestr(name, content)
    return file


def tree(folder: Path) -> dict[str, bytes]:
    """All files below the folder but leases, by name."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "lease." not in path.name]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def runs_of(store: Path) -> list[Run]:
    return list(Store(store).runs())


def results(store: Path) -> dict[str, Any]:
    """What analysis and choices rest on."""
    return {run.run_id: (run.pretraining(), run.evaluations()) for run in runs_of(store)}


def test_a_pack_has_the_stores_files_without_weights(whole: Path, packed: Path) -> None:
    members = members_of(packed)
    here = tree(whole)
    assert members.items() <= here.items()
    left = {name.rpartition("/")[2] for name in here.keys() - members.keys()}
    # The last in the folders of evaluations, to go on with them.
    assert left == {"encoder.pt", "progress.json", "experiment.json"}
    assert sum(name.endswith("/examples.npz") for name in members) == 2 * SEEDS
    without = members_of(pack(whole, packed.with_name("small.zip")))
    assert {name for name in members if name not in without} == {
        name for name in members if name.endswith("examples.npz")
    }


def test_equal_stores_have_equal_packs(store: Path, packed: Path, tmp_path: Path) -> None:
    for number, path in enumerate(store.rglob("*")):
        os.utime(path, (number, number))
    os.chmod(runs_of(store)[0].path / "experiment.json", 0o600)
    again = pack(store, tmp_path / "again.zip", "examples=true")
    assert again.read_bytes() == packed.read_bytes()


def test_a_pack_that_is_unpacked_and_packed_again_is_the_same(
    whole: Path, packed: Path, tmp_path: Path
) -> None:
    assert unpack(tmp_path / "runs", packed) == 0
    assert results(tmp_path / "runs") == results(whole)
    again = pack(tmp_path / "runs", tmp_path / "again.zip", "examples=true")
    assert again.read_bytes() == packed.read_bytes()
    before = tree(tmp_path / "runs")
    assert unpack(tmp_path / "runs", packed, again) == 0
    assert tree(tmp_path / "runs") == before


def test_nothing_that_is_complete_runs_again(whole, packed, command, tmp_path, capsys) -> None:
    there = tmp_path / "runs"
    assert unpack(there, packed) == 0
    before = tree(there)
    capsys.readouterr()
    assert status.main([f"store={there}", "sweep=seeds", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in rows] == ["complete"] * SEEDS
    command(there)
    command(there, knn=3)
    assert {name for name in tree(there) if tree(there)[name] != before.get(name)} == {
        name for name in before if name.startswith(".sweeps/")
    }, "only the sweep was launched once more"
    found, expected = (analysis.load(each).drop(columns="path") for each in (there, whole))
    assert found.equals(expected)


def test_another_evaluation_pretrains_again_and_what_came_stays(
    whole, packed, command, tmp_path
) -> None:
    there = tmp_path / "runs"
    assert unpack(there, packed) == 0
    before = results(there)
    command(there, knn=4)
    for run, original in zip(runs_of(there), runs_of(whole), strict=True):
        assert before[run.run_id][1].items() <= run.evaluations().items()
        assert len(run.evaluations()) == 3
        weights, expected = run.weights()["encoder"], original.weights()["encoder"]
        assert all((weights[name] == expected[name]).all() for name in expected)


def test_packs_of_several_machines_become_one_store(whole, store, packed, tmp_path) -> None:
    first, second, third = runs_of(whole)
    parts = [
        pack(whole, tmp_path / f"{run.run_id}.zip", f"run={run.run_id}", "examples=true")
        for run in (first, second)
    ]
    # The third machine has the third run, and one evaluation of the first.
    shutil.rmtree(store / second.run_id)
    (store / first.run_id / "evaluations" / f"{min(first.evaluations())}.json").unlink()
    parts.append(pack(store, tmp_path / "third.zip", "examples=true"))
    assert third.run_id in {name.partition("/")[0] for name in members_of(parts[-1])}
    for number, order in enumerate((parts, parts[::-1], random.sample(parts, 3))):
        there = tmp_path / f"merged{number}"
        assert unpack(there, *order) == 0
        made = pack(there, tmp_path / f"merged{number}.zip", "examples=true")
        assert made.read_bytes() == packed.read_bytes()
    # One after the other, into a store that has weights.
    for part in parts:
        assert unpack(store, part) == 0
    assert results(store) == results(whole)


def slower(store: Path) -> None:
    """The results of the store as another day's run of it would have them."""
    for run in runs_of(store):
        run.write_pretraining(run.pretraining() | {"seconds": 1e6})
        for key, result in run.evaluations().items():
            run.write_evaluation(key, result["config"], result["metrics"], 1e6)
        run.log_path.write_text("on another host")
        config = json.loads((run.path / "experiment.json").read_text())
        config["config"]["compute"]["threads"] = 64
        (run.path / "experiment.json").write_text(json.dumps(config))


def test_seconds_logs_and_threads_make_no_result_another(store, packed, tmp_path) -> None:
    slower(store)
    other = pack(store, tmp_path / "slower.zip", "examples=true")
    for first, second in ((packed, other), (other, packed)):
        there = tmp_path / first.stem
        assert unpack(there, first, second) == 0
        assert pack(there, tmp_path / "again.zip", "examples=true").read_bytes() == (
            first.read_bytes()
        )
        (tmp_path / "again.zip").unlink()


def more_accurate(run: Run) -> str:
    key, result = min(run.evaluations().items())
    metrics = result["metrics"] | {"top1": result["metrics"]["top1"] + 0.01}
    run.write_evaluation(key, result["config"], metrics, result["seconds"])
    return f"{run.run_id} {key}: top1 is "


def another_loss(run: Run) -> str:
    metrics = run.pretraining()
    run.write_pretraining(metrics | {"loss": np.nextafter(metrics["loss"], 9)})
    return f"{run.run_id} pretraining: loss is {metrics['loss']!r} and "


def another_prediction(run: Run) -> str:
    key, result = min(run.evaluations().items())
    folder = run.evaluating(key)
    arrays = folder.examples()
    assert arrays is not None
    folder.write_examples(arrays | {"prediction": np.roll(arrays["prediction"], 1)})
    run.write_evaluation(key, result["config"], result["metrics"], result["seconds"])
    return f"{run.run_id} {key}: results on single images are not the same"


@pytest.mark.parametrize("change", [more_accurate, another_loss, another_prediction])
def test_unequal_results_are_named_and_nothing_is_written(
    change, whole, store, packed, tmp_path, capsys
) -> None:
    line = change(runs_of(store)[1])
    other = pack(store, tmp_path / "other.zip", "examples=true")
    capsys.readouterr()
    assert unpack(tmp_path / "new", packed, other) == 1
    told = capsys.readouterr()
    assert told.out == ""
    first, remedy = told.err.splitlines()
    assert first.startswith(f"unequal: {line}")
    assert first.endswith(f"({packed}, {other})")
    assert remedy.startswith("nothing is unpacked")
    assert not (tmp_path / "new").exists()
    there = shutil.copytree(whole, tmp_path / "there")
    shutil.rmtree(runs_of(there)[0].path)
    before = tree(there)
    assert unpack(there, other) == 1
    assert f"(the store {there}, {other})" in capsys.readouterr().err
    assert tree(there) == before


def test_the_same_arrays_in_another_compression_are_the_same(store, packed, tmp_path) -> None:
    run = runs_of(store)[0]
    key, result = min(run.evaluations().items())
    folder = run.evaluating(key)
    arrays: dict[str, Any] = folder.examples()
    np.savez(folder.examples_path, **arrays)
    run.write_evaluation(key, result["config"], result["metrics"], result["seconds"])
    other = pack(store, tmp_path / "other.zip", "examples=true")
    assert unpack(tmp_path / "there", packed, other) == 0


def test_results_on_single_images_can_come_later(whole, packed, tmp_path, caplog) -> None:
    small = pack(whole, tmp_path / "small.zip")
    for number, order in enumerate(([small, packed], [packed, small])):
        there = tmp_path / f"runs{number}"
        for part in order:
            assert unpack(there, part) == 0
        assert tree(there) == members_of(packed)
        at_once = tmp_path / f"at_once{number}"
        assert unpack(at_once, *order) == 0
        assert tree(at_once) == members_of(packed)
    without = tmp_path / "without"
    assert unpack(without, small) == 0
    run = runs_of(without)[0]
    assert run.evaluating(min(run.evaluations())).examples() is None
    assert caplog.text == "", "that they were not asked for is no damage"


def test_results_on_single_images_of_other_data_sets_can_travel_alone(
    make_experiment, tmp_path, capsys
) -> None:
    keys = []
    for data in ([], ["data@evaluation.data=cifar10"]):
        experiment = make_experiment(*SMALL, *data)
        run = Store(tmp_path / "runs").run(run_id(experiment))
        run.create(experiment.to_config())
        keys.append(evaluation_key(experiment))
        run.evaluating(keys[-1]).write_examples({"label": np.arange(9), "prediction": np.ones(9)})
        metrics = {"top1": 50.0, "top5": 90.0, "validation_top1": 50.0, "knn_top1": 40.0}
        run.write_evaluation(keys[-1], experiment.to_config()["evaluation"], metrics)
    for words, packed_keys, told in (
        (["examples=transfer"], keys[1:], "without results on each test image: examples=true adds"),
        (["examples=true"], keys, "with the results on each test image of 2 evaluations"),
        ([], [], "examples=transfer adds those of Tables 8 and B.5"),
    ):
        made = pack(tmp_path / "runs", tmp_path / "study.zip", *words)
        assert told in "".join(capsys.readouterr())
        names = [name for name in members_of(made) if name.endswith("/examples.npz")]
        assert {name.split("/")[2] for name in names} == set(packed_keys)
        made.unlink()


def test_what_is_damaged_here_is_made_whole(whole, store, packed) -> None:
    first, second, third = runs_of(store)
    kept = next((first.path / "evaluations").glob("*.json"))
    kept.write_text("{}")
    (second.path / "experiment.json").unlink()
    (second.path / "pretraining.json").write_bytes(b"\xff")
    shutil.rmtree(third.path / "evaluations")
    assert unpack(store, packed) == 0
    assert results(store) == results(whole)
    assert kept.with_name(f"{kept.name}.damaged").read_text() == "{}"


def test_only_what_is_complete_is_packed(store, tmp_path, capsys, make_experiment) -> None:
    first, second, third = runs_of(store)
    shutil.rmtree(second.path / "evaluations")
    second.encoder_path.unlink()
    second.write_failure({"reason": "because"})
    (third.path / "experiment.json").write_text("{}")
    damaged = first.path / "evaluations" / f"{min(first.evaluations())}.json"
    damaged.write_text(damaged.read_text().replace('"top1": ', '"top1": 1'))
    running = Store(store).run(run_id(make_experiment(*SMALL, "seed=9")))
    running.create(make_experiment(*SMALL, "seed=9").to_config())
    lease = running.lease()
    made = pack(store, tmp_path / "part.zip")
    lease.release()
    result, told = capsys.readouterr()
    assert "packed 1 run, 1 evaluation, 1 launch into" in result
    left = "1 damaged or of another version, 1 failed, 1 running"
    assert f"left out: runs without a complete evaluation: {left}" in told
    assert "left out: evaluations that are not complete: 1" in told
    names = members_of(made)
    assert {name.partition("/")[0] for name in names} == {first.run_id, ".sweeps"}
    assert not any("failure" in name or damaged.stem in name for name in names)
    assert unpack(tmp_path / "there", made) == 0
    assert [run.state() for run in runs_of(tmp_path / "there")] == ["complete"]


def test_a_store_without_anything_complete_makes_no_pack(tmp_path, capsys, make_experiment) -> None:
    run = Store(tmp_path / "runs").run(run_id(make_experiment(*SMALL)))
    run.create(make_experiment(*SMALL).to_config())
    assert main(["pack", f"store={tmp_path / 'runs'}", f"to={tmp_path / 'a.zip'}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: there is no complete run to pack; ")
    assert "1 planned" in said
    assert not (tmp_path / "a.zip").exists()


def test_a_sweep_travels_with_its_launches(store, tmp_path) -> None:
    first, second, third = (run.run_id for run in runs_of(store))
    records = Store(store)
    records.record_sweep("one", [first], ["sweep=one"])
    records.record_sweep("one", [first, second], ["sweep=one", "seed=0,1"])
    records.record_sweep("two", [third, "not-there-0123456789"])
    for words, runs, sweeps in (
        (["sweep=one"], {first, second}, ["one", "one"]),
        (["sweep=two"], {third}, ["two"]),
        (["sweep=one,two"], {first, second, third}, ["one", "one", "two"]),
        ([f"run={second}"], {second}, ["one", "seeds"]),
        ([], {first, second, third}, ["one", "one", "seeds", "two"]),
    ):
        made = pack(store, tmp_path / "part.zip", *words)
        there = Store(tmp_path / "there")
        assert unpack(there.root, made) == 0
        assert {run.run_id for run in there.runs()} == runs
        assert sorted(launch.name for launch in there.sweeps()) == sweeps
        assert set(there.sweeps()) <= set(records.sweeps())
        made.unlink()
        shutil.rmtree(there.root)


def test_runs_that_were_looked_at_anywhere_stay_so(store, tmp_path) -> None:
    ids = [run.run_id for run in runs_of(store)]
    there = Store(shutil.copytree(store, tmp_path / "there"))
    before = {one.run_ids: one for one in there.sweeps()}
    Store(store).record_sweep("seeds", ids, ["sweep=seeds"], until="decided")
    assert unpack(there.root, pack(store, tmp_path / "looked.zip")) == 0
    after = {one.run_ids: one for one in there.sweeps()}
    assert after.keys() == before.keys()
    for run_ids, record in after.items():
        assert record == dataclasses.replace(before[run_ids], until="decided")
    again = pack(shutil.copytree(tmp_path / "there", tmp_path / "more"), tmp_path / "again.zip")
    assert unpack(tmp_path / "new", again) == 0
    assert {one.until for one in Store(tmp_path / "new").sweeps()} == {"decided"}


def test_looks_of_another_sweep_travel_too(store, tmp_path) -> None:
    first, second, third = (run.run_id for run in runs_of(store))
    records = Store(store)
    records.record_sweep("one", [first], ["sweep=one"])
    records.record_sweep("whole", [first, second], ["sweep=whole"], until="decided")
    records.record_sweep("other", [third], ["sweep=other"], until="decided")
    made = pack(store, tmp_path / "one.zip", "sweep=one")
    there = Store(tmp_path / "there")
    assert unpack(there.root, made) == 0
    assert [run.run_id for run in there.runs()] == [first]
    assert {(one.name, one.until) for one in there.sweeps()} == {("one", ""), ("whole", "decided")}


def test_a_log_that_repeats_itself_stays_and_is_named(store, tmp_path, capsys) -> None:
    """Others like it would make the pack look like a bomb. A short one, and one of different lines, travel."""
    first, second, third = runs_of(store)
    (first.path / "log.txt").write_text("the same warning again\n" * 300_000)
    (second.path / "log.txt").write_text("the same warning again\n" * 1_000)
    lines = (f"step {random.random()}\n" for _ in range(30_000))
    (third.path / "log.txt").write_text("".join(lines))
    capsys.readouterr()
    members = members_of(pack(store, tmp_path / "logs.zip"))
    assert f"{first.run_id}/log.txt, which repeats itself too often" in capsys.readouterr().err
    assert [f"{run.run_id}/log.txt" in members for run in (first, second, third)] == [
        False,
        True,
        True,
    ]


def test_an_artefact_that_a_launch_defines_travels_and_replaces_none(store, tmp_path) -> None:
    ids = [run.run_id for run in runs_of(store)]
    there, other = (Store(shutil.copytree(store, tmp_path / name)) for name in ("there", "other"))
    ours, theirs = ({"title": title, "rows": ["seed"]} for title in ("Ours", "Theirs"))
    other.record_sweep("seeds", ids, ["sweep=seeds"], artefact=ours)
    Store(store).record_sweep("seeds", ids, ["sweep=seeds"], artefact=theirs)
    made = pack(store, tmp_path / "defined.zip")
    for root, kept in ((there.root, theirs), (other.root, ours), (tmp_path / "new", theirs)):
        assert unpack(root, made) == 0
        artefacts = [one.artefact for one in Store(root).sweeps() if set(one.run_ids) == {*ids}]
        assert artefacts == [kept]


def test_choices_travel_and_leave_those_of_the_store_alone(store, tmp_path) -> None:
    run = runs_of(store)[0]
    choice = Store(store).choice("pick-01234567")
    choice.write_choice([run.run_id])
    Store(store).choice("other-01234567").write_choice(["not-there-0123456789"])
    made = pack(store, tmp_path / "study.zip")
    names = [name for name in members_of(made) if name.startswith(".choices")]
    assert names == [".choices/pick-01234567/choice.json"]
    assert unpack(tmp_path / "new", made) == 0
    assert (tmp_path / "new" / names[0]).read_bytes() == (store / names[0]).read_bytes()
    waiting = Store(tmp_path / "waiting").choice("pick-01234567")
    waiting.create({})
    waiting.write_submission({"job": "7", "cluster": "slurm", "output": "7.err", "sweep": "pick"})
    assert unpack(tmp_path / "waiting", made) == 0
    assert not waiting.is_done()


def test_a_run_that_is_worked_on_is_left_alone(packed, tmp_path, capsys) -> None:
    there = tmp_path / "there"
    assert unpack(there, packed) == 0
    first, second, _ = runs_of(there)
    shutil.rmtree(first.path)
    first.path.mkdir()
    key = min(second.evaluations())
    second.encoder_path.touch()
    second.evaluating(key).result_path.unlink()
    pretraining, evaluating = first.lease(), second.evaluating(key).lease()
    assert pretraining is not None
    assert evaluating is not None
    capsys.readouterr()
    # In a process of its own, to which these leases are another's.
    words = ["unpack", str(packed), f"store={there}"]
    done = subprocess.run(
        [sys.executable, "-m", "simclr_ablate.store", *words], capture_output=True, text=True
    )
    assert done.returncode == 1
    for run in (first, second):
        line = f"passed over: a process works on {run.run_id}; unpack again when it has ended"
        assert line in done.stderr.splitlines()
    assert [path.name for path in first.path.iterdir()] == ["lease.1"]
    assert not second.is_evaluated(key)
    pretraining.release()
    evaluating.release()
    second.encoder_path.unlink()
    assert unpack(there, packed) == 0
    assert tree(there) == members_of(packed)


@pytest.mark.parametrize("write", [1, 2, 5, 9, 14, 20, 27])
def test_unpacking_that_is_killed_leaves_a_valid_store(
    write, whole, packed, tmp_path, caplog
) -> None:
    """Killed at its n-th file, after writing it and before giving it its name."""
    there = tmp_path / "there"
    code = f"""
import os, signal, sys
from simclr_ablate.store.__main__ import main
replace, left = os.replace, {write}
def killing(*paths):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = killing
main(["unpack", {str(packed)!r}, "store={there}"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    expected = results(whole)
    for run in runs_of(there):
        assert run.evaluations().items() <= expected[run.run_id][1].items()
        assert run.state() in ("complete", "planned", "interrupted")
        for key in run.evaluations():
            assert run.evaluating(key).examples() is not None
    assert caplog.text == "", "what is missing is missing, and nothing is damaged"
    assert unpack(there, packed) == 0
    assert results(there) == expected
    again = pack(there, tmp_path / "again.zip", "examples=true")
    assert again.read_bytes() == packed.read_bytes()


def test_a_file_that_exists_is_never_written_over(whole, packed, tmp_path, capsys) -> None:
    before = packed.read_bytes()
    for to in (packed, tmp_path):
        assert main(["pack", f"store={whole}", f"to={to}"]) == 2
        assert f"error: to must be a new file, but {to} exists" in capsys.readouterr().err
    assert packed.read_bytes() == before
    assert main(["pack", f"store={whole}", f"to={tmp_path / 'no/folder.zip'}"]) == 2
    assert str(tmp_path / "no/folder.zip") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pakc"], "unknown action 'pakc'; did you mean pack? (accepted: pack, unpack)"),
        (["pack"], "to must be the file to write, got nothing"),
        (["pack", "study.zip"], "unknown word 'study.zip': write to=study.zip"),
        (["pack", "to=a.zip", "swep=x"], "unknown key swep; did you mean sweep?"),
        (["pack", "to=a.zip", "sweep=sedes"], "no sweep sedes was launched in the store"),
        (["pack", "to=a.zip", "run=none"], "no run none"),
        (
            ["pack", "to=a.zip", "examples=yes"],
            "examples must be one of false, transfer, true, got 'yes'",
        ),
        (["unpack"], "name the packs to unpack, got none"),
        (["unpack", "a.zip", "to=b"], "unknown key to (accepted: store)"),
        (["unpack", "nowhere.zip"], "cannot use nowhere.zip: No such file or directory"),
        (["pack", "to=a.zip", "store=nowhere"], "the store nowhere does not exist"),
    ],
)
def test_what_it_does_not_know_is_named(
    words, message, whole, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole, "runs")
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_neither_packing_nor_unpacking_needs_torch(whole, tmp_path) -> None:
    code = f"""
import sys
from simclr_ablate.store.__main__ import main
assert main(["pack", "store={whole}", "to={tmp_path}/a.zip", "examples=true"]) == 0
assert main(["unpack", "{tmp_path}/a.zip", "store={tmp_path}/there"]) == 0
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class Code:
    """What pickle would run when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ[PROOF],)


@pytest.fixture
def proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(PROOF, str(tmp_path / "made by code of a pack"))
    yield
    assert not os.path.exists(os.environ[PROOF]), "code was run"


def name_in(members: Members, ending: str) -> str:
    return next(name for name in members if name.endswith(ending))


def result_in(members: Members) -> str:
    return next(n for n in members if "/evaluations/" in n and n.endswith(".json"))


def with_text(members: Members, name: str, old: str, new: str) -> Members:
    changed = members[name].decode().replace(old, new)
    assert changed != members[name].decode()
    return members | {name: changed.encode()}


def sealed(content: dict[str, Any], owner: str, folder: Path) -> bytes:
    """A record as the store would write it for `owner`."""
    kept = {key: value for key, value in content.items() if key not in ("digest", "belongs_to")}
    write_sealed(folder / "sealed.json", kept, owner)
    return (folder / "sealed.json").read_bytes()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def with_examples(members: Members, content: bytes, folder: Path) -> Members:
    """Results on single images that match the result's digest."""
    name = name_in(members, "examples.npz")
    of_result = f"{name.removesuffix('/examples.npz')}.json"
    record = json.loads(members[of_result]) | {"examples": hashlib.sha256(content).hexdigest()}
    sealed_again = sealed(record, record["belongs_to"], folder)
    return members | {name: content, of_result: sealed_again}


def pickled() -> bytes:
    """An .npz whose array is a pickle."""
    file, array = io.BytesIO(), io.BytesIO()
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    array.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
    array.write(pickle.dumps([Code()]))
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("prediction.npy", array.getvalue())
    return file.getvalue()


def promising(shape: str) -> bytes:
    """An .npz whose header promises an array of that shape."""
    file = io.BytesIO()
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    with zipfile.ZipFile(file, "w") as archive:
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
        archive.writestr("prediction.npy", start + header.encode() + bytes(64))
    return file.getvalue()


def swapped(members: Members, ending: str) -> Members:
    """Two runs have each other's file."""
    one, other, *_ = sorted(name for name in members if name.endswith(ending))
    return members | {one: members[other], other: members[one]}


def other_key(members: Members, folder: Path) -> Members:
    """The result of another evaluation of the run, sealed for this one."""
    run = result_in(members).partition("/")[0]
    one, other = (n for n in members if re.fullmatch(rf"{run}/evaluations/[^/]+\.json", n))
    owner = json.loads(members[one])["belongs_to"]
    return members | {one: sealed(json.loads(members[other]), owner, folder)}


def with_metric(members: Members, metric: str, value: Any, folder: Path) -> Members:
    """A result that is sealed with this metric."""
    name = result_in(members)
    record = json.loads(members[name])
    record["metrics"][metric] = value
    return members | {name: sealed(record, record["belongs_to"], folder)}


def later_schema(members: Members) -> Members:
    return with_text(
        members, name_in(members, "experiment.json"), '"schema_version": 3', '"schema_version": 4'
    )


HOSTILE: dict[str, tuple[Callable[[Members, Path], Members], str]] = {
    "up": (lambda m, _: m | {"../outside.json": b"{}"}, "'../outside.json' is no file of a pack"),
    "up inside": (lambda m, _: m | {".sweeps/../../o.json": b"{}"}, "is no file of a pack"),
    "up in a run": (
        lambda m, _: m | {f"{min(m).partition('/')[0]}/../../outside.json": b"{}"},
        "is no file of a pack",
    ),
    "absolute": (lambda m, _: m | {"/tmp/outside.json": b"{}"}, "is no file of a pack"),
    "weights": (
        lambda m, _: (
            m | {name_in(m, "experiment.json").replace("experiment.json", "encoder.pt"): b""}
        ),
        "encoder.pt' is no file of a pack",
    ),
    "a module": (lambda m, _: m | {"sitecustomize.py": b"1/0"}, "is no file of a pack"),
    "hidden": (lambda m, _: m | {".sweeps/.a.json": b"{}"}, "is no file of a pack"),
    "a long name": (
        lambda m, _: m | {f".sweeps/{'a' * LONGEST_NAME}.json": b"{}"},
        "has no proper name",
    ),
    "of no run": (
        lambda m, _: {n: c for n, c in m.items() if n != name_in(m, "experiment.json")},
        "its run has no experiment.json",
    ),
    "of no result": (
        lambda m, _: {n: c for n, c in m.items() if n != result_in(m)},
        "its evaluation has no result",
    ),
    "a run to be run": (
        lambda m, _: {n: c for n, c in m.items() if "/evaluations/" not in n},
        "its run has no complete evaluation",
    ),
    "an edited result": (
        lambda m, _: with_text(m, result_in(m), '"top1": ', '"top1": 1'),
        "its content does not match its digest",
    ),
    "results of other runs": (
        lambda m, _: swapped(m, min(result_in(m).partition("/")[2:])),
        "it belongs to",
    ),
    "configs of other runs": (
        lambda m, _: swapped(m, "/experiment.json"),
        "its config is not this run's but that of",
    ),
    "another evaluation": (other_key, "its config is that of the evaluation"),
    "an edited config": (
        lambda m, _: with_text(
            m, name_in(m, "experiment.json"), '"temperature": 0.2', '"temperature": 0.1'
        ),
        "its config is not this run's",
    ),
    "odd values": (
        lambda m, _: with_text(m, name_in(m, "experiment.json"), '"label": "images"', '"label": 7'),
        "it holds something unexpected",
    ),
    "a later schema": (lambda m, _: later_schema(m), "its schema is 4, here it is 3"),
    "no JSON": (lambda m, _: m | {result_in(m): b"[" * 100_000}, "it is nested too deeply"),
    "another shape": (
        lambda m, _: m | {name_in(m, "pretraining.json"): b"[1]"},
        "it is not a mapping",
    ),
    "a launch outside": (
        lambda m, _: m | {".sweeps/a.json": b'{"name": "a", "run_ids": ["../b"], "time": 1.0}'},
        "'../b' leads out of the store",
    ),
    "a choice outside": (
        lambda m, _: m | {".choices/a/choice.json": b'{"run_ids": ["/b"]}'},
        "'/b' leads out of the store",
    ),
    "other examples": (
        lambda m, _: m | {name_in(m, "examples.npz"): npz(prediction=np.zeros(3))},
        "it does not match the digest in the result",
    ),
    "a pickle": (lambda m, f: with_examples(m, pickled(), f), "holds Python objects"),
    "no arrays": (lambda m, f: with_examples(m, b"PK\x03\x04", f), "it is no file of arrays"),
    "an array too long": (
        lambda m, f: with_examples(m, promising("(1000000000000,)"), f),
        "is shorter than its header says",
    ),
    "an array of nothing, and too long": (
        lambda m, f: with_examples(m, promising(f"(0, {10**30})"), f),
        "it is no file of arrays",
    ),
    "a shape that is none": (
        lambda m, f: with_examples(m, promising("(True,)"), f),
        "it is no file of arrays",
    ),
    "a number beyond all bounds": (
        lambda m, f: with_metric(m, "top1", 10**400, f),
        "a value in metrics is larger than any number of ours",
    ),
    "a bomb of arrays": (
        lambda m, f: with_examples(m, npz(**{f"a{k}": np.zeros(2**22) for k in range(9)}), f),
        "its arrays take more than",
    ),
    "another's result of weights": (
        lambda m, _: (
            m
            | {
                name_in(m, "experiment.json").replace(
                    "experiment.json", "derived/eigenvalues.npz"
                ): npz(squares=np.ones(3), belongs_to=np.array("other/derived/eigenvalues"))
            }
        ),
        "it belongs to other/derived/eigenvalues",
    ),
}


def assert_refused(file: Path, message: str, tmp_path: Path, capsys: Any) -> None:
    """Neither `unpack` nor the analysis takes it, and neither leaves anything behind."""
    (tmp_path / "here").mkdir()
    before = set(tmp_path.rglob("*"))
    capsys.readouterr()
    for there in (tmp_path / "here/new", tmp_path / "here"):
        assert unpack(there, file) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: {file} ")
        assert message in said
        assert len(said.splitlines()) == 1
    with pytest.raises(ValueError, match="cannot be used as a pack"):
        analysis.load(file)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pack_is_refused(kind, packed, tmp_path, capsys, proof) -> None:
    change, message = HOSTILE[kind]
    members = change(members_of(packed), tmp_path)
    assert_refused(write_pack(tmp_path / "hostile.zip", members), message, tmp_path, capsys)


def test_names_of_functions_stay_text(make_experiment, own_module, tmp_path, proof) -> None:
    """Whoever packs, unpacks, looks or retries imports nothing of what a config names."""
    module = own_module(f"import os; os.mkdir(os.environ[{PROOF!r}])")
    experiment = make_experiment(*SMALL, f"loss.name={module}:loss", f"head.kind={module}:head")
    run = Store(tmp_path / "runs").run(run_id(experiment))
    run.create(experiment.to_config())
    metrics = {"top1": 50.0, "top5": 90.0, "validation_top1": 50.0, "knn_top1": 40.0}
    config = experiment.to_config()["evaluation"]
    run.write_evaluation(evaluation_key(experiment), config, metrics)
    made, there = pack(tmp_path / "runs", tmp_path / "own.zip"), tmp_path / "there"
    assert unpack(there, made) == 0
    assert len(analysis.load(made)) == len(analysis.load(there)) == 1
    for words in ([], ["--json"], ["retry"], ["clean"]):
        assert status.main([f"store={there}", *words]) == 0


def rebuilt(packed: Path, to: Path, change: Callable[[zipfile.ZipFile, Members], object]) -> Path:
    """The pack with what `change` adds to its archive."""
    members = members_of(packed)
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        change(archive, members)
    return to


def linked(archive: zipfile.ZipFile, members: Members) -> None:
    link = zipfile.ZipInfo(".sweeps/link.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, b"/etc/passwd")
    archive.writestr(MANIFEST, manifest_of(members | {link.filename: b"/etc/passwd"}))


def doubled(archive: zipfile.ZipFile, members: Members) -> None:
    archive.writestr(MANIFEST, manifest_of(members))
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(result_in(members), members[result_in(members)])


def bombed(archive: zipfile.ZipFile, members: Members) -> None:
    name, zeros = name_in(members, "log.txt"), bytes(2**26)
    for number in range(20):
        archive.writestr(f"{name}{number}", zeros)
    archive.writestr(MANIFEST, manifest_of(members))


def oversized(archive: zipfile.ZipFile, members: Members) -> None:
    archive.writestr(".sweeps/a.json", bytes(2**26 + 1))
    archive.writestr(MANIFEST, manifest_of(members))


def squeezed(archive: zipfile.ZipFile, members: Members) -> None:
    archive.writestr(".sweeps/a.json", b"{}", zipfile.ZIP_LZMA)
    archive.writestr(MANIFEST, manifest_of(members | {".sweeps/a.json": b"{}"}))


def unlisted(archive: zipfile.ZipFile, members: Members) -> None:
    archive.writestr(MANIFEST, manifest_of(members))
    archive.writestr(".sweeps/a.json", b"{}")


def unfilled(archive: zipfile.ZipFile, members: Members) -> None:
    archive.writestr(MANIFEST, manifest_of(members | {".sweeps/a.json": b"{}"}))


def altered(archive: zipfile.ZipFile, members: Members) -> None:
    name = name_in(members, "history.csv")
    archive.writestr(MANIFEST, manifest_of(members | {name: b"epoch,loss"}))


ARCHIVES: dict[Callable[[zipfile.ZipFile, Members], object], str] = {
    linked: "'.sweeps/link.json' is a link or another special file",
    doubled: "is there twice",
    bombed: "at most",
    oversized: "'.sweeps/a.json' is larger than 67,108,864 bytes",
    squeezed: "is compressed in another way than packs are",
    unlisted: "'.sweeps/a.json' is not in pack.json",
    unfilled: "'.sweeps/a.json' is missing",
    altered: "does not match its digest in pack.json",
    lambda archive, members: None: "it has no pack.json",
    lambda a, m: a.writestr(MANIFEST, manifest_of(m, version=2)): "its format is version 2, here",
    lambda a, m: a.writestr(MANIFEST, manifest_of(m, format="zip")): "it is of another format",
    lambda a, m: a.writestr(MANIFEST, b"{"): "pack.json: ",
}


@pytest.mark.slow
@pytest.mark.parametrize("change", ARCHIVES, ids=ARCHIVES.values())
def test_a_hostile_archive_is_refused(change, packed, tmp_path, capsys) -> None:
    file = rebuilt(packed, tmp_path / "hostile.zip", change)
    assert_refused(file, ARCHIVES[change], tmp_path, capsys)


def test_a_damaged_pack_is_refused_wherever_it_is_damaged(packed, tmp_path, capsys) -> None:
    content = packed.read_bytes()
    draw = random.Random(0)
    file, there = tmp_path / "damaged.zip", tmp_path / "there"
    for length in (0, 1, 100, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:length])
        assert unpack(there, file) == 2
    refused = 0
    for place in draw.sample(range(len(content)), 60):
        flipped = bytes([content[place] ^ (1 << draw.randrange(8))])
        file.write_bytes(content[:place] + flipped + content[place + 1 :])
        code = unpack(there, file)
        refused += code == 2
        if code == 0:  # in what the archive says and nobody reads, such as a date
            assert tree(there) == members_of(packed)
            shutil.rmtree(there)
        assert not there.exists()
    assert refused > 40
    capsys.readouterr()
    assert_refused(
        truncated(packed, tmp_path), "it is no zip archive, or is cut short", tmp_path, capsys
    )


def truncated(packed: Path, folder: Path) -> Path:
    file = folder / "truncated.zip"
    file.write_bytes(packed.read_bytes()[:-10])
    return file


def test_one_bad_pack_keeps_the_good_ones_out(packed, tmp_path) -> None:
    assert unpack(tmp_path / "there", packed, truncated(packed, tmp_path)) == 2
    assert not (tmp_path / "there").exists()
