"""`until=decided` on a real SLURM: each step's runs are jobs, and the next step follows them."""

from simclr_ablate.store import Store
from tests.commands import run_process
from tests.launch.test_until import UNTIL, seeds_of
from tests.slurm.conftest import ON_SLURM
from tests.slurm.test_slurm import accounted, job_of

ON_CLUSTER = (*UNTIL, *ON_SLURM, "launcher.follow=true")


def test_each_step_is_submitted_once_the_last_is_in(environment, tmp_path) -> None:
    status, output = run_process(environment, tmp_path, *ON_CLUSTER, "max_seeds=3")
    assert status == 0, output
    assert "finding flip (shapes): 1 seed" in output
    assert seeds_of(tmp_path) == {
        ("none", None): {0},
        ("contrastive", True): {0, 1, 2},
        ("contrastive", False): {0, 1, 2},
    }
    store = Store(tmp_path)
    jobs = {run.run_id: job_of(run) for run in store.runs()}
    assert set(accounted(list(jobs.values())).values()) == {"COMPLETED"}
    of_step = {
        seed: {job.partition("_")[0] for run_id, job in jobs.items() if f"-s{seed}-" in run_id}
        for seed in range(3)
    }
    assert of_step[1] == of_step[2], "one array holds a step"
    assert not of_step[0] & of_step[1]
    looked = set().union(*(record.run_ids for record in store.sweeps() if record.until))
    assert looked == set(jobs)
    # The budget is the sum over the runs: what they took fits no second time into less than that.
    status, output = run_process(
        environment, tmp_path, *ON_CLUSTER, "max_seeds=5", "budget_hours=1e-6"
    )
    assert status == 0, output
    assert set(seeds_of(tmp_path)["contrastive", True]) == {0, 1, 2}
