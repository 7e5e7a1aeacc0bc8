"""`until=decided`: what it adds, when it stops, and that it goes on and shares its work. On runs of seconds."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from analysis.claims import scorecard
from simclr_ablate.launch.until import Widened, _Seeds
from simclr_ablate.store import Store
from tests.commands import eventually, own_sweeps, run_process, start, user_environment
from tests.shared import warm_cache

pytestmark = pytest.mark.slow

UNTIL = ["-m", "sweep=flip", "optimizer.epochs=1", "until=decided"]


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    return user_environment(warm_cache(tmp_path_factory))


@pytest.fixture(scope="module")
def three(user, tmp_path_factory):
    """A store of three seeds, with accuracies such that five are expected to decide that the flip helps."""
    store = tmp_path_factory.mktemp("three")
    status, output = run_process(user, store, *UNTIL, "max_seeds=3")
    assert status == 0, output
    assert "finding flip (shapes): 1 seed" in output
    gains = {0: 2.0, 1: 2.6, 2: 1.5}
    for run in Store(store).runs():
        config, ((key, content),) = run.config(), run.evaluations().items()
        if config["objective"] == "contrastive":
            top1 = 50 + gains[config["seed"]] * config["views"]["flip"]
            metrics = {**content["metrics"], "top1": top1}
            run.write_evaluation(key, content["config"], metrics, seconds=content["seconds"])
    return store


@pytest.fixture
def copy(three, tmp_path):
    """A copy of that store."""
    return Path(shutil.copytree(three, tmp_path / "copy"))


@pytest.fixture(scope="module")
def whole(user, three, tmp_path_factory):
    """That store and the output, after a command with at most five seeds that nobody disturbs."""
    store = Path(shutil.copytree(three, tmp_path_factory.mktemp("whole") / "store"))
    status, output = run_process(user, store, *UNTIL, "max_seeds=5")
    assert status == 0, output
    return store, output


def seeds_of(store):
    """The seeds of every config in the store, by objective and flip."""
    found = {}
    for run in Store(store).runs():
        config = run.config()
        is_random = config["objective"] == "none"
        name = config["objective"], None if is_random else config["views"]["flip"]
        assert run.state() == "complete"
        found.setdefault(name, set()).add(config["seed"])
    return found


def flip(store):
    (finding,) = [one for one in scorecard(analysis.load(store)) if one.claim.name == "flip"]
    return finding


def metrics_of(store):
    return {
        run.run_id: {key: each["metrics"] for key, each in run.evaluations().items()}
        for run in Store(store).runs()
    }


def test_what_three_seeds_leave_open_gets_five(whole, three):
    store, output = whole
    before = flip(three)
    assert (before.verdict, before.looks, before.decides_at) == ("undecided", 1, 5)
    assert "finding flip (shapes): 3 seeds, expected to be decided at 5; 4 experiments" in output
    expected = {("none", None): {0}, ("contrastive", True): set(range(5))}
    expected["contrastive", False] = set(range(5))
    assert seeds_of(store) == expected, "no finding rests on the random encoder"
    after = flip(store)
    assert (after.seeds, after.looks) == (5, 2)
    assert "Look 2 of 5, at 5 seeds." in after.reason


def test_what_is_out_of_reach_is_left(whole, user, tmp_path):
    """Two seeds with a difference far from the other three leave nothing to hope for."""
    store = Path(shutil.copytree(whole[0], tmp_path / "copy"))
    for run in Store(store).runs():
        config, ((key, content),) = run.config(), run.evaluations().items()
        if config["objective"] == "contrastive" and config["seed"] > 2:
            metrics = {**content["metrics"], "top1": 50 - 3 * config["views"]["flip"]}
            run.write_evaluation(key, content["config"], metrics, seconds=content["seconds"])
    status, output = run_process(user, store, *UNTIL)
    assert status == 0, output
    assert "until=decided: 1 finding left, out of reach with 21 seeds" in output
    assert max(seeds_of(store)["contrastive", True]) == 4
    assert "even 21 seeds would not decide it" in flip(store).reason


def test_what_was_looked_at_stays_so(whole, user):
    store, _ = whole
    records = Store(store).sweeps()
    assert {record.until for record in records if record.name == "flip"} == {"decided"}
    looked = set().union(*(record.run_ids for record in records))
    assert looked == {run.run_id for run in Store(store).runs()}
    status, output = run_process(user, store, "-m", "sweep=flip", "optimizer.epochs=1")
    assert status == 0, output
    assert all(record.until for record in Store(store).sweeps())


def test_the_random_encoder_is_first(user, tmp_path):
    line = ["-m", "sweep=flip", "optimizer.epochs=1", "launcher.parallel=1"]
    status, output = run_process(user, tmp_path, *line)
    assert status == 0, output
    begun = [line for line in output.splitlines() if line.lstrip().startswith("started")]
    assert "random" in begun[0], output


def test_a_sweep_of_ones_own_is_taken_on_too(user, tmp_path):
    flags = own_sweeps(tmp_path, mine="# @package sweep\ngrids:\n  - views.flip: [true, false]\n")
    line = [*flags, "sweep=mine", "optimizer.epochs=1", "until=decided", "max_seeds=3"]
    store = tmp_path / "store"
    status, output = run_process(user, store, *line)
    assert status == 0, output
    assert seeds_of(store) == {("contrastive", flip): {0, 1, 2} for flip in (True, False)}


def test_given_again_it_does_nothing_twice(whole, user):
    store, _ = whole
    before = {path: path.stat().st_mtime_ns for path in store.rglob("encoder.pt")}
    status, output = run_process(user, store, *UNTIL, "max_seeds=5")
    assert status == 0, output
    assert {path: path.stat().st_mtime_ns for path in store.rglob("encoder.pt")} == before
    assert "rebuilt" not in output


def test_a_spent_budget_starts_nothing(user, tmp_path):
    status, output = run_process(user, tmp_path, *UNTIL, "budget_hours=1e-9")
    assert status == 0, output
    assert "the time is up: 0 done, 3 not started" in output
    assert not list(tmp_path.glob("*/encoder.pt"))


def test_a_step_that_does_not_fit_is_not_begun(copy, user):
    status, output = run_process(user, copy, *UNTIL, "budget_hours=1e-5")
    assert status == 0, output
    assert "until=decided: 1 finding left; the least takes" in output
    assert max(seeds_of(copy)["contrastive", True]) == 2


def test_interrupted_it_goes_on(whole, user, copy):
    command = start(user, copy, *UNTIL, "max_seeds=5", "launcher.parallel=1")
    eventually(lambda: list(copy.glob("*-s3-*/encoder.pt")), "a run of the next seed")
    command.send_signal(signal.SIGINT)
    output, _ = command.communicate(timeout=120)
    assert command.returncode == 130, output
    status, output = run_process(user, copy, *UNTIL, "max_seeds=5")
    assert status == 0, output
    assert metrics_of(copy) == metrics_of(whole[0])


def test_two_commands_share_the_work(whole, user, copy):
    line = [*UNTIL, "max_seeds=5", "launcher.parallel=1"]
    commands = [start(user, copy, *line) for _ in range(2)]
    for command in commands:
        output, _ = command.communicate(timeout=300)
        assert command.returncode == 0, output
    assert metrics_of(copy) == metrics_of(whole[0])
    added = [path for seed in (3, 4) for path in copy.glob(f"*-s{seed}-*/log.txt")]
    assert len(added) == 4
    for log in added:
        assert log.read_text().count("pretraining from step") == 1, log.read_text()


def test_through_submitit_the_budget_is_the_sum_over_the_runs(whole, user, copy):
    """First too small for the step that the clock alone would allow, then large enough."""
    line = [
        *UNTIL,
        "max_seeds=5",
        "launcher=slurm",
        "launcher.cluster=local",
        "launcher.max_parallel=2",
    ]
    (need,) = needs(copy, user)
    status, output = run_process(user, copy, *line, f"budget_hours={need['hours'] * 0.9}")
    assert status == 0, output
    assert "until=decided: 1 finding left; the least takes" in output
    status, output = run_process(user, copy, *line, f"budget_hours={need['hours'] * 1.1}")
    assert status == 0, output
    assert "[10/10]" in output
    assert metrics_of(copy) == metrics_of(whole[0])


def needs(store, user):
    line = [sys.executable, "-m", "analysis", "more", "--json", f"store={store}"]
    done = subprocess.run(line, capture_output=True, text=True, env=user)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_more_says_what_is_worth_its_hours(three, user):
    line = [sys.executable, "-m", "analysis", "more", f"store={three}"]
    told = subprocess.run(line, capture_output=True, text=True, env=user)
    assert told.returncode == 0, told.stderr
    (need,) = needs(three, user)
    finding = flip(three)
    assert (need["finding"], need["seeds"]) == ("flip", 3)
    assert (need["next_seeds"], need["decides_at"]) == (5, 5)
    assert set(need["run_ids"]) == set(finding.run_ids)
    seconds = [
        run.pretraining()["seconds"] + sum(each["seconds"] for each in run.evaluations().values())
        for run in Store(three).runs()
        if run.run_id in finding.run_ids
    ]
    assert need["hours"] == pytest.approx(sum(seconds) / 3 * 2 / 3600)
    assert need["hours_to_decide"] == need["hours"]
    assert "5 seeds" in told.stdout
    assert "sweep=flip" in told.stdout
    assert "until=decided max_seeds=5" in told.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ["budget_hours=2"],
            "budget_hours has no effect without until=decided, got budget_hours=2",
        ),
        (["max_seeds=8"], "max_seeds has no effect without until=decided, got max_seeds=8"),
        (["until=decided", "max_seeds=2"], "max_seeds must be >= 3 and <= 21, got 2"),
        (["until=decided", "max_seeds=22"], "max_seeds must be >= 3 and <= 21, got 22"),
        (["until=decided", "budget_hours=0"], "budget_hours must be > 0"),
        (["until=tomorrow"], "until must be one of decided"),
        (["until=decided", "launcher=slurm"], "launcher.follow must be true with until=decided"),
        (["-m", "until=decided", "seed=0,1", "~sweep"], "until=decided needs a sweep"),
        (["-m", "until=decided", "hydra/sweeper=basic", "~sweep"], "until=decided needs a sweep"),
    ],
)
def test_what_makes_no_sense_is_refused(user, tmp_path, arguments, reason):
    sweep = [] if "~sweep" in arguments else ["-m", "sweep=flip"]
    given = [word for word in arguments if word != "~sweep"]
    status, output = run_process(user, tmp_path / "store", *sweep, *given)
    assert status == 2, output
    assert reason in output
    assert not list((tmp_path / "store").glob("shapes-*"))


def test_a_run_alone_cannot_be_decided(user, tmp_path):
    status, output = run_process(user, tmp_path / "store", "until=decided")
    assert (status, "until=decided needs a sweep" in output) == (2, True), output


def test_seeds_follow_the_commands_own():
    seeds = _Seeds([4, 5, 7], frozenset({9}))
    assert seeds.first(3) == [4, 5, 7]
    assert seeds.first(6) == [4, 5, 7, 8, 10, 11]
    assert seeds.first(2) == [4, 5]


def test_seeds_that_choose_report_nothing(selection, sweep):
    """A sweep's own seeds are those of its winners; the seed that chooses is never added."""
    choose = selection(sweep)
    seeds = _Seeds.of(Widened({key: ["pick"] for key in choose.tried}, [choose]))
    (tried,) = {one.seed for one in choose.tried}
    assert seeds.own == sorted({one.seed for each in choose.candidates for one in each.reported})
    assert seeds.reserved == {tried}
    assert tried not in seeds.first(tried + 2)
