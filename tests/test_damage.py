"""One damaged file of a store costs its own run alone, is named, and is made again where results rest on it."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import analysis
from simclr_ablate import status
from simclr_ablate.schema import SCHEMA_VERSION
from simclr_ablate.store import Run, Store
from tests.small_runs import SMALL, give_seeds

pytestmark = pytest.mark.slow

SEEDS = 8
PROOF = "PROOF"
"""The variable that says what code of a file would make."""


def of_json(content: bytes) -> list[Callable[[Path], object]]:
    """Eight ways to damage a file of JSON."""
    changed = {name: [str(value)] for name, value in json.loads(content).items()}
    return [
        lambda path: path.write_bytes(content[: len(content) // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"{}"),
        lambda path: path.write_bytes(b"null"),
        lambda path: path.write_bytes(b"[]"),
        lambda path: path.write_text(json.dumps(changed)),
        lambda path: path.write_bytes(b'{"\xff\xfe": 1}'),
        lambda path: (path.unlink(), path.mkdir(), (path / "file").touch()),
    ]


class Code:
    """What pickle would run when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ[PROOF],)


def of_tensors(content: bytes) -> list[Callable[[Path], object]]:
    """Eight ways to damage a file of tensors."""
    place = len(content) // 2
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    return [
        lambda path: path.write_bytes(content[: len(content) // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(flipped),
        lambda path: path.write_bytes(pickle.dumps(Code())),
        lambda path: torch.save(Code(), path),
        lambda path: torch.save({"encoder": {}, "head": [1]}, path),
        lambda path: path.write_bytes(b"\xff" * 1000),
        lambda path: (path.unlink(), path.mkdir()),
    ]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def again(compose_config, make_experiment, cache: Path) -> Callable[..., None]:
    """`again(store, knn=5)`: the runs' command, given (again); it must come to its end."""
    first = make_experiment(*SMALL)

    def build(store: Path, knn: int = 5) -> None:
        give_seeds(compose_config, store, cache, first, SEEDS, knn)

    return build


@pytest.fixture(scope="session")
def whole(again: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of as many runs, seed by seed, as there are ways to damage a file."""
    store = tmp_path_factory.mktemp("whole") / "runs"
    again(store)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(PROOF, str(tmp_path / "made by code of a file"))
    yield Path(shutil.copytree(whole, tmp_path / "runs"))
    assert not os.path.exists(os.environ[PROOF]), "code was run"


def runs_of(store: Path) -> list[Run]:
    return list(Store(store).runs())


def results(store: Path) -> dict[str, Any]:
    """Configs, metrics of the default evaluation, last metrics of pretraining but the time, and weights."""
    found = {}
    for run in runs_of(store):
        config = {name: part for name, part in run.config().items() if name != "compute"}
        metrics = [e["metrics"] for e in run.evaluations().values() if e["config"]["knn"] == 5]
        weights = run.weights()
        sums = {n: float(t.double().sum()) for part in weights.values() for n, t in part.items()}
        found[run.run_id] = (config, metrics, sums)
    return found


def damage_each(store: Path, name: str, of_kind: Callable[[bytes], Any]) -> None:
    """Damages the same file of each run, in another way each."""
    runs = runs_of(store)
    assert len(runs) == SEEDS
    for number, run in enumerate(runs):
        (path,) = run.path.glob(name)
        of_kind(path.read_bytes())[number](path)


def shown(store: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What `status` tells of each run; it must show all of them in all of its ways."""
    assert status.main([f"store={store}"]) == 0
    assert status.main([f"store={store}", "--follow"]) == 0
    for action in ("cancel", "clean"):
        assert status.main([f"store={store}", action]) == 0
    capsys.readouterr()
    assert status.main([f"store={store}", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert len(rows) == SEEDS
    return rows


def named(caplog: pytest.LogCaptureFixture, name: str) -> set[str]:
    """The runs whose file of that name was told of."""
    told = [record.getMessage() for record in caplog.records]
    return {line.partition(f"/{name}")[0].rpartition("/")[2] for line in told if name in line}


def test_a_damaged_config(store, whole, again, capsys, caplog) -> None:
    damage_each(store, "experiment.json", of_json)
    rows = shown(store, capsys)
    assert not any(row["state"] == "complete" for row in rows)
    assert all("experiment.json is damaged" in row["config"] for row in rows)
    assert len(analysis.load(store)) == 0
    assert len(named(caplog, "experiment.json")) == SEEDS
    again(store)
    assert results(store) == results(whole)


def test_a_config_edited_into_that_of_another_run_is_no_result(store, capsys, caplog) -> None:
    first, second, *_ = runs_of(store)
    (first.path / "experiment.json").write_bytes((second.path / "experiment.json").read_bytes())
    edited = second.path / "experiment.json"
    edited.write_text(edited.read_text().replace('"temperature": 0.2', '"temperature": 0.1'))
    copy = store / "a-copy"
    shutil.copytree(runs_of(store)[2].path, copy)
    found = analysis.load(store)
    assert len(found) == SEEDS - 2
    assert "a-copy" not in set(found["run_id"])
    assert named(caplog, "experiment.json") == {first.run_id, second.run_id, "a-copy"}
    assert f"but that of {second.run_id}" in caplog.text


def test_a_damaged_evaluation(store, whole, again, capsys, caplog) -> None:
    damage_each(store, "evaluations/*.json", of_json)
    assert {row["state"] for row in shown(store, capsys)} == {"pretrained"}
    found = analysis.load(store)
    assert set(found["state"]) == {"pretrained"}
    assert found["top1"].isna().all()
    assert (
        len({r.getMessage() for r in caplog.records if "/evaluations/" in r.getMessage()}) == SEEDS
    )
    stamps = [run.encoder_path.stat().st_mtime_ns for run in runs_of(store)]
    again(store)
    assert results(store) == results(whole)
    assert [run.encoder_path.stat().st_mtime_ns for run in runs_of(store)] == stamps


def test_a_number_edited_in_an_evaluation_does_not_count(store, caplog) -> None:
    first, *_ = runs_of(store)
    (path,) = (first.path / "evaluations").glob("*.json")
    content = json.loads(path.read_text())
    content["metrics"]["top1"] += 1
    path.write_text(json.dumps(content))
    assert not first.is_evaluated()
    assert "does not match its digest" in caplog.text
    del content["digest"]
    path.write_text(json.dumps(content))
    assert not first.is_evaluated()
    assert "it has no digest" in caplog.text
    # Of before there were digests and owners.
    del content["belongs_to"]
    path.write_text(json.dumps(content))
    assert first.evaluations()[path.stem]["metrics"]["top1"] == content["metrics"]["top1"]


def test_a_damaged_encoder_is_made_again_and_what_it_gave_stays(
    store, whole, again, capsys
) -> None:
    damage_each(store, "encoder.pt", of_tensors)
    assert {row["state"] for row in shown(store, capsys)} == {"complete"}
    for run in runs_of(store):
        with pytest.raises(ValueError, match=r"encoder\.pt is damaged") as raised:
            run.weights() if run.encoder_path.is_dir() else analysis_weights(run)
        assert "weights_only" not in str(raised.value)
    before = {run: run.evaluations() for run in runs_of(store)}
    again(store)
    assert [run.log_path.read_text().count("pretraining from step") for run in before] == [
        1
    ] * SEEDS
    again(store, knn=3)
    assert results(store) == results(whole)
    for run, kept in before.items():
        assert kept.items() <= run.evaluations().items()
        assert len(run.evaluations()) == 2
        assert "it is kept as encoder.pt.damaged and made again" in run.log_path.read_text()
        assert "pretraining from step 0 of" in run.log_path.read_text().partition("made again")[2]
        assert os.path.exists(run.path / "encoder.pt.damaged")


def analysis_weights(run: Run) -> dict[str, Any]:
    from analysis.weights import load_weights

    found = load_weights(run)
    if found["head"] == [1]:  # only the experiment tells what must be in it
        raise ValueError("encoder.pt is damaged")
    return found


def test_a_damaged_checkpoint(store, whole, again, capsys) -> None:
    """The last one, with none before it: from the start."""
    for run in runs_of(store):
        shutil.move(run.encoder_path, run.path / "checkpoint.pt")
        shutil.rmtree(run.path / "evaluations")
    damage_each(store, "checkpoint.pt", of_tensors)
    assert {row["state"] for row in shown(store, capsys)} == {"interrupted"}
    again(store)
    assert results(store) == results(whole)
    for run in runs_of(store):
        assert "checkpoint.pt is damaged" in run.log_path.read_text()
        assert not run.path.joinpath("checkpoint.pt").exists()


SUBMISSION = {"job": "7", "cluster": "local", "output": "7.err", "time": 0.0, "evaluations": []}
FAILURE = {"reason": "because", "time": 0.0}
TIMEOUTS = {"place": [False, 3], "count": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("progress.json", None),
        ("submission.json", SUBMISSION),
        ("failure.json", FAILURE),
        ("timeouts.json", TIMEOUTS),
    ],
)
def test_a_damaged_note(store, whole, again, capsys, caplog, name, content) -> None:
    """Of what no result rests on: nothing is lost, and what has to be done is done."""
    for run in runs_of(store):
        if content is not None:
            (run.path / name).write_text(json.dumps(content))
        shutil.rmtree(run.path / "evaluations")
    damage_each(store, name, of_json)
    assert {row["state"] for row in shown(store, capsys)} == {"pretrained"}
    assert len(analysis.load(store)) == SEEDS
    for run in runs_of(store):
        run.count_timeout()
    if name not in ("timeouts.json",):
        assert len(named(caplog, name)) == SEEDS
    again(store)
    assert {row["state"] for row in shown(store, capsys)} == {"complete"}
    assert results(store) == results(whole)


def test_retry_over_damaged_submissions(store, whole, cache, capsys, monkeypatch) -> None:
    """Where and how a run was launched is lost, and so it is launched here; what it is stands elsewhere."""
    monkeypatch.setenv("SIMCLR_ABLATE_CACHE", str(cache))
    for run in runs_of(store):
        (run.path / "submission.json").write_text(json.dumps(SUBMISSION))
        shutil.rmtree(run.path / "evaluations")
    damage_each(store, "submission.json", of_json)
    assert status.main([f"store={store}", "retry"]) == 0
    assert {row["state"] for row in shown(store, capsys)} == {"complete"}
    assert results(store) == results(whole)


def test_retry_by_the_submission_of_another_run(store, whole, cache, monkeypatch) -> None:
    monkeypatch.setenv("SIMCLR_ABLATE_CACHE", str(cache))
    run, other, *_ = runs_of(store)
    record = SUBMISSION | {"configs": [other.config()], "withdrawn": True}
    (run.path / "submission.json").write_text(json.dumps(record))
    shutil.rmtree(run.path / "evaluations")
    assert status.main([f"store={store}", "retry"]) == 0
    assert results(store) == results(whole)


def test_damaged_records_of_sweeps_and_choices(store, again, capsys, caplog) -> None:
    runs = Store(store)
    ids = [run.run_id for run in runs.runs()]
    sweep, choice = json.dumps(good_sweep(ids)), json.dumps(good_choice())
    for place, content in ((".sweeps/broken-{}.json", sweep), (CHOICE, choice)):
        for number, damage in enumerate(of_json(content.encode())):
            path = store / place.format(number)
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(content)
            damage(path)
    (store / ".sweeps/good-1.json").write_text(sweep)
    shown(store, capsys)
    assert status.main([f"store={store}", "sweep=good"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(f"{SEEDS} complete")
    assert runs.choices() == []
    told = {r.getMessage().split()[0] for r in caplog.records if "/broken-" in r.getMessage()}
    assert len(told) == 16
    found = analysis.load(store)
    assert {name for names in found["sweeps"] for name in names} == {"good"}
    again(store)


def good_sweep(ids: list[str]) -> dict[str, Any]:
    return {"name": "good", "run_ids": ids, "time": 1.0}


CHOICE = ".choices/broken-{}/submission.json"


def good_choice() -> dict[str, Any]:
    sweeps = {"good": "good-1"}
    job = {"job": "7", "cluster": "slurm", "output": "7.err", "time": 0.0}
    return {**job, "sweep": "good", "sweeps": sweeps}


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", "", "a/../../outside"])
def test_ids_of_records_do_not_leave_the_store(store, capsys, caplog, name) -> None:
    inside = runs_of(store)[0].run_id
    runs = Store(store)
    (store / ".sweeps").mkdir()
    (store / ".sweeps/good-1.json").write_text(json.dumps(good_sweep([inside, name])))
    (store / ".sweeps/bad-1.json").write_text(json.dumps(good_sweep([inside]) | {"name": name}))
    bad_choice = good_choice() | {"sweeps": {"good": name}}
    (store / ".choices/good-1").mkdir(parents=True)
    (store / ".choices/good-1/submission.json").write_text(json.dumps(bad_choice))
    (record,) = [one for one in runs.sweeps() if one.time == 1.0]
    assert record.run_ids == (inside,)
    assert [choice.sweeps for choice in runs.choices()] == [{}]
    assert f"{name!r}" in caplog.text
    with pytest.raises(ValueError, match="must be a valid file name"):
        runs.run(name)
    with pytest.raises(ValueError, match="must be a valid file name"):
        runs.record_sweep(name, [inside])
    assert status.main([f"store={store}", "sweep=good", "--json"]) == 0
    assert [row["run_id"] for row in json.loads(capsys.readouterr().out)] == [inside]


def test_runs_of_another_schema_are_told_as_such(store, again, capsys, caplog) -> None:
    old, *rest = runs_of(store)
    path = old.path / "experiment.json"
    content = json.loads(path.read_text())
    content["config"]["views"]["colour"] = content["config"]["views"].pop("strength")
    path.write_text(json.dumps(content | {"schema_version": 0}))
    before = path.read_bytes()
    rows = {row["run_id"]: row for row in shown(store, capsys)}
    assert rows[old.run_id]["state"] == "complete"
    assert "its schema is 0" in rows[old.run_id]["config"]
    assert set(analysis.load(store)["run_id"]) == {run.run_id for run in rest}
    told = (
        f"1 run is left out, made by a version with schema 0 (here {SCHEMA_VERSION}): {old.run_id}"
    )
    assert told in caplog.text
    shutil.rmtree(old.path / "evaluations")
    assert status.main([f"store={store}", "retry"]) == 1
    assert (
        f"not retried: {old.run_id}: it is of another version: its schema is 0"
        in capsys.readouterr().err
    )
    assert path.read_bytes() == before


def test_what_pretraining_came_to_is_made_again_from_the_encoder(store, whole, again) -> None:
    """Also where the run is complete, and nothing is to be carried out."""
    damage_each(store, "pretraining.json", of_json)
    assert analysis.load(store)["pretraining.entropy"].isna().all()
    again(store)
    assert_untrained(store, whole)
    for run in runs_of(store):
        (run.path / "pretraining.json").unlink()
        shutil.rmtree(run.path / "evaluations")
    again(store)
    assert_untrained(store, whole)
    assert results(store) == results(whole)


def assert_untrained(store: Path, whole: Path) -> None:
    """Every run's pretraining.json is bit for bit what it was, and so is its encoder, of one pretraining."""
    for run, before in zip(runs_of(store), runs_of(whole), strict=True):
        for name in ("pretraining.json", "encoder.pt"):
            assert (run.path / name).read_bytes() == (before.path / name).read_bytes()
        assert run.log_path.read_text().count("pretraining from step") == 1
    found, expected = analysis.load(store), analysis.load(whole)
    assert found["pretraining.entropy"].notna().all()
    assert found["pretraining.entropy"].equals(expected["pretraining.entropy"])


def test_an_encoder_of_before_it_held_what_pretraining_came_to(store, whole, again) -> None:
    for run in runs_of(store):
        torch.save(run.weights(), run.encoder_path)
        (run.path / "pretraining.json").unlink()
    again(store, knn=3)
    for run in runs_of(store):
        assert run.pretraining() == {}
        assert len(run.evaluations()) == 2
        assert run.log_path.read_text().count("pretraining from step") == 1
    assert results(store) == results(whole)


def test_an_encoder_that_is_damaged_too_costs_no_evaluation(store, whole, again, caplog) -> None:
    damage_each(store, "encoder.pt", of_tensors)
    for run in runs_of(store):
        (run.path / "pretraining.json").unlink()
    again(store)
    told = [r.getMessage() for r in caplog.records if "was not rebuilt" in r.getMessage()]
    assert len(told) == SEEDS - 1, "one holds something that is no encoder, and of before"
    assert [run.evaluations() for run in runs_of(store)] == [
        run.evaluations() for run in runs_of(whole)
    ]


def test_a_file_of_another_run_is_not_taken_for_ones_own(store, whole, again, caplog) -> None:
    """Each run has the next one's files, whole as they are."""
    runs = runs_of(whole)
    key = next(iter(runs[0].evaluations()))
    for name in ("pretraining.json", f"evaluations/{key}.json"):
        for run, other in zip(runs, runs[1:] + runs[:1], strict=True):
            shutil.copy(other.path / name, store / run.run_id / name)
    found = analysis.load(store)
    assert found["top1"].isna().all()
    assert found["pretraining.entropy"].isna().all()
    for run in runs:
        for product in ("pretraining", f"evaluations/{key}"):
            assert f"it belongs to {run.run_id}/{product}" in caplog.text
    again(store)
    assert results(store) == results(whole)
    assert_untrained(store, whole)
    for run, other in zip(runs, runs[1:] + runs[:1], strict=True):
        kept = store / run.run_id / f"evaluations/{key}.json.damaged"
        assert kept.read_bytes() == (other.path / f"evaluations/{key}.json").read_bytes()


def test_an_evaluation_under_another_key_is_no_result(store, again, caplog) -> None:
    again(store, knn=3)
    first = runs_of(store)[0]
    one, other = first.evaluations()
    expected = first.evaluations()
    folder = first.path / "evaluations"
    shutil.copy(folder / f"{one}.json", folder / f"{other}.json")
    assert list(first.evaluations()) == [one]
    assert f"{other}.json cannot be read and counts as absent: it belongs to" in caplog.text
    again(store)
    again(store, knn=3)
    assert {key: e["metrics"] for key, e in first.evaluations().items()} == {
        key: e["metrics"] for key, e in expected.items()
    }


def test_weights_of_another_run_are_not_evaluated(store, whole, again) -> None:
    """Neither as the encoder, nor as a checkpoint to go on from."""
    runs = runs_of(whole)
    for run, other in zip(runs, runs[1:] + runs[:1], strict=True):
        folder = store / run.run_id
        shutil.copy(other.encoder_path, folder / "encoder.pt")
        shutil.copy(run.encoder_path, folder / "checkpoint.pt")
        shutil.rmtree(folder / "evaluations")
    assert status.main([f"store={store}", "clean"]) == 0
    again(store)
    assert results(store) == results(whole)
    for run, other in zip(runs, runs[1:] + runs[:1], strict=True):
        text = (store / run.run_id / "log.txt").read_text()
        assert f"encoder.pt is damaged: it belongs to {other.run_id}/encoder" in text
        assert f"checkpoint.pt is damaged: it belongs to {run.run_id}/encoder" in text
        kept = store / run.run_id / "encoder.pt.damaged"
        assert kept.read_bytes() == other.encoder_path.read_bytes()
