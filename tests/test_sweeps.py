"""The sweeps that come with the project: each composes at every scale, and what it is for exists."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from analysis import paper
from analysis.artefacts import ARTEFACTS
from simclr_ablate.identity import run_id
from simclr_ablate.plan.grid import Composer, Grids, expand, resolve
from simclr_ablate.plan.selection import Rule, select
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Store

FOLDER = Path(__file__).parents[1] / "sweeps"
SWEEPS = {
    path.stem: OmegaConf.to_container(OmegaConf.load(path))
    for path in sorted(FOLDER.glob("*.yaml"))
}
UNIONS = {name: sweep["sweeps"] for name, sweep in SWEEPS.items() if "sweeps" in sweep}
GROUPS = {
    *("data", "views", "encoder", "head", "loss", "optimizer", "evaluation", "scale"),
    "data@evaluation.data",
}
IMAGES = "data.root=/images"
Planned = Callable[..., list[Experiment]]


@pytest.fixture(scope="module")
def composer_of(compose_config) -> Callable[..., Composer]:
    """`composer_of("scale=paper")`: one for all sweeps with these options, which have many compositions in common."""

    @functools.cache
    def build(*options: str) -> Composer:
        return Composer(lambda more: compose_config([IMAGES, *options, *more]), GROUPS.__contains__)

    return build


@pytest.fixture(scope="module")
def planned(compose_config, composer_of) -> Planned:
    """`planned("long_training", "scale=paper")`: the experiments of a sweep without a choice."""

    def build(sweep: str, *options: str) -> list[Experiment]:
        section = resolve(compose_config([IMAGES, *options, f"sweep={sweep}"]))["sweep"]
        fixed = [option.partition("=")[0] for option in (IMAGES, *options)]
        return expand(composer_of(*options), Grids.from_config(section), {}, fixed)

    return build


ON_ONE_GPU = UNIONS["paper_sections_3_to_5"]
"""The sweeps that scale=one_gpu is for."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scale"),
    [
        (name, scale)
        for name in sorted(set(SWEEPS) - set(UNIONS))
        for scale in ("laptop", "one_gpu", "cifar10", "paper")
        if scale != "one_gpu" or name in ON_ONE_GPU
    ],
)
def test_a_sweep_composes_at_every_scale(
    compose_config, composer_of, name: str, scale: str
) -> None:
    sweep = resolve(compose_config([IMAGES, f"scale={scale}", f"sweep={name}"]))["sweep"]
    assert sweep["name"] == name
    composer = composer_of(f"scale={scale}")
    grids, rule = Grids.from_config(sweep), Rule.from_config(sweep)
    experiments = expand(composer, grids, {}, [])
    if rule is not None:
        experiments += select(composer, name, rule, grids.seeds, {}, []).tried
    assert len(experiments) == len(set(experiments)) > 1


def test_the_losses_of_table_4_have_a_winner_each(compose_config, composer_of, tmp_path) -> None:
    """App. B.10: five learning rates, with each temperature or margin of a loss, and each sum of its negatives."""
    sweep = resolve(compose_config([IMAGES, "scale=paper", "sweep=loss_functions"]))["sweep"]
    rule = Rule.from_config(sweep)
    assert rule is not None
    choose = select(composer_of("scale=paper"), "loss_functions", rule, [0, 1], {}, [])
    candidates = {
        choice.group: choice.candidates for choice in choose.decide(Store(tmp_path)).winners
    }
    names = ("nt_xent", "nt_logistic", "nt_logistic", "margin_triplet", "margin_triplet")
    kinds = zip(names, (False, False, True, False, True), (20, 40, 20, 20, 15), strict=True)
    assert candidates == {f"loss.name={n} loss.semi_hard={sh}": count for n, sh, count in kinds}


def test_every_artefact_of_runs_has_a_sweep_and_every_sweep_is_in_the_union() -> None:
    for artefact in ARTEFACTS.values():
        assert artefact.sweep is None or artefact.sweep in SWEEPS, artefact
    named = {sweep["artefact"] for sweep in SWEEPS.values() if "artefact" in sweep}
    assert named <= set(ARTEFACTS)
    assert within("paper") == set(SWEEPS) - set(UNIONS)
    assert within("paper_sections_3_to_5") < within("paper")


