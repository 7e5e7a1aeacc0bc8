"""A run's files, killed at every operation of the file system: what follows comes to the same end."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simclr_ablate import status
from simclr_ablate.experiment import finish_pretraining, load_whole
from simclr_ablate.identity import run_id
from simclr_ablate.store import Run, Store
from simclr_ablate.training.checkpoint import load_checkpoint, save_checkpoint

OPERATIONS = ("open", "replace", "rename", "link", "unlink", "mkdir", "fsync", "remove")
KILLED = 99
STEPS = 3


def carry_out(run: Run, config: dict[str, Any]) -> None:
    """What a run does to its folder, with three steps of training that take no time."""
    run.create(config)
    claim = run.claim()
    assert claim is not None
    encoder, head = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
    if not run.is_evaluated("h-1"):
        run.clear_failure()
        if not load_whole(run, encoder, head):
            train(run, claim, encoder, head)
        score = float(encoder.weight.detach().double().mean())
        run.write_evaluation("h-1", {"features": "h"}, {"top1": score})
        run.write_progress({"phase": "complete"})
    claim.release()


def train(run: Run, claim: Any, encoder: nn.Linear, head: nn.Module) -> None:
    nn.init.ones_(encoder.weight)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    state = load_checkpoint(run.path) or {"step": 0, "weights": encoder.state_dict()}
    encoder.load_state_dict(state["weights"])
    for step in range(state["step"], STEPS):
        with torch.no_grad():
            encoder.weight.mul_(1.5)
        save_checkpoint(run.path, {"step": step + 1, "weights": encoder.state_dict()})
        run.write_progress({"phase": "pretraining", "step": step + 1})
    finish_pretraining(run, claim, encoder, head, {"loss": 0.5})


def killed_at(number: int, run: Run, config: dict[str, Any]) -> bool:
    """Carries the run out in a process that ends right before its `number`-th operation: whether there was one."""
    pid = os.fork()
    if pid:
        _, code = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(code) in (0, KILLED)
        return os.waitstatus_to_exitcode(code) == KILLED
    try:
        count = itertools.count()

        def counted(operation: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(count) == number:
                    os._exit(KILLED)
                return operation(*arguments, **options)

            return call

        for name in OPERATIONS:
            setattr(os, name, counted(getattr(os, name)))
        carry_out(run, config)
        os._exit(0)
    finally:
        os._exit(1)


def outcome(run: Run) -> dict[str, Any]:
    (evaluation,) = run.evaluations().values()
    weights = {name: part.tolist() for name, part in run.weights()["encoder"].items()}
    names = sorted(path.name for path in run.path.rglob("*") if path.is_file())
    names = [name for name in names if not name.startswith("claim.")]
    return {
        "state": run.state("h-1"),
        "evaluation": evaluation,
        "pretraining": run.pretraining(),
        "phase": status.describe(run)["progress"]["phase"],
        "weights": weights,
        "files": names,
    }


def test_a_run_killed_at_any_file_operation_comes_to_the_same_end(
    make_experiment, tmp_path: Path, caplog
) -> None:
    experiment = make_experiment()
    config = experiment.to_config()
    whole = Store(tmp_path / "whole").run(run_id(experiment))
    carry_out(whole, config)
    expected = outcome(whole)
    assert expected["state"] == "complete"
    assert expected["weights"] == {"weight": [[1.5**STEPS] * 3] * 3}
    for number in itertools.count():
        store = Store(tmp_path / str(number))
        run = store.run(run_id(experiment))
        if not killed_at(number, run, config):
            break
        if store.root.exists():
            assert status.main([f"store={store.root}"]) == 0
        carry_out(run, config)
        assert status.main([f"store={store.root}", "clean"]) == 0
        found = outcome(run)
        left = [name for name in found.pop("files") if name not in expected["files"]]
        # What others than the holder may be writing goes when it is an hour old.
        assert all(name.startswith((".claim.", ".experiment.json.")) for name in left), left
        assert found == {k: v for k, v in expected.items() if k != "files"}, number
    assert number > 40
    damaged = [
        json.dumps(r.getMessage()) for r in caplog.records if "cannot be read" in r.getMessage()
    ]
    assert not damaged, "a kill made a file look damaged"
