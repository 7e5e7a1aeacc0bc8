"""Rules on the experiment decide what its run is given."""

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.launch.resources import ranks_of, resources_of
from simclr_ablate.plan.launchers import Resources, SlurmOptions, read_launcher


@pytest.fixture
def options(compose_config):
    """`options("launcher.gpus=1", ...)`: the SLURM launcher's, with those overrides."""

    def build(*overrides: str) -> SlurmOptions:
        config = compose_config(["launcher=slurm", *overrides])
        launcher = read_launcher(_plain(config)["launcher"])
        assert isinstance(launcher, SlurmOptions)
        return launcher

    return build


def _plain(config) -> dict:
    from omegaconf import OmegaConf

    return {"launcher": OmegaConf.to_container(config.launcher, resolve=True)}


RULES = (
    "launcher.resources=["
    "{when: {encoder.architecture: [resnet101, resnet152]}, gpus: 16, nodes: 2},"
    "{when: {optimizer.batch_size: '>= 2048'}, memory_gb: 200, time_minutes: 600},"
    "{when: {objective: none}, gpus: 0, time_minutes: 30},"
    "{when: {encoder.width: '>1', head.kind: linear}, cpus: 7},"
    "{when: {data.limit: '< 6000'}, memory_gb: 3},"
    "{when: {data.limit: ' >= 6e3 '}, time_minutes: 60}]"
)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], Resources(1, 4, 2, 8.0, 240)),
        (["encoder=resnet101"], Resources(2, 16, 2, 8.0, 240)),
        (["optimizer.batch_size=2048"], Resources(1, 4, 2, 200.0, 600)),
        (
            ["encoder=resnet152", "optimizer.batch_size=4096", "objective=none", "compute.ranks=2"],
            Resources(2, 0, 2, 200.0, 30),
        ),
        (["encoder.width=2"], Resources(1, 4, 2, 8.0, 240)),
        (["encoder.width=2", "head=linear"], Resources(1, 4, 7, 8.0, 240)),
        # Neither holds of "no limit", the usual.
        (["data.limit=5000"], Resources(1, 4, 2, 3.0, 240)),
        (["data.limit=6000"], Resources(1, 4, 2, 8.0, 60)),
    ],
)
def test_all_rules_that_apply_count_in_their_order(
    options, make_experiment, overrides, expected
) -> None:
    assert resources_of(make_experiment(*overrides), options("launcher.gpus=4", RULES)) == expected


@pytest.mark.parametrize("cluster", ["local", "debug"])
@pytest.mark.parametrize(
    "option",
    [
        "partition=gpu",
        "account=me",
        "qos=high",
        "constraint=a100",
        "setup=['true']",
        "sbatch={x: 1}",
        "python=python3",
        "use_srun=false",
        "srun_args=[--exact]",
    ],
)
def test_what_is_for_slurm_is_refused_elsewhere(options, cluster, option) -> None:
    name = option.partition("=")[0]
    given = f"launcher.{option}" if name != "sbatch" else "+launcher.sbatch.x=1"
    options(given)
    with pytest.raises(ConfigError, match=rf"launcher\.{name} is for SLURM and means nothing with"):
        options(given, f"launcher.cluster={cluster}")


def test_submissions_recorded_before_a_key_existed_are_read(compose_config) -> None:
    """As by `status retry`, which reads a launcher from the store."""
    recorded = _plain(compose_config(["launcher=slurm"]))["launcher"]
    now = read_launcher(recorded)
    for name in ("python", "use_srun", "srun_args"):
        del recorded[name]
    assert read_launcher(recorded) == now


def test_a_rank_for_each_gpu_unless_said_otherwise(options, make_experiment) -> None:
    for gpus, ranks, expected in ((0, "null", 1), (4, "null", 4), (0, "2", 2), (4, "4", 4)):
        experiment = make_experiment(f"compute.ranks={ranks}")
        resources = resources_of(experiment, options(f"launcher.gpus={gpus}"))
        assert ranks_of(experiment, resources.gpus) == expected