def within(name: str) -> set[str]:
    """The sweeps that a sweep unites, directly or through others; itself if it is no union."""
    return set().union(*map(within, UNIONS[name])) if name in UNIONS else {name}


def test_the_laptop_scale_varies_enough(compose_config) -> None:
    scale = resolve(compose_config([]))["scale"]
    assert max(scale["batch_sizes"]) >= 16 * min(scale["batch_sizes"])
    assert max(scale["lengths"]) >= 4 * min(scale["lengths"])
    assert max(scale["long_batch_sizes"]) >= 16 * min(scale["long_batch_sizes"])
    assert max(scale["settings_batch_sizes"]) >= 16 * min(scale["settings_batch_sizes"])
    assert scale["linear_lr"] == scale["sqrt_lr"] * scale["batch_size"] ** 0.5


@pytest.mark.parametrize(("scale", "shared"), [("laptop", 15), ("cifar10", 20), ("paper", 24)])
def test_longer_training_shares_the_runs_of_square_root_scaling(
    planned: Planned, scale: str, shared: int
) -> None:
    """All of them, and the random encoder."""
    long, batch_size = (
        {run_id(each) for each in planned(name, f"scale={scale}")}
        for name in ("long_training", "batch_size")
    )
    assert len(long & batch_size) == shared + 1


def test_longer_training_goes_as_far_as_the_papers(planned: Planned) -> None:
    made = planned("long_training", "scale=paper")
    optimizers = [each.optimizer for each in made if each.objective == "contrastive"]
    assert max(each.batch_size for each in optimizers) == 32 * 1024
    assert max(each.epochs for each in optimizers) == 3200
    assert {(each.lr, each.lr_rule) for each in optimizers} == {(0.075, "sqrt")}


@pytest.mark.parametrize("scale", ["cifar10", "paper"])
def test_the_settings_of_app_b9_are_the_papers_at_every_large_scale(
    planned: Planned, scale
) -> None:
    entry = paper.entries()["appendix_b9_cifar10"]
    made = planned("cifar10_settings", f"scale={scale}")
    simclr = [each for each in made if each.objective == "contrastive"]
    assert {each.optimizer.lr for each in simclr} == set(entry["grid"]["lr"])
    assert {each.loss.temperature for each in simclr} == set(entry["grid"]["tau"])
    assert {each.optimizer.batch_size for each in simclr} == set(entry["grid"]["batch"])
    lengths = {each.optimizer.epochs for each in simclr}
    assert (min(lengths), max(lengths)) == (100, 1000)
    assert len(simclr) == 3 * 3 * 5 * len(lengths)
    (supervised,) = [each for each in made if each.objective == "supervised"]
    assert supervised.optimizer.batch_size == entry["best_linear"]["batch"]
    for each in (*simclr, supervised):
        assert each.views.strength == 0.5
        assert not each.views.blur
    for each in made:
        assert (each.data.name, each.data.size) == ("cifar10", 32)
        assert (each.encoder.architecture, each.encoder.stem) == ("resnet50", "cifar")
    assert {each.optimizer.name for each in simclr} == {"lars"}


@pytest.mark.slow
def test_the_settings_of_app_b9_vary_on_any_data(planned: Planned) -> None:
    made = planned("cifar10_settings")
    assert {each.data.name for each in made} == {"shapes"}
    folder = planned("cifar10_settings", "data=image_folder")
    assert {each.data.name for each in folder} == {"image_folder"}
    assert len(folder) == len(made)
    # Table 1's supervised training is this one.
    (supervised,) = [each for each in made if each.objective == "supervised"]
    assert run_id(supervised) in map(run_id, planned("color_strength"))


def test_composing_neither_copies_nor_changes_the_stored_sweeps(compose_config) -> None:
    store = ConfigStore.instance()
    before = copy.copy(repr(store.repo["sweep"]))
    sweep = compose_config(["sweep=temperature"])["sweep"]
    sweep["name"] = "another"
    assert copy.deepcopy(store) is store
    assert repr(store.repo["sweep"]) == before
