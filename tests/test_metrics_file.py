"""Lines of metrics: added whole, cut back to a step, and read without what is damaged."""

import json
from pathlib import Path

import pytest

from simclr_ablate.files import StorageError
from simclr_ablate.store.metrics import MetricsFile, whole_lines


@pytest.fixture
def file(tmp_path: Path) -> MetricsFile:
    return MetricsFile(tmp_path / "metrics.jsonl")


def lines(*steps: int) -> list[dict[str, float]]:
    return [{"step": step, "epoch": 1, "loss": 1 / step} for step in steps]


def test_lines_come_back_as_they_were_added(file: MetricsFile) -> None:
    assert file.read() == []
    file.append([])
    assert not file.path.exists()
    file.append(lines(1, 2))
    file.append(lines(3), durably=True)
    assert file.read() == lines(1, 2, 3)
    assert [json.loads(line) for line in file.path.read_text().splitlines()] == lines(1, 2, 3)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
def test_cutting_leaves_the_lines_up_to_a_step(file: MetricsFile, step: int) -> None:
    file.cut(step)
    assert not file.path.exists()
    file.append(lines(1, 2, 4))
    file.cut(step)
    assert file.read() == [line for line in lines(1, 2, 4) if line["step"] <= step]
    file.append(lines(9))
    assert file.read()[-1:] == lines(9)


@pytest.mark.parametrize("cut_short", [b'{"step": 3, "lo', b'{"step": 3, "epoch": 1}', b"\x00\x00"])
def test_a_line_that_was_cut_short_is_not_read_and_is_removed(
    file: MetricsFile, cut_short: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.append(lines(1, 2))
    with open(file.path, "ab") as raw:
        raw.write(cut_short)
    assert file.read() == lines(1, 2)
    assert not caplog.records, "it may still be being written"
    file.cut(5)
    file.append(lines(3))
    assert file.read() == lines(1, 2, 3)


@pytest.mark.parametrize(
    "damaged",
    ["[]", "3", '{"epoch": 1}', '{"step": 1.5}', '{"step": 1, "loss": NaN}', "\x00", "[" * 9999],
)
def test_a_damaged_line_costs_itself(
    file: MetricsFile, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    file.append(lines(1))
    with open(file.path, "a") as raw:
        raw.write(f"{damaged}\n")
    file.append(lines(3))
    assert file.read() == lines(1, 3)
    assert "line 2" in caplog.text
    file.cut(3)
    assert whole_lines(file.path.read_bytes()) == [
        json.dumps(x).encode() + b"\n" for x in lines(1, 3)
    ]


def test_a_folder_in_its_place_is_named(file: MetricsFile) -> None:
    file.path.mkdir()
    assert file.read() == []
    with pytest.raises(StorageError, match=r"metrics\.jsonl"):
        file.append(lines(1))
