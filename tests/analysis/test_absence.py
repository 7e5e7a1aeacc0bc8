"""What is told of an artefact without runs is what the store has, and the command told makes them."""

import shlex

import pytest

import analysis
from analysis.absence import absence
from analysis.artefacts import ARTEFACTS
from simclr_ablate.identity import run_id
from simclr_ablate.store import Store

FIGURE5 = ARTEFACTS["figure5"]


@pytest.fixture
def launched(tmp_path, make):
    """`launched(sweep, state, ...)`: runs of a sweep in these states, and what is told of Figure 5."""
    store = Store(tmp_path / "my runs")

    def add(sweep, *states):
        run_ids = []
        for seed, state in enumerate(states):
            if state == "complete":
                run = make.put(store.root, make.experiment(seed=seed), 50.0)
            else:
                experiment = make.pair("crop", "color", seed=seed)
                run = store.run(run_id(experiment))
                run.create(experiment.to_config())
            if state == "failed":
                run.write_failure({"reason": "none"})
            elif state == "interrupted":
                run.write_progress({"step": 3})
            elif state == "running":
                assert run.lease() is not None
            run_ids.append(run.run_id)
        store.record_sweep(sweep, run_ids)
        return absence(FIGURE5, analysis.load(store.root))

    return add


@pytest.mark.parametrize(
    ("sweep", "states", "said", "command"),
    [
        (
            "temperature",
            ["complete", "complete"],
            "The store holds 2 runs of temperature, but none of sweep=augmentation_grid.",
            "simclr-ablate -m sweep=augmentation_grid",
        ),
        (
            "augmentation_grid",
            ["failed", "failed"],
            "No run of sweep=augmentation_grid is complete: 2 failed.",
            "simclr-ablate status retry sweep=augmentation_grid",
        ),
        (
            "augmentation_grid",
            ["interrupted", "failed"],
            "No run of sweep=augmentation_grid is complete: 1 failed, 1 interrupted.",
            "simclr-ablate status retry sweep=augmentation_grid",
        ),
        (
            "augmentation_grid",
            ["running", "failed"],
            "No run of sweep=augmentation_grid is complete: 1 failed, 1 running.",
            "simclr-ablate status sweep=augmentation_grid",
        ),
        (
            "augmentation_grid",
            ["planned"],
            "No run of sweep=augmentation_grid is complete: 1 planned.",
            "simclr-ablate -m sweep=augmentation_grid",
        ),
        (
            "augmentation_grid",
            ["complete"],
            "The runs of sweep=augmentation_grid (1 complete) are not enough: Figure 5 needs a "
            "finished run of views=pair.",
            "simclr-ablate -m sweep=augmentation_grid",
        ),
    ],
)
def test_what_is_there_instead_and_what_to_do(launched, tmp_path, sweep, states, said, command):
    text = launched(sweep, *states)
    assert text.startswith(said)
    told = shlex.split(text[text.index("simclr-ablate ") :])
    *arguments, store = told
    assert arguments == command.split()
    # The command reads its values as Hydra does.
    quoted = "'" if arguments[1] == "-m" else ""
    assert store == f"store={quoted}{tmp_path / 'my runs'}{quoted}"


def test_sweeps_that_users_named_are_text(launched):
    text = launched("\x1b[31m [red]", "complete")
    assert "of \\x1b[31m [red]," in text


def test_many_sweeps_are_counted(launched):
    for number in range(12):
        text = launched(f"own{number:02}", "complete")
    assert "of own00, own01, own02, own03, own04, own05 and 6 other sweeps, but none" in text


def test_every_artefact_that_needs_runs_says_which():
    for artefact in ARTEFACTS.values():
        assert bool(artefact.needs) == bool(artefact.sweep)
