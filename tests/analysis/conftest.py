"""Runs as a sweep would leave them in a store, with accuracies of the tests' choosing."""

import copy
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

import analysis
from analysis.__main__ import main
from analysis.runs import used
from benchmarks.analysis import fill
from simclr_ablate.identity import evaluated_beside, evaluation_key, run_id
from simclr_ablate.schema import SHAPES_VERSION, Experiment
from simclr_ablate.store import Run, Store
from simclr_ablate.tasks.networks import build_models
from tests.programs import require
from tests.shared import made_once

CONFIG: dict[str, Any] = {
    "objective": "contrastive",
    "seed": 0,
    "precision": "float32",
    "data": {
        "name": "shapes",
        "root": None,
        "size": 32,
        "limit": None,
        "validation": 1000,
        "on_error": "raise",
        "seed": 0,
        "label": None,
        "fingerprint": None,
        "version": SHAPES_VERSION,
    },
    "views": {
        "policy": "simclr",
        "first": None,
        "second": None,
        "strength": 0.5,
        "blur": False,
        "extra": None,
        "color": "pytorch",
        "crop_area": 0.08,
        "flip": True,
        "interpolation": "bicubic",
    },
    "encoder": {
        "architecture": "resnet8",
        "width": 1,
        "stem": "strided",
        "weights": None,
        "fingerprint": None,
        "mean": None,
        "std": None,
        "label": None,
    },
    "head": {"kind": "nonlinear", "dim": 128},
    "loss": {
        "name": "nt_xent",
        "temperature": 0.2,
        "normalize": True,
        "negatives": "both",
        "margin": None,
        "semi_hard": False,
        "reduction": "sum",
    },
    "optimizer": {
        "name": "adamw",
        "lr": 0.003,
        "lr_rule": "constant",
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "warmup_epochs": 1,
        "epochs": 6,
        "batch_size": 256,
        "micro_batch": None,
    },
    "evaluation": {
        "protocol": "linear",
        "features": "h",
        "l2_count": 9,
        "l2_min": 1e-6,
        "l2_max": 1e2,
        "knn": 50,
        "probe": None,
        "labels": None,
        "lr": 0.1,
        "epochs": 90,
        "steps": 20_000,
        "lr_min": 1e-4,
        "lr_max": 0.1,
        "data": dict.fromkeys(
            [
                *("name", "root", "size", "limit", "validation"),
                *("on_error", "seed", "label", "fingerprint", "metric"),
            ]
        ),
    },
    "compute": {
        "device": "cpu",
        "threads": None,
        "workers": None,
        "ranks": None,
        "channels_last": True,
        "checkpoint_minutes": 5,
    },
}


def experiment(**changes: Any) -> Experiment:
    """The checked experiment of CONFIG with dotted keys changed."""
    config = copy.deepcopy(CONFIG)
    for name, value in changes.items():
        *groups, last = name.split(".")
        node = config
        for group in groups:
            node = node[group]
        assert last in node, name
        node[last] = value
    return Experiment.from_config(config)


def pair(first: str, second: str, **changes: Any) -> Experiment:
    chosen = {"views.policy": "pair", "views.first": first, "views.second": second}
    return experiment(**chosen, **changes)


def random_encoder(**changes: Any) -> Experiment:
    return experiment(**{"objective": "none", "views.policy": "none"}, **changes)


def put(
    store: Path,
    of: Experiment,
    top1: float = 0.0,
    test_images: int = 50_000,
    metrics: dict[str, float] | None = None,
    **pretraining: float,
) -> Run:
    """Writes a finished run of the experiment `of`, and its last `pretraining`, into `store`.

    metrics: in place of those of a linear classifier.
    """
    run = Store(store).run(run_id(of))
    config = of.to_config()
    run.create(config)
    last = {"loss": 4.2, "accuracy": 0.615, "entropy": 3.1, "seconds": 31.4}
    run.write_pretraining(last | pretraining)
    linear = {
        "top1": top1,
        "top5": min(100.0, top1 + 30),
        "validation_top1": top1 - 0.5,
        "knn_top1": top1 - 3,
    }
    found = (metrics or linear) | {"test_images": test_images}
    beside = evaluated_beside(of)
    run.write_evaluation(evaluation_key(of), config["evaluation"], found, beside=beside)
    return run


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the analysis remembers goes elsewhere than to the user's cache, to a folder for all of xdist's workers."""
    with pytest.MonkeyPatch.context() as patch:
        cache = made_once(tmp_path_factory, "analysis_cache", Path.mkdir)
        patch.setenv("SIMCLR_ABLATE_CACHE", str(cache))
        yield


def keep_weights(run: Run, of: Experiment, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """Gives the run an encoder and a head with weights of their own; returns them."""
    encoder, head = build_models(of, torch.device("cpu"))
    draw = torch.Generator().manual_seed(seed)
    for weights in head.parameters():
        nn.init.normal_(weights, generator=draw)
    torch.save({"encoder": encoder.state_dict(), "head": head.state_dict()}, run.encoder_path)
    return encoder, head


@pytest.fixture
def rewritten(tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Runs made of one stored run, each with columns that differ: what no experiment here has."""

    def build(rows: list[dict[str, Any]], **common: Any) -> pd.DataFrame:
        put(tmp_path / "one", experiment(), 1.0)
        run = analysis.load(tmp_path / "one")
        return pd.concat([changed(run, **(common | row)) for row in rows])

    return build


def changed(run: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The one run with other values in its columns; what does not count with them is missing, as it is in a store's."""
    new = run.assign(**values)
    config = new.astype(object).where(new.notna(), None).iloc[0].to_dict()
    return new.assign(**{name: None for name, value in used(config).items() if value is None})


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `simclr-ablate analyse` writes of two seeds, for some a third, of every sweep: once for all of xdist's
    workers.

    Tests leave it as it is.
    """

    def make(folder: Path) -> None:
        fill(folder / "runs", 510)
        assert main([f"store={folder / 'runs'}", f"out={folder / 'reports'}"]) == 0

    return made_once(tmp_path_factory, "site", make) / "reports"


@pytest.fixture(scope="session")
def compile_latex() -> Callable[[Path, str, str], None]:
    """`compile_latex(folder, packages, body)`: pdflatex makes a document of it without a line that is too wide."""
    require(shutil.which("pdflatex"), "pdflatex (on Debian, texlive-latex-recommended)")

    def compile_(folder: Path, packages: str, body: str) -> None:
        page = (
            f"\\documentclass{{article}}\n\\usepackage{{{packages}}}\n"
            f"\\begin{{document}}\n{body}\n\\end{{document}}\n"
        )
        (folder / "page.tex").write_text(page)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]
        assert "Overfull" not in done.stdout

    return compile_


@pytest.fixture(scope="session")
def make() -> Any:
    """The functions above, for tests."""

    class Make:
        experiment: Callable[..., Experiment] = staticmethod(experiment)
        pair: Callable[..., Experiment] = staticmethod(pair)
        random_encoder: Callable[..., Experiment] = staticmethod(random_encoder)
        put: Callable[..., Run] = staticmethod(put)
        changed: Callable[..., pd.DataFrame] = staticmethod(changed)
        keep_weights: Callable[..., tuple[nn.Module, nn.Module]] = staticmethod(keep_weights)

    return Make
