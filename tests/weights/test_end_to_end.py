"""Imported runs: planned, evaluated and stored as any other."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import analysis
from simclr_ablate import status
from simclr_ablate.identity import result_key
from simclr_ablate.plan.plan import complete
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Store
from tests.small_runs import SMALL, give
from tests.weights.networks import randomised, tiny

PROTOCOLS = {
    "linear": [],
    "knn": [],
    "linear_sgd": ["evaluation.epochs=1", "evaluation.batch_size=16"],
    "few_labels": ["evaluation.epochs=1", "evaluation.batch_size=16", "evaluation.labels=4"],
    "finetune": [
        *("evaluation.steps=2", "evaluation.batch_size=16", "evaluation.lr_count=1"),
        *("evaluation.lr_min=0.1", "evaluation.lr_max=0.1", "evaluation.decay_count=0"),
    ],
    "probe": ["evaluation.probe=rotation", "evaluation.patience=1"],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


Make = Callable[..., Experiment]


@pytest.fixture(scope="module")
def native(
    make_experiment: Make,
    compose_config: Any,
    tmp_path_factory: pytest.TempPathFactory,
    cache: Path,
) -> tuple[Path, list[Experiment]]:
    """A store with one native run, evaluated by every protocol; and its experiments."""
    store = tmp_path_factory.mktemp("native") / "runs"
    experiments = [
        make_experiment(*SMALL, f"evaluation={name}", "evaluation.knn=5", *more)
        for name, more in PROTOCOLS.items()
    ]
    assert give(compose_config, store, cache, experiments) == 0
    return store, experiments


def imported(experiment: Experiment, weights: Path, **more: Any) -> Experiment:
    encoder = dataclasses.replace(experiment.encoder, weights=str(weights), **more)
    return dataclasses.replace(experiment, objective="imported", encoder=encoder)


@pytest.fixture(scope="module")
def copied(
    native: tuple[Path, list[Experiment]], compose_config: Any, cache: Path
) -> tuple[Path, list[Experiment]]:
    """The same, with the native run's encoder imported into a store beside it."""
    store, experiments = native
    (run,) = Store(store).runs()
    other = store.with_name("imported")
    ours = [imported(experiment, run.encoder_path) for experiment in experiments]
    assert give(compose_config, other, cache, ours) == 0
    return other, ours


@pytest.mark.slow
def test_equal_weights_have_equal_features_and_metrics_and_two_ids(
    native: tuple[Path, list[Experiment]], copied: tuple[Path, list[Experiment]]
) -> None:
    (ours,), (theirs,) = (list(Store(store).runs()) for store in (copied[0], native[0]))
    assert ours.run_id != theirs.run_id
    mine, original = ours.weights(), theirs.weights()
    assert mine.keys() == {"encoder"}
    for name, tensor in original["encoder"].items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(mine["encoder"][name], tensor), name
    by_protocol = [
        {
            content["config"]["protocol"]: (content["metrics"], key)
            for key, content in run.evaluations().items()
        }
        for run in (ours, theirs)
    ]
    assert by_protocol[0].keys() == by_protocol[1].keys() == PROTOCOLS.keys()
    for protocol, (metrics, key) in by_protocol[0].items():
        assert metrics == by_protocol[1][protocol][0], protocol
        ours_each, theirs_each = (
            np.load(run.evaluating(k).path / "examples.npz")
            for run, k in ((ours, key), (theirs, by_protocol[1][protocol][1]))
        )
        for name in theirs_each.files:
            np.testing.assert_array_equal(ours_each[name], theirs_each[name])


