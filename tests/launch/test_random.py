"""The random encoder: one run, whatever head its z is taken from."""

import analysis
from simclr_ablate.identity import evaluation_key
from simclr_ablate.store import Store
from tests.small_runs import SMALL, give


def test_each_head_is_evaluated_as_it_would_be_alone(
    tmp_path, compose_config, make_experiment
) -> None:
    untrained = [*SMALL, "objective=none", "seed=3"]
    on_h = make_experiment(*untrained)
    heads = [["head=nonlinear"], ["head=linear"], ["head=linear", "head.dim=9"]]
    on_z = [make_experiment(*untrained, *head, "evaluation.features=z") for head in heads]
    cache = tmp_path / "cache"
    assert give(compose_config, tmp_path / "all", cache, [on_h, *on_z]) == 0
    (together,) = Store(tmp_path / "all").runs()
    assert len(together.evaluations()) == 4
    for number, experiment in enumerate([*on_z, on_h]):
        store = tmp_path / f"alone{number}"
        assert give(compose_config, store, cache, [experiment]) == 0
        (alone,) = Store(store).runs()
        assert alone.run_id == together.run_id
        (metrics,) = (each["metrics"] for each in alone.evaluations().values())
        found = together.evaluation(evaluation_key(experiment))
        assert found["metrics"] == metrics
    runs = analysis.load(tmp_path / "all")
    columns = runs[["evaluation.features", "head.kind", "head.dim"]].astype(object)
    shown = set(columns.where(columns.notna(), None).itertuples(index=False, name=None))
    assert shown == {
        ("h", None, None),
        ("z", "nonlinear", 128),
        ("z", "linear", 128),
        ("z", "linear", 9),
    }
