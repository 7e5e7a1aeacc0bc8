"""The rules of the simulated accelerator, each as CUDA has it."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.device import sim

X = torch.arange(6.0).view(2, 3)
INDEX = torch.tensor([0])


def x() -> torch.Tensor:
    return X.to("sim")


REFUSED: dict[str, Callable[[], object]] = {
    "add": lambda: x() + X,
    "stack": lambda: torch.stack([x(), X]),
    "mm": lambda: torch.mm(x(), X.T),
    "where": lambda: torch.where(x() > 0, x(), X),
    "out": lambda: torch.add(x(), x(), out=torch.empty(2, 3)),
    "index_select": lambda: x().index_select(0, INDEX),
    "gather": lambda: x().gather(0, INDEX[None]),
    "index_copy": lambda: x().index_copy_(0, INDEX, X[:1]),
    "a device's index": lambda: X[INDEX.to("sim")],
    "mm without dimensions": lambda: torch.cat([x(), torch.tensor(1.0)]),
    "a CPU generator": lambda: torch.rand(2, device="sim", generator=torch.Generator()),
    "a CPU generator in place": lambda: x().normal_(generator=torch.Generator()),
    "numpy": lambda: x().numpy(),
    "conv": lambda: nn.Conv2d(3, 1, 1)(torch.zeros(1, 3, 2, 2, device="sim")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    with pytest.raises((RuntimeError, TypeError), match=r"same device|indices should|device type"):
        REFUSED[name]()


def test_allowed() -> None:
    assert torch.equal((x() * torch.tensor(2.0)).cpu(), 2 * X)  # a scalar of the CPU
    assert torch.equal(x()[INDEX].cpu(), X[INDEX])  # an index of the CPU
    assert torch.equal(torch.where(x() > 2, x(), torch.tensor(0.0)).cpu(), torch.where(X > 2, X, 0))
    target = torch.zeros(2, 3)
    target[0] = x()[0]
    assert torch.equal(target[0], X[0])
    assert x().tolist() == X.tolist()
    assert torch.arange(4, device="sim").sum().item() == 6


def test_files_name_the_device() -> None:
    file = io.BytesIO()
    torch.save({"x": x()}, file)
    file.seek(0)
    assert torch.load(file)["x"].device == torch.device("sim:0")
    file.seek(0)
    assert torch.load(file, map_location="cpu")["x"].device.type == "cpu"


@pytest.mark.parametrize("half", [False, True])
def test_training_is_that_of_the_cpu(half: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.Flatten(), nn.Linear(144, 5)
    )
    nets = [net, copy.deepcopy(net).to("sim")]
    images = torch.randn(2, 3, 8, 8)
    for each in nets:
        optimizer = torch.optim.AdamW(each.parameters(), fused=True)
        for _ in range(3):
            here = images.to(each[0].weight.device)
            with torch.autocast(here.device.type, torch.bfloat16, half):
                out = each(here)
            assert out.dtype == (torch.bfloat16 if half else torch.float32)
            optimizer.zero_grad()
            out.float().square().mean().backward()
            optimizer.step()
    for ours, theirs in zip(*(each.state_dict().values() for each in nets), strict=True):
        assert torch.equal(ours, theirs.cpu())


def test_what_has_no_deterministic_implementation_is_refused() -> None:
    image, grid = (t.to("sim") for t in (torch.rand(1, 1, 4, 4), torch.zeros(1, 2, 2, 2)))
    image.requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        with torch.no_grad():
            nn.functional.grid_sample(image, grid, align_corners=False)
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            nn.functional.grid_sample(image, grid, align_corners=False)
    finally:
        torch.use_deterministic_algorithms(False)


def test_inference_mode() -> None:
    made, source = torch.zeros(2, 3, device="sim"), x()
    with torch.inference_mode():
        made[:1] = source[:1] * 2
    assert torch.equal((made + 0).cpu()[0], 2 * X[0])


def test_counts() -> None:
    a = x()
    with sim.count(__file__) as counted:
        b = torch.ones(3).to("sim")
        torch.ones(3).to("sim", non_blocking=True)
        ((a + b).view(-1)).sum().item()
        a[a > 2]
        a[INDEX]
        a[a > 2] = 0.0
    kinds = {kind: counted.kind(kind) for kind in ("h2d", "h2d~", "sync", "launch")}
    assert kinds == {"h2d": 2, "h2d~": 1, "sync": 2, "launch": 7}
