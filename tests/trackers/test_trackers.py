"""Real trackers: what is sent comes back through their own readers, as one run, each step once."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simclr_ablate.schema import Experiment, Tracking
from simclr_ablate.store import Run
from simclr_ablate.trackers.delivery import Delivery
from simclr_ablate.trackers.sync import send_pictures
from tests.trackers import readers
from tests.trackers.stored import begun, finish, lines

pytestmark = pytest.mark.slow

PROJECT = "a study"


def needs(package: str) -> pytest.MarkDecorator:
    parent = package.partition(".")[0]
    missing = any(importlib.util.find_spec(name) is None for name in (parent, package))
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


@pytest.fixture
def experiment(make_experiment) -> Experiment:
    return make_experiment("seed=7")


@pytest.fixture
def run(experiment, tmp_path) -> Run:
    return begun(tmp_path / "runs", experiment, range(1, 16))


def in_two_halves(run: Run, experiment: Experiment, tracking: Tracking) -> dict[str, float]:
    """Sends the first 15 steps, then as after a resumption from step 10, 15 more and an evaluation."""
    (name,) = tracking.names

    def send() -> None:
        delivery = Delivery(run, name, tracking, run.path.parent)
        assert delivery.begin()
        delivery.send()
        delivery.end()

    send()
    run.metrics.cut(10)
    run.metrics.append(lines(range(11, 31)))
    metrics = finish(run, experiment)
    send()
    send()
    return metrics


def expected(step: int) -> dict[str, float]:
    (line,) = lines([step])
    return {name: value for name, value in line.items() if name not in ("step", "time")}


def assert_once(found: readers.Steps) -> None:
    """All thirty steps, each once, with what was measured, to single precision."""
    assert [step for step, _ in found] == list(range(1, 31))
    for step, values in found:
        assert values == pytest.approx(expected(step), rel=1e-6)


def pictures(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir()
    drawn = {
        "figure5-shapes": np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
        "table1-shapes": np.full((2, 5, 4), 9, dtype=np.uint8),
    }
    for name, pixels in drawn.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return drawn


@needs("tensorboard")
def test_tensorboard(run, experiment, tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    tracking = Tracking(("tensorboard",), 1, PROJECT, None, None)
    metrics = in_two_halves(run, experiment, tracking)
    folder = tmp_path / "runs/.trackers/tensorboard" / run.run_id
    found = readers.in_tensorboard(folder)
    assert found.pop() == (30, pytest.approx(metrics))
    assert_once(found)
    events = EventAccumulator(str(folder)).Reload()
    assert [event.wall_time for event in events.Scalars("loss")][:2] == [1.7e9 + 1, 1.7e9 + 2]
    # The tab that compares settings has the run's once.
    (content,) = [
        events.SummaryMetadata(tag).plugin_data.content
        for tag in events.PluginTagToContent(metadata.PLUGIN_NAME)
    ]
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["seed"].number_value == 7
    assert start.hparams["loss.name"].string_value == "nt_xent"


@needs("tensorboard")
def test_pictures_in_tensorboard(run, tmp_path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    drawn = pictures(tmp_path / "reports")
    store = _store(run)
    tracking = Tracking(("tensorboard",), 1, PROJECT, None, None)
    assert send_pictures(store, "tensorboard", tracking, tmp_path / "reports") == 2
    (path,) = (store.root / ".trackers/tensorboard/pictures").iterdir()
    found = {
        value.tag: value.tensor.string_val
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    }
    assert found.keys() == drawn.keys()
    for name, pixels in drawn.items():
        width, height, png = found[name]
        assert (int(height), int(width)) == pixels.shape[:2]
        assert png == (tmp_path / f"reports/{name}.png").read_bytes()


@needs("wandb")
def test_wandb_offline(run, experiment, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracking = Tracking(("wandb",), 1, PROJECT, None, None)
    metrics = in_two_halves(run, experiment, tracking)
    ids, found, summary = readers.in_wandb(tmp_path / "runs/.trackers/wandb")
    assert ids == {run.run_id}
    assert_once(found)
    assert {name: summary[name] for name in metrics} == metrics


@needs("trackio")
def test_trackio(tmp_path) -> None:
    """In a process of its own, since Trackio reads the place of its database when it is imported."""
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")}
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    inner = [f"{__file__}::test_trackio_here", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    inner += ["--import-mode=importlib", f"--rootdir={Path(__file__).parents[2]}"]
    environment["SIMCLR_ABLATE_TEST_TRACKIO"] = "here"
    done = subprocess.run(
        [sys.executable, "-c", code, *inner], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.skipif("SIMCLR_ABLATE_TEST_TRACKIO" not in os.environ, reason="test_trackio calls it")
def test_trackio_here(run, experiment) -> None:
    tracking = Tracking(("trackio",), 1, "study", None, None)
    metrics = in_two_halves(run, experiment, tracking)
    found = readers.in_trackio("study", run.run_id)
    assert found.pop() == (30, metrics)
    assert_once(found)


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real server on this machine; its address."""
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    keys += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    keys += ["--artifacts-destination", str(folder / "artefacts")]
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *keys],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "log.txt").read_text()
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@needs("mlflow.server")
def test_mlflow(run, experiment, mlflow_server) -> None:
    tracking = Tracking(("mlflow",), 1, PROJECT, None, mlflow_server)
    metrics = in_two_halves(run, experiment, tracking)
    found, steps = readers.in_mlflow(mlflow_server, PROJECT, run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["seed"] == "7"
    last, values = steps.pop()
    assert {name: values.pop(name) for name in metrics} == metrics
    assert_once([*steps, (last, values)])


@needs("mlflow.server")
def test_params_that_a_killed_process_did_not_send_to_mlflow(
    run, experiment, mlflow_server, monkeypatch
) -> None:
    from mlflow import MlflowClient

    tracking = Tracking(("mlflow",), 1, "killed", None, mlflow_server)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as before:
        before.setattr(MlflowClient, "log_batch", killed)
        with pytest.raises(Killed):
            Delivery(run, "mlflow", tracking, run.path.parent).begin()
    (run.path / "trackers/mlflow/lease.1").unlink()
    metrics = in_two_halves(run, experiment, tracking)
    found, steps = readers.in_mlflow(mlflow_server, "killed", run.run_id)
    assert found.data.params["seed"] == "7"
    assert found.data.params["loss.temperature"] == str(experiment.loss.temperature)
    assert metrics.items() <= steps.pop()[1].items()


@needs("mlflow.server")
def test_pictures_in_mlflow(run, tmp_path, mlflow_server) -> None:
    from mlflow import MlflowClient

    drawn = pictures(tmp_path / "reports")
    tracking = Tracking(("mlflow",), 1, "pictures", None, mlflow_server)
    for sent in (2, 0):
        assert send_pictures(_store(run), "mlflow", tracking, tmp_path / "reports") == sent
    found, _ = readers.in_mlflow(mlflow_server, "pictures", "pictures")
    names = [
        each.path
        for each in MlflowClient(mlflow_server).list_artifacts(found.info.run_id, "pictures")
    ]
    assert names == [f"pictures/{name}.png" for name in sorted(drawn)]


def _store(run: Run):
    from simclr_ablate.store import Store

    return Store(run.path.parent)
