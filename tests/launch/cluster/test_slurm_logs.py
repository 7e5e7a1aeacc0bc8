"""A `%` in a store's path is a `%` for sbatch and srun, too."""

from pathlib import Path

import pytest
from submitit.slurm.slurm import _make_sbatch_string

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.cluster.sbatch import literal_logs


def options_of(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines()]
    return {name: value for line in lines for name, _, value in [line.partition("=")]}


@pytest.mark.parametrize("jobs", [1, 4])
def test_a_percent_sign_stands_for_itself(tmp_path: Path, jobs: int) -> None:
    plain, odd = tmp_path / "runs", tmp_path / "100% of it"
    array = {} if jobs == 1 else {"map_count": jobs}
    scripts = []
    for folder in (plain, odd):
        logs, of_tasks = literal_logs(str(folder), jobs)
        scripts.append(
            _make_sbatch_string(
                "true", str(folder), additional_parameters=logs, srun_args=of_tasks, **array
            )
        )
    expected, found = map(options_of, scripts)
    for name in ("output", "error"):
        wanted = expected[name].replace(str(plain), str(odd).replace("%", "%%"))
        assert found[name].strip("'\"") == wanted
    assert f"--output={str(odd).replace('%', '%%')}" in scripts[1].splitlines()[-1]


def test_patterns_of_submitits_own_are_refused() -> None:
    with pytest.raises(ConfigError, match="store must not contain %j with launcher=slurm"):
        literal_logs("/data/%j/runs", 1)