def test_its_identity_is_the_weights_and_not_the_path(
    native: tuple[Path, list[Experiment]], tmp_path: Path, cache: Path
) -> None:
    store, (experiment, *_) = native
    (run,) = Store(store).runs()
    other = tmp_path / "elsewhere.safetensors"
    from safetensors.torch import save_file

    save_file({k: t.contiguous() for k, t in run.weights()["encoder"].items()}, other)
    changed = tmp_path / "changed.pt"
    torch.save(run.weights()["encoder"] | {"bn1.bias": torch.rand(16)}, changed)
    given = [imported(experiment, path) for path in (run.encoder_path, other, changed)]
    normalised = imported(experiment, other, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    plain = imported(experiment, other, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    done = complete([*given, normalised, plain], str(cache))
    one, same, another, scaled, unscaled = (
        result_key(done[each])[0] for each in (*given, normalised, plain)
    )
    assert one == same == unscaled
    assert len({one, another, scaled}) == 3
    assert "imported" in one
    assert str(tmp_path) not in one


def test_readers_show_it(
    copied: tuple[Path, list[Experiment]], capsys: pytest.CaptureFixture[str]
) -> None:
    store, _ = copied
    runs = analysis.load(store)
    assert set(runs["objective"]) == {"imported"}
    assert set(runs["state"]) == {"complete"}
    assert len(runs) == len(PROTOCOLS)
    assert runs["optimizer.epochs"].isna().all()
    assert runs["loss.temperature"].isna().all()
    assert runs["views.policy"].isna().all()
    assert runs["head.kind"].isna().all()
    assert runs["encoder.label"].str.startswith("images-resnet8").all()
    assert runs.loc[runs["evaluation.protocol"] == "linear", "evaluation.l2_count"].notna().all()
    assert status.main([f"store={store}"]) == 0
    assert "complete" in capsys.readouterr().out


def test_a_second_command_finds_it_done(
    copied: tuple[Path, list[Experiment]],
    compose_config: Any,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, experiments = copied
    (run,) = Store(store).runs()
    products = [run.encoder_path, *run.path.glob("evaluations/*.json")]
    before = [path.stat().st_mtime_ns for path in products]
    assert give(compose_config, store, cache, experiments) == 0
    assert f"{len(experiments)} already finished, 0 to run" in capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in products] == before


def test_a_damaged_encoder_is_imported_again(
    native: tuple[Path, list[Experiment]],
    make_experiment: Make,
    compose_config: Any,
    tmp_path: Path,
    cache: Path,
) -> None:
    (source,) = Store(native[0]).runs()
    first, second = (
        imported(
            make_experiment(*SMALL, "evaluation=knn", f"evaluation.knn={k}"), source.encoder_path
        )
        for k in (3, 4)
    )
    assert give(compose_config, tmp_path / "runs", cache, [first]) == 0
    (run,) = Store(tmp_path / "runs").runs()
    content = bytearray(run.encoder_path.read_bytes())
    content[len(content) // 2] ^= 1
    run.encoder_path.write_bytes(content)
    assert give(compose_config, tmp_path / "runs", cache, [second]) == 0
    assert len(run.evaluations()) == 2
    assert run.weights().keys() == {"encoder"}


@pytest.mark.parametrize("protocol", ["linear", "finetune"])
def test_a_network_of_the_users_own(
    protocol: str,
    make_experiment: Make,
    compose_config: Any,
    tmp_path: Path,
    cache: Path,
) -> None:
    theirs = randomised(tiny(2, "imagenet"))
    torch.save(theirs.state_dict(), tmp_path / "own.pt")
    experiment = make_experiment(
        *(
            *SMALL,
            f"evaluation={protocol}",
            *PROTOCOLS[protocol],
            "objective=imported",
            "encoder.width=2",
        ),
        *("encoder.architecture=tests.weights.networks:tiny", f"encoder.weights={tmp_path}/own.pt"),
    )
    assert give(compose_config, tmp_path / "runs", cache, [experiment]) == 0
    (run,) = Store(tmp_path / "runs").runs()
    (content,) = run.evaluations().values()
    assert 0 <= content["metrics"]["top1"] <= 100
    kept = run.weights()["encoder"]
    for name, tensor in theirs.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(kept[f"own.{name}"], tensor)


def test_ranks_share_its_evaluation(
    native: tuple[Path, list[Experiment]],
    copied: tuple[Path, list[Experiment]],
    compose_config: Any,
    tmp_path: Path,
    cache: Path,
) -> None:
    (source,), (alone,) = (list(Store(store).runs()) for store in (native[0], copied[0]))
    few_labels = native[1][list(PROTOCOLS).index("few_labels")]
    shared = dataclasses.replace(
        few_labels, compute=dataclasses.replace(few_labels.compute, ranks=2)
    )
    experiment = imported(shared, source.encoder_path)
    assert give(compose_config, tmp_path / "runs", cache, [experiment]) == 0
    (run,) = Store(tmp_path / "runs").runs()
    assert run.run_id == alone.run_id
    (content,) = run.evaluations().values()
    (same,) = (c for c in alone.evaluations().values() if c["config"]["protocol"] == "few_labels")
    assert content["metrics"] == pytest.approx(same["metrics"], abs=10)
