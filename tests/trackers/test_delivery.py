"""What is sent: every line and evaluation once, in order, whoever is killed when."""

import json
import os
from pathlib import Path

import pytest

from simclr_ablate import lease as leases
from simclr_ablate.schema import Experiment, Tracking
from simclr_ablate.trackers.delivery import LINES_AT_ONCE, Delivery, Tail
from tests.trackers.own import read
from tests.trackers.stored import begun, finish, lines


def tracking(tmp_path: Path, name: str = "Pages") -> Tracking:
    return Tracking((f"tests.trackers.own:{name}",), 1, "study", str(tmp_path / "pages"), None)


def deliver(run, wanted: Tracking) -> Delivery:
    return Delivery(run, wanted.names[0], wanted, run.path.parent)


@pytest.fixture
def experiment(make_experiment) -> Experiment:
    return make_experiment("seed=7")


@pytest.fixture(params=["Pages", "Forgetful"])
def wanted(request, tmp_path: Path) -> Tracking:
    return tracking(tmp_path, request.param)


def page_of(run, wanted: Tracking) -> list:
    assert wanted.folder is not None
    suffix = ".forgetful" if "Forgetful" in wanted.names[0] else ".page"
    return read(Path(wanted.folder) / f"{run.run_id}{suffix}")


def test_all_is_sent_once_as_it_comes(experiment, wanted, tmp_path) -> None:
    run = begun(tmp_path / "runs", experiment, range(1, 251))
    delivery = deliver(run, wanted)
    assert not delivery.is_up_to_date()
    assert delivery.begin()
    delivery.send()
    delivery.send()
    run.metrics.append(lines([251, 252]))
    delivery.send()
    metrics = finish(run, experiment)
    delivery.send()
    assert delivery.is_up_to_date()
    delivery.end()
    assert page_of(run, wanted) == [
        ["begin", 7],
        *(["line", line] for line in lines(range(1, 253))),
        ["result", metrics, 252],
        ["end", False],
    ]
    assert deliver(run, wanted).is_up_to_date()


def test_a_run_that_goes_on_goes_on_in_the_tracker(experiment, wanted, tmp_path) -> None:
    """It had come to step 30 when it was killed, and goes on from its checkpoint at step 20."""
    run = begun(tmp_path / "runs", experiment, range(1, 31))
    delivery = deliver(run, wanted)
    delivery.begin()
    delivery.send()
    delivery.end()
    run.metrics.cut(20)
    again = deliver(run, wanted)
    assert again.begin()
    again.send()
    for step in range(21, 41):
        run.metrics.append(lines([step]))
        again.send()
    metrics = finish(run, experiment)
    again.send()
    again.end()
    words = page_of(run, wanted)
    assert [word[1] for word in words if word[0] == "line"] == lines(range(1, 41))
    assert [word[1] for word in words if word[0] == "result"] == [metrics]


def test_the_file_of_a_run_that_resumes_is_read_on(experiment, wanted, tmp_path) -> None:
    run = begun(tmp_path / "runs", experiment, range(1, 31))
    delivery = deliver(run, wanted)
    delivery.begin()
    delivery.send()
    run.metrics.cut(20)
    delivery.send()
    run.metrics.append(lines(range(21, 36)))
    delivery.send()
    delivery.end()
    assert [w[1] for w in page_of(run, wanted) if w[0] == "line"] == lines(range(1, 36))


