"""The sweeps that come with the project: each composes at every scale, and what it is for exists."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from analysis.artefacts import ARTEFACTS
from simclr_ablate.plan.grid import Composer, Grids, expand, resolve
from simclr_ablate.plan.selection import Rule, select
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


@pytest.mark.parametrize("scale", ["laptop", "cifar10", "paper"])
@pytest.mark.parametrize("name", sorted(set(SWEEPS) - set(UNIONS)))
def test_a_sweep_composes_at_every_scale(compose_config, name: str, scale: str) -> None:
    options = [f"scale={scale}", "data.root=/images"]
    sweep = resolve(compose_config([*options, f"sweep={name}"]))["sweep"]
    assert sweep["name"] == name
    composer = Composer(lambda more: compose_config([*options, *more]), GROUPS.__contains__)
    grids, rule = Grids.from_config(sweep), Rule.from_config(sweep)
    experiments = expand(composer, grids, {}, [])
    if rule is not None:
        experiments += select(composer, name, rule, grids.seeds, {}, []).tried
    assert len(experiments) == len(set(experiments)) > 1


def test_the_losses_of_table_4_have_a_winner_each(compose_config, tmp_path) -> None:
    """App. B.10: five learning rates, with each temperature or margin of a loss, and each sum of its negatives."""
    options = ["scale=paper", "data.root=/images"]
    sweep = resolve(compose_config([*options, "sweep=loss_functions"]))["sweep"]
    composer = Composer(lambda more: compose_config([*options, *more]), GROUPS.__contains__)
    rule = Rule.from_config(sweep)
    assert rule is not None
    choose = select(composer, "loss_functions", rule, [0, 1], {}, [])
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
    assert set(UNIONS["paper"]) == set(SWEEPS) - set(UNIONS)
    assert (
        UNIONS["paper"][: len(UNIONS["paper_sections_3_to_5"])] == UNIONS["paper_sections_3_to_5"]
    )


def test_the_laptop_scale_varies_enough(compose_config) -> None:
    scale = resolve(compose_config([]))["scale"]
    assert max(scale["batch_sizes"]) >= 16 * min(scale["batch_sizes"])
    assert max(scale["lengths"]) >= 4 * min(scale["lengths"])
    assert scale["linear_lr"] == scale["sqrt_lr"] * scale["batch_size"] ** 0.5
