"""Training with compiled networks is training: torch's tracer, without its code generator, changes no bit."""

from collections.abc import Callable, Iterator

import pytest
import torch

from simclr_ablate import device
from simclr_ablate.config import ConfigError
from simclr_ablate.schema import Experiment
from simclr_ablate.training.loop import Loop
from tests.small_runs import SMALL, loop_of


@pytest.fixture(autouse=True)
def _traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(device, "COMPILER", "eager")
    yield
    torch._dynamo.reset()


def trained(experiment: Experiment) -> Loop:
    loop = loop_of(experiment, 48, torch.device("cpu"))
    loop.run(lambda _: None)
    return loop


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        ("optimizer=lars",),
        ("optimizer.micro_batch=8",),
        ("objective=supervised", "precision=bfloat16"),
    ],
    ids=" ".join,
)
def test_a_compiled_run_is_the_run(
    make_experiment: Callable[..., Experiment], keys: tuple[str, ...]
) -> None:
    plain, compiled = (
        trained(make_experiment(*SMALL, *keys, f"compute.compile={how}")).state_dict()
        for how in ("off", "default")
    )
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0, "nothing was traced"
    assert compiled["history"] == plain["history"]
    for network in ("encoder", "head"):
        assert compiled[network].keys() == plain[network].keys()
        for name, weights in plain[network].items():
            assert torch.equal(compiled[network][name], weights), name


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("compute.device=cpu", "compute.compile=graphs"), "off or default with compute.device=cpu, got 'graphs'"),
        (("compute.device=mps", "compute.compile=graphs"), "off or default with compute.device=mps, got 'graphs'"),
        (("compute.ranks=2", "compute.compile=default"), "must be off with compute.ranks=2"),
        (("compute.compile=fast",), "compute.compile must be one of off, default, graphs, got 'fast'"),
    ],
)  # fmt: skip
def test_what_cannot_be_compiled_is_refused(
    make_experiment: Callable[..., Experiment], keys: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_experiment(*keys)
