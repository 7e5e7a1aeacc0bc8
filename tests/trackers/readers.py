"""What trackers hold, read back by their own means: (step, metrics) of each step that was logged, in order."""

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Steps = list[tuple[int, dict[str, float]]]

_BLOCK, _HEADER = 32768, 7


def in_tensorboard(folder: Path) -> Steps:
    """The events of a run's folder, in the order of its files."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: Steps = []
    for path in sorted(folder.iterdir()):
        for event in EventFileLoader(str(path)).Load():
            values = {
                value.tag: value.tensor.float_val[0]
                for value in event.summary.value
                if value.metadata.plugin_data.plugin_name == "scalars"
            }
            if values:
                found.append((event.step, values))
    return found


def records(path: Path) -> Iterator[Any]:
    """The records of a file of Weights & Biases: those of a LevelDB log, each a protocol buffer."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole = path.read_bytes(), _HEADER, b""
    while place + _HEADER <= len(content):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + _HEADER])
        if not (length or kind):
            break
        whole += content[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def in_wandb(folder: Path) -> tuple[set[str], Steps, dict[str, float]]:
    """The ids in all files of the folder, their steps, and the summary."""
    ids, found, summary = set(), Steps(), {}
    for path in sorted(folder.rglob("*.wandb")):
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.add(record.run.run_id)
            elif kind == "history":
                items = {
                    item.key or "/".join(item.nested_key): item for item in record.history.item
                }
                values = {name: json.loads(item.value_json) for name, item in items.items()}
                step = values.pop("_step")
                found.append((step, {n: v for n, v in values.items() if not n.startswith("_")}))
            elif kind == "summary":
                summary.update(
                    {
                        u.key or ".".join(u.nested_key): json.loads(u.value_json)
                        for u in record.summary.update
                    }
                )
    return ids, found, summary


def in_trackio(project: str, run_id: str) -> Steps:
    """The rows of Trackio's database."""
    from trackio.sqlite_storage import SQLiteStorage

    assert [each["name"] for each in SQLiteStorage.get_run_records(project)].count(run_id) == 1
    rows = SQLiteStorage.get_logs(project, run_id)
    return [
        (row["step"], {n: v for n, v in row.items() if n not in ("step", "timestamp")})
        for row in rows
    ]


def in_mlflow(uri: str, project: str, run_id: str) -> tuple[Any, Steps]:
    """The one run of that name, and its steps."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(project)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"attributes.run_name = '{run_id}'")
    (run,) = found
    steps: dict[int, dict[str, float]] = defaultdict(dict)
    for name in run.data.metrics:
        for each in client.get_metric_history(run.info.run_id, name):
            assert name not in steps[each.step], "no step has it twice"
            steps[each.step][name] = each.value
    return run, sorted(steps.items())
