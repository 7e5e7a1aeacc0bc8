"""A sweep that selects, as a user runs it: both stages in one command, which goes on where it was."""

import os
import signal
from pathlib import Path

import pytest

from simclr_ablate.store import Run, Store
from tests.commands import SELECTING, own_sweeps, run, start, wait_for_step

pytestmark = pytest.mark.slow

SHORT = "optimizer.epochs=1"


def trained(store: Path) -> dict[Run, int]:
    """When each run's encoder was written."""
    return {found.run_id: found.encoder_path.stat().st_mtime_ns for found in Store(store).runs()}


def of_seed(store: Path, *seeds: int) -> list[Run]:
    runs = [found for found in Store(store).runs() if found.config()["objective"] != "none"]
    return [found for found in runs if found.config()["seed"] in seeds]


def point_of(found: Run) -> tuple[str, float]:
    config = found.config()
    return config["head"]["kind"], config["loss"]["temperature"]


def assert_selected(store: Path, seeds: tuple[int, ...] = (0, 1)) -> None:
    """The best candidate of each head, as its results on disk say, was run with the seeds, and nothing else was."""
    scores = {}
    for tried in of_seed(store, 9):
        (evaluation,) = tried.evaluations().values()
        scores[point_of(tried)] = evaluation["metrics"]["validation_top1"]
    assert len(scores) == 4
    reported = [(*point_of(found), found.config()["seed"]) for found in of_seed(store, *seeds)]
    heads: dict[str, set[float]] = {}
    for head, temperature, _ in reported:
        heads.setdefault(head, set()).add(temperature)
    assert len(reported) == 2 * len(seeds)
    for head, temperatures in heads.items():
        (temperature,) = temperatures
        assert scores[head, temperature] == max(scores[head, other] for other in (0.1, 0.5))


def test_the_second_stage_follows_in_the_same_command(environment, tmp_path) -> None:
    store = tmp_path / "store"
    arguments = [*own_sweeps(tmp_path / "config", pick=SELECTING), "sweep=pick", SHORT]
    status, output = run(environment, store, *arguments, "dry_run=true")
    assert status == 0, output
    assert "pick: 6 experiments, 0 already finished, 6 to run" in output
    assert "pick: 4 more experiments to follow once its 4 with seed 9 are done (0 are)" in output
    assert output.count(" planned") == 6
    assert not store.exists()

    status, output = run(environment, store, *arguments)
    assert status == 0, output
    for text in ("[5/6]", "pick: chosen on validation_top1 with seed 9", "[10/10]"):
        assert text in output
    assert "second stage: 4 experiments, 0 already finished, 4 to run" in output
    assert "all 10 experiments are in" in output
    assert_selected(store)
    (*_, record) = [record for record in Store(store).sweeps() if record.name == "pick"]
    before = trained(store)
    assert set(record.run_ids) == set(before)

    status, output = run(environment, store, *arguments)
    assert status == 0
    assert "pick: 10 experiments, 10 already finished, 0 to run" in output
    assert trained(store) == before
    # Another seed on the command line is one more that is reported; it chooses nothing.
    status, output = run(environment, store, *arguments, "seed=0,1,2", "dry_run=true")
    assert status == 0
    assert "pick: 13 experiments, 10 already finished, 3 to run" in output
    assert output.count(" planned") == 3


def test_killed_in_either_stage_it_goes_on_where_it_was(environment, tmp_path) -> None:
    store = tmp_path / "store"
    flags = own_sweeps(tmp_path / "config", pick=SELECTING)
    arguments = [*flags, "sweep=pick", "optimizer.epochs=3", "launcher.parallel=2"]
    process = start(environment, store, *arguments)
    wait_for_step(store, 10)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "to resume, run the same command again" in output
    assert "chosen on" not in output
    process = start(environment, store, *arguments)
    for line in process.stdout:  # to the second stage, and some steps into it
        if line.startswith("started") and "-s0" in line and "random" not in line:
            break
    process.kill()
    process.communicate(timeout=60)
    tried = {found.run_id for found in of_seed(store, 9)}
    before = {name: at for name, at in trained_so_far(store).items() if name in tried}
    assert len(before) == 4
    status, output = run(environment, store, *arguments)
    assert status == 0, output
    assert "all 10 experiments are in" in output
    assert_selected(store)
    assert {name: at for name, at in trained(store).items() if name in tried} == before


