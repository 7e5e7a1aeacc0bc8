"""What would decide undecided findings: the runs that are missing, their hours, and the command."""

import json

import pytest

import analysis
from analysis.claims import scorecard
from analysis.findings import main
from analysis.more import HOUR, as_json, command, needs
from simclr_ablate.store import Store

GAINS = [2.0, 0.4, 1.2, 1.6, 0.9]


def fill(store, make, seeds):
    """Runs of 100 s and evaluations of 10 s. seeds: with the flip and without it."""
    ids = []
    for flip, those in zip((True, False), seeds, strict=True):
        for seed in those:
            each = make.experiment(**{"views.flip": flip, "seed": seed})
            made = make.put(store, each, 50 + GAINS[seed % 5] * flip)
            made.write_pretraining({**made.pretraining(), "seconds": 100.0})
            ((key, content),) = made.evaluations().items()
            metrics, beside = content["metrics"], content.get("beside", {})
            made.write_evaluation(key, content["config"], metrics, seconds=10.0, beside=beside)
            ids.append(made.run_id)
    return ids


def need_of(store):
    runs = analysis.load(store)
    (need,) = [need for need in needs(runs, scorecard(runs)) if need.finding.claim.name == "flip"]
    return need, runs


@pytest.mark.parametrize(
    ("seeds", "missing"),
    [((range(3), range(3)), 4), ((range(5), range(3)), 2), ((range(4), range(3)), 3)],
)
def test_what_a_cell_has_already_is_not_counted(make, tmp_path, seeds, missing):
    fill(tmp_path, make, seeds)
    need, _ = need_of(tmp_path)
    assert (need.next_seeds, need.missing) == (5, missing)
    assert need.hours == pytest.approx(missing * 110 / HOUR)
    assert need.longest == pytest.approx(110 / HOUR)


def test_an_encoder_that_waits_for_its_evaluation_is_not_counted(make, tmp_path):
    fill(tmp_path, make, (range(3), range(3)))
    begun = make.experiment(**{"views.flip": True, "seed": 3})
    made = make.put(tmp_path, begun, 50)
    made.write_pretraining({**made.pretraining(), "seconds": 100.0})
    for path in (made.path / "evaluations").glob("*.json"):
        path.unlink()
    need, _ = need_of(tmp_path)
    assert need.hours == pytest.approx((3 * 100 + 4 * 10) / HOUR)


def test_cells_without_a_seed_in_common(make, tmp_path, capsys):
    """Nothing can be estimated yet, and what both lack is counted."""
    ids = fill(tmp_path, make, (range(3), range(3, 6)))
    Store(tmp_path).record_sweep("flip", ids, ["sweep=flip", "optimizer.epochs=40"])
    need, runs = need_of(tmp_path)
    assert set(need.run_ids) == set(ids)
    (told,) = json.loads(as_json([need]))
    assert told["effect"] is None
    assert main(["more", "--json", f"store={tmp_path}"]) == 0
    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert "optimizer.epochs=40" in command(need, runs)


def test_the_command_has_all_sweeps_that_make_the_runs(make, tmp_path):
    ids = fill(tmp_path, make, (range(3), range(3)))
    for name, members in (("flip", ids[:3]), ("mine", ids[3:])):
        Store(tmp_path).record_sweep(name, members, [f"sweep={name}", "seed=0,1,2"])
    line = command(*need_of(tmp_path))
    assert "-m sweep=flip,mine seed=0,1,2 until=decided max_seeds=" in line


def test_commands_that_differ_in_more_than_sweeps_and_seeds(make, tmp_path):
    ids = fill(tmp_path, make, (range(3), range(3)))
    for name, members in (("flip", ids[:3]), ("mine", ids[3:])):
        Store(tmp_path).record_sweep(name, members, [f"sweep={name}", f"data.label={name}"])
    line = command(*need_of(tmp_path))
    assert line.startswith("# flip rests on runs of 2 commands with different keys")


def test_no_metric_takes_the_place_of_a_column(make, tmp_path):
    """A protocol of a user's may call its metrics what it likes, and a store may come from anyone."""
    (run_id,) = fill(tmp_path, make, ([3], []))
    made = Store(tmp_path).run(run_id)
    ((key, content),) = made.evaluations().items()
    odd = dict.fromkeys(["seed", "run_id", "path", "sweeps", "evaluation_seconds"], 0.5)
    metrics = {**content["metrics"], **odd, "mine": 0.25}
    made.write_evaluation(key, content["config"], metrics, seconds=10.0)
    (row,) = analysis.load(tmp_path).to_dict("records")
    assert (row["seed"], row["run_id"], row["sweeps"]) == (3, run_id, ())
    assert (row["evaluation_seconds"], row["mine"]) == (10.0, 0.25)
