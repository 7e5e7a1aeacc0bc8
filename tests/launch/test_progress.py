"""What a person who watches sees, on a terminal and in a file."""

import io
from typing import Any

import pytest
from rich.console import Console

from simclr_ablate.launch import progress as progress_module
from simclr_ablate.launch.progress import ProgressView, columns, duration, headline
from tests.slowly import PROTOCOL

PRETRAINING: dict[str, Any] = {
    "phase": "pretraining",
    "epoch": 2,
    "epochs": 7,
    "step": 50,
    "steps": 200,
    "fraction": 0.25,
    "loss": 2.5,
    "lr": 0.003,
    "pairs_per_second": 3456.7,
    "seconds_left": 65.0,
}


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160)


def finish(planned: Any, top1: float) -> None:
    planned.run.write_evaluation(planned.evaluation_key, {}, {"top1": top1})


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1:00 min"), (7620, "2:07 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_columns_of_every_phase() -> None:
    assert columns({}) == ["starting"]
    assert columns({"phase": "evaluating"}) == ["evaluating"]
    shown = ["epoch 2/7", "step 50/200", "loss 2.500", "lr 0.003", "3,457 pairs/s"]
    assert columns(PRETRAINING) == [*shown, "1:05 min left"]
    rate = {"images_per_second": PRETRAINING["pairs_per_second"]}
    supervised = {**PRETRAINING, **rate}
    del supervised["pairs_per_second"]
    assert "3,457 images/s" in columns(supervised)
    early = {**PRETRAINING, "loss": None, "seconds_left": None}
    assert columns(early) == [*shown[:2], "loss -", *shown[3:]]


def test_plain_lines_tell_how_far_it_is_and_how_long_it_takes(make_runs, monkeypatch) -> None:
    clock = 100.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock)
    first, second, third, fourth = make_runs(4).runs
    view = ProgressView(console(terminal=False), total=5, done=1)
    with view:
        view.started(first)
        view.started(second)
        first.run.write_progress(PRETRAINING)
        clock += 40
        view.update([first, second], 2, 0)
        assert "left " not in view._console.file.getvalue()  # nothing is done yet to tell from
        finish(first, 41.26)
        view.completed(first)
        view.started(third)
        clock += 40
        third.run.write_progress(PRETRAINING)
        view.update([second, third], 1, 0)
        view.failed(second, "because")
        finish(fourth, 30.0)
        view.completed(fourth)
    lines = view._console.file.getvalue().splitlines()
    assert f"done      {first.label}  top-1 41.3 %  40 s  [2/5]" in lines
    assert f"failed    {second.label}  because" in lines
    # 40 s each, three to go less a quarter of one, two side by side.
    assert "left      3 experiments, about 55 s" in lines
    # Another command's: how long it took is not known.
    assert f"done      {fourth.label}  top-1 30.0 %  [3/5]" in lines
    assert any(f"running   {third.label}  epoch 2/7 step 50/200" in line for line in lines)


def test_a_terminal_shows_a_line_per_run_and_counts(make_runs) -> None:
    first, second = make_runs(2).runs
    first.run.write_progress(PRETRAINING)
    decoding = {"phase": "decoding pictures: 5,000 of 20,000", "fraction": 0.25}
    second.run.write_progress(decoding)
    view = ProgressView(console(terminal=True), total=6, done=1)
    with view:
        view.started(first)
        view.started(second)
        view.update([first, second], waiting=2, elsewhere=1)
        shown = view._console.file.getvalue()
    for text in (
        first.label,
        "epoch 2/7",
        "3,457 pairs/s",
        "decoding pictures: 5,000 of 20,000",
        "1 done",
        "0 failed",
        "2 running, 2 left, 1 run by another command",
        "━",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("evaluation", "metrics", "text"),
    [
        (["linear"], {"top1": 41.26, "top5": 80.0}, "top-1 41.3 %"),
        (["linear_sgd"], {"top1": 41.26}, "linear_sgd top-1 41.3 %"),
        (
            ["probe", "evaluation.probe=rotation"],
            {"probe_accuracy": 60.0},
            "probe for rotation 60.0 %",
        ),
        (["linear", PROTOCOL], {"purity": 7.0}, "tests.slowly:by_one_feature purity 7.0 %"),
    ],
)
def test_the_headline_names_the_protocol_and_its_main_metric(
    evaluation, metrics, text, make_runs
) -> None:
    (planned,) = make_runs(1, f"evaluation={evaluation[0]}", *evaluation[1:]).runs
    assert headline(planned) == ""
    config = planned.experiment.to_config()["evaluation"]
    planned.run.write_evaluation(planned.evaluation_key, config, metrics)
    assert headline(planned) == text