def trained_so_far(store: Path) -> dict[Run, int]:
    return {
        found.run_id: found.encoder_path.stat().st_mtime_ns
        for found in Store(store).runs()
        if found.is_pretrained()
    }


def test_candidates_that_fail_are_passed_over(environment, tmp_path) -> None:
    """All with one head and one of two with the other."""
    sweep = SELECTING.replace(
        "    - head: [none, linear]\n      loss.temperature: [0.1, 0.5]\n",
        "    - head: [none]\n      optimizer.lr: [1.0e30]\n"
        "    - head: [linear]\n      optimizer.lr: [1.0e30, 0.1]\n",
    ).replace("over: [loss.temperature]", "over: [optimizer.lr]")
    arguments = [*own_sweeps(tmp_path / "config", pick=sweep), "sweep=pick", "optimizer.name=sgd"]
    status, output = run(environment, tmp_path / "store", *arguments, SHORT)
    assert status == 1, output
    for text in (
        "  head.kind=none: its only candidate did not complete; nothing is chosen",
        "  head.kind=linear: optimizer.lr=0.1 (",
        "best of 1 complete of 2)",
        "5 done, 2 not\nto retry what failed, run the same command again:\n  simclr-ablate -m ",
    ):
        assert text in output
    reported = of_seed(tmp_path / "store", 0, 1)
    assert [(r.config()["head"]["kind"], r.config()["optimizer"]["lr"]) for r in reported] == [
        ("linear", 0.1),
        ("linear", 0.1),
    ]


def test_a_union_chooses_as_soon_as_its_candidates_have_ended(environment, tmp_path) -> None:
    other = "name: other\ngrids:\n  - loss.temperature: [0.1, 0.2]\n    head: linear\n    seed: 0\n"
    union = "name: both\nsweeps: [pick, other]\n"
    flags = own_sweeps(tmp_path / "config", pick=SELECTING, other=other, both=union)
    store = tmp_path / "store"
    status, output = run(environment, store, *flags, "sweep=both", SHORT)
    assert status == 0, output
    assert "both: 8 experiments, 0 already finished, 8 to run" in output
    before, _, _ = output.partition("chosen on validation_top1")
    assert before.count("-s9") >= 8, "four candidates have started and ended"
    assert output.count("started ") in (11, 12)  # what both sweeps hold is run once
    members = {record.name: set(record.run_ids) for record in Store(store).sweeps()}
    everything = {found.run_id for found in Store(store).runs()}
    assert members["both"] == everything
    assert members["other"] <= everything
    assert len(members["pick"]) == 10
    assert f"all {len(everything)} experiments are in" in output
    status, output = run(environment, store, *flags, "sweep=both", SHORT)
    assert status == 0
    assert f"both: {len(everything)} experiments, {len(everything)} already finished" in output
    members = {record.name: set(record.run_ids) for record in Store(store).sweeps()}
    assert len(members["pick"]) == 10


def test_wrong_selections_are_refused_before_anything_starts(environment, tmp_path) -> None:
    flags = own_sweeps(tmp_path / "config", pick=SELECTING.replace("seed: 9", "seed: 1"))
    status, output = run(environment, tmp_path / "store", *flags, "sweep=pick")
    assert status == 2
    assert "error: sweep.select.seed must not be one of the reported seeds" in output
    environment = {**environment, "TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1"}
    environment |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    flags = own_sweeps(tmp_path / "config", pick=SELECTING)
    status, output = run(environment, tmp_path / "store", *flags, "sweep=pick")
    assert status == 2
    assert "torchrun carries out one run, got a sweep with select" in output
    assert not os.path.exists(tmp_path / "store")