@pytest.mark.parametrize("name", ["Pages", "Forgetful"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_a_kill_while_sending_repeats_nothing(
    name, after, experiment, tmp_path, monkeypatch
) -> None:
    """Before any word to the tracker: a tracker that can be asked then has all, another lacks what was on its way."""
    wanted = tracking(tmp_path, name)
    run = begun(tmp_path / "runs", experiment, range(1, 2 * LINES_AT_ONCE + 51))
    metrics = finish(run, experiment)
    delivery, calls = deliver(run, wanted), 0
    delivery.begin()

    class Killed(BaseException):
        pass

    def perhaps(method):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls > after:
                raise Killed
            return method(*arguments)

        return call

    for method in ("log", "conclude"):
        monkeypatch.setattr(delivery._tracker, method, perhaps(getattr(delivery._tracker, method)))
    if after < 4:
        with pytest.raises(Killed):
            delivery.send()
    else:
        delivery.send()
    delivery.let_go()
    again = deliver(run, wanted)
    assert again.begin()
    again.send()
    again.end()
    words = page_of(run, wanted)
    steps = [word[1]["step"] for word in words if word[0] == "line"]
    lost = LINES_AT_ONCE if name == "Forgetful" and after < 3 else 0
    begin = after * LINES_AT_ONCE
    gone = set(range(begin + 1, begin + lost + 1))
    assert steps == [step for step in range(1, 2 * LINES_AT_ONCE + 51) if step not in gone]
    results = [word[1] for word in words if word[0] == "result"]
    assert results == ([] if name == "Forgetful" and after == 3 else [metrics])


@pytest.mark.parametrize("method", ["log", "conclude"])
def test_what_a_tracker_refuses_is_sent_later(
    method, experiment, wanted, tmp_path, monkeypatch
) -> None:
    run = begun(tmp_path / "runs", experiment, [1, 2])
    metrics = finish(run, experiment)
    delivery = deliver(run, wanted)
    delivery.begin()

    def refuse(*_: object) -> None:
        raise ConnectionError("not now")

    monkeypatch.setattr(delivery._tracker, method, refuse)
    with pytest.raises(ConnectionError):
        delivery.send()
    delivery.let_go()
    again = deliver(run, wanted)
    again.begin()
    again.send()
    again.end()
    words = [word[:2] for word in page_of(run, wanted) if word[0] in ("line", "result")]
    assert words == [*(["line", line] for line in lines([1, 2])), ["result", metrics]]


def test_a_later_evaluation_is_sent_alone(make_experiment, experiment, wanted, tmp_path) -> None:
    run = begun(tmp_path / "runs", experiment, [1, 2])
    finish(run, experiment)
    first = deliver(run, wanted)
    first.begin()
    first.send()
    first.end()
    more = finish(run, make_experiment("seed=7", "evaluation=knn"), 60.0)
    assert not deliver(run, wanted).is_up_to_date()
    second = deliver(run, wanted)
    second.begin()
    second.send()
    second.end()
    words = page_of(run, wanted)
    assert [word[0] for word in words] == [
        *("begin", "line", "line", "result", "end"),
        *("begin", "result", "end"),
    ]
    assert words[6] == ["result", more, 2]


def test_another_place_gets_it_all(experiment, tmp_path) -> None:
    run = begun(tmp_path / "runs", experiment, [1, 2])
    for place in ("one", "two", "two"):
        wanted = tracking(tmp_path / place, "Forgetful")
        delivery = deliver(run, wanted)
        delivery.begin()
        delivery.send()
        delivery.end()
        assert [w[1] for w in page_of(run, wanted) if w[0] == "line"] == lines([1, 2])


def test_one_process_sends_at_a_time(experiment, wanted, tmp_path) -> None:
    run = begun(tmp_path / "runs", experiment, [1])
    one, other = deliver(run, wanted), deliver(run, wanted)
    assert one.begin()
    assert not other.begin()
    one.end()
    assert other.begin()
    other.end()
    assert leases.holder(one.path) is None


def test_a_failed_run_ends_as_such(experiment, wanted, tmp_path) -> None:
    run = begun(tmp_path / "runs", experiment, [1])
    run.write_failure({"reason": "it had to be", "traceback": None})
    delivery = deliver(run, wanted)
    delivery.begin()
    delivery.send()
    delivery.end()
    assert page_of(run, wanted)[-1] == ["end", True]


def test_a_damaged_record_of_what_was_sent_counts_as_none(experiment, tmp_path, caplog) -> None:
    wanted = tracking(tmp_path)
    run = begun(tmp_path / "runs", experiment, [1])
    delivery = deliver(run, wanted)
    delivery.begin()
    delivery.end()
    (delivery.path / "sent.json").write_text('{"to": 3}')
    again = deliver(run, wanted)
    assert "sent.json" in caplog.text
    again.begin()
    again.send()
    again.end()
    assert [w[1] for w in page_of(run, wanted) if w[0] == "line"] == lines([1])


def test_a_tail_reads_each_whole_line_once(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail, texts = Tail(path), [json.dumps(line) + "\n" for line in lines(range(1, 7))]
    assert tail.read() == []
    path.write_text(texts[0] + texts[1][:7])
    assert tail.read() == lines([1])
    assert tail.read() == []
    with open(path, "a") as file:
        file.write(texts[1][7:] + "not a line\n" + texts[2])
    assert tail.read() == lines([2, 3])
    new = tmp_path / "new"
    new.write_text("".join(texts[:5]))
    os.replace(new, path)
    assert tail.read() == lines(range(1, 6))
