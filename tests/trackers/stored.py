"""Runs in a store as if they had been carried out: configs, lines of metrics and evaluations, without training."""

from collections.abc import Iterable
from pathlib import Path

from simclr_ablate.identity import evaluation_key, run_id
from simclr_ablate.schema import Experiment
from simclr_ablate.store import Run, Store


def lines(steps: Iterable[int]) -> list[dict[str, float]]:
    """Lines of metrics.jsonl, each with numbers of its own."""
    return [
        {
            **{"step": step, "epoch": (step - 1) // 10 + 1, "time": 1.7e9 + step},
            **{"loss": 4 - step / 128, "accuracy": step / 1024, "lr": 2.0**-step},
        }
        for step in steps
    ]


def begun(store: Path, experiment: Experiment, steps: Iterable[int] = ()) -> Run:
    """A run that has come so far."""
    run = Store(store).run(run_id(experiment))
    run.create(experiment.to_config())
    run.metrics.append(lines(steps))
    return run


def finish(run: Run, experiment: Experiment, top1: float = 50.0) -> dict[str, float]:
    """Gives the run an encoder and an evaluation; the metrics of this, as trackers have them."""
    run.encoder_path.touch()
    key = evaluation_key(experiment)
    metrics = {"top1": top1, "test_images": 20}
    run.write_evaluation(key, experiment.to_config()["evaluation"], metrics)
    return {f"evaluation/{key}/{name}": value for name, value in metrics.items()}