@pytest.mark.parametrize(
    ("launcher", "experiment", "message"),
    [
        (
            ["launcher.resources=[{when: {encoder.widht: 2}}]"],
            [],
            r"launcher.resources\[0\].when: unknown key encoder.widht; did you mean encoder.width",
        ),
        (
            ["launcher.resources=[{when: {encoder.width: 2}, gpu: 2}]"],
            [],
            r"unknown key launcher.resources\[0\].gpu; did you mean launcher.resources\[0\].gpus",
        ),
        (
            ["launcher.resources=[{when: {head.kind: '>= 3'}}]"],
            [],
            "when: head.kind must be a value or a list of values, because it is not a number, got '>= 3'",
        ),
        (  # the key of a later rule, behind a condition that does not hold
            ["launcher.resources=[{when: {head.kind: linear}}, {when: {head.kind: none, a.b: 1}}]"],
            [],
            r"launcher.resources\[1\].when: unknown key a.b",
        ),
        (
            ["launcher.resources=[{when: {encoder.architecture: resnet500}}]"],
            [],
            r"launcher.resources\[0\].when: encoder.architecture must be .* got 'resnet500'",
        ),
        (
            ["launcher.resources=[{when: {head.kind: [linear, nonlinaer]}}]"],
            [],
            "head.kind must be .* got 'nonlinaer'; did you mean nonlinear",
        ),
        (
            ["launcher.resources=[{when: {encoder.width: wide}}]"],
            [],
            "encoder.width must be int, got 'wide'",
        ),
        *(
            (
                [f"launcher.resources=[{{when: {{encoder.width: '{comparison}'}}}}]"],
                [],
                f"encoder.width must be compared with a number, as in '>= 16' .* got '{comparison}'",
            )
            for comparison in (">= e", "=> 16", "> 1.2.3", ">")
        ),
        (["launcher.resources=3"], [], "launcher.resources must be a list, got 3"),
        (["launcher.setup=[1]"], [], r"launcher.setup\[0\] must be str, got 1"),
        (["launcher.sbatch=1"], [], "launcher.sbatch must be a mapping, got 1"),
        (["launcher.python=''"], [], "launcher.python must be null or a command .* got ''"),
        (
            ["launcher.python='\"/a b'"],
            [],
            "launcher.python must be null or a command .* got '\"/a",
        ),
        (
            ["launcher.use_srun=false", "launcher.srun_args=[--exact]"],
            [],
            r"launcher.srun_args must be \[\] with launcher.use_srun=false.* got \['--exact'\]",
        ),
        (
            ["launcher.use_srun=false", "launcher.gpus=4"],
            [],
            r"launcher.use_srun must be true for a run with several ranks \(4\).* got false",
        ),
        (
            ["launcher.use_srun=false"],
            ["compute.ranks=2"],
            r"launcher.use_srun must be true for a run with several ranks \(2\).* got false",
        ),
        (["launcher.gpus=3", "launcher.nodes=2"], [], "launcher.gpus must be a multiple of"),
        (["launcher.gpus=4"], ["compute.ranks=2"], "compute.ranks must be null or the number of"),
        (["launcher.gpus=3"], [], "optimizer.batch_size must be a multiple of compute.ranks"),
        (["launcher.nodes=2"], [], "launcher.nodes must divide the number of ranks of a run"),
        (["launcher.name=slrum"], [], "launcher.name must be one of local, slurm, got 'slrum'"),
        (["launcher.cluster=pbs"], [], "launcher.cluster must be one of slurm, local, debug"),
        (["launcher.time_minutes=0"], [], "launcher.time_minutes must be >= 1"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options, make_experiment, launcher, experiment, message
) -> None:
    with pytest.raises(ConfigError, match=message):
        resources_of(make_experiment(*experiment), options(*launcher))
