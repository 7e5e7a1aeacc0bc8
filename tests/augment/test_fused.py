"""Colour jitter as one operation: the Triton kernel, interpreted, does what the small operations do."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from simclr_ablate.augment import fused
from simclr_ablate.augment.operations import ColorJitter

ROUNDING = 2e-6
"""float32 rounds these steps to within 1.8e-6 of float64, here and there differently."""


def images_of(n: int, height: int, width: int) -> Tensor:
    """Noise, and images without colour, without light, of one colour and of two equal channels."""
    images = torch.rand(n, 3, height, width)
    images[0], images[1], images[2] = 0.3, 0, 1
    images[3] = images[3, :1]
    images[4, 1] = images[4, 0]
    images[5, 2] = images[5, 1]
    images[6] = torch.rand(3, 1, 1)
    return images


CASES = [
    (color, size)
    for color in ("pytorch", "tensorflow")
    for size in ((1, 1), (8, 8), (37, 41))  # less than a block, a block, more
]
N = 12
_INTERPRET = """
import sys, torch
from simclr_ablate.augment import triton_kernels
cases = torch.load(sys.argv[1])
for kernel, images, *more in cases:
    getattr(triton_kernels, kernel)(images, *more)
torch.save([images for _, images, *_ in cases], sys.argv[2])
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Tensor, ...]]:
    """For each case: images, what the small operations make of them, and what the kernels do.

    The kernels run on the CPU, in a process in which Triton interprets them.
    """
    pytest.importorskip("triton")
    folder = tmp_path_factory.mktemp("kernels")
    given, before = [], []
    for number, (color, size) in enumerate(CASES):
        images, operation = images_of(N, *size), ColorJitter(1.0, color)
        drawn = operation.draw(N, *size, torch.Generator().manual_seed(number))
        before.append((images, operation(images, drawn)))
        if color == "pytorch":
            given.append(("color_jitter_", images, *drawn.values()))
        else:
            amounts = torch.stack([drawn[name] for name in fused.AMOUNTS], 1)
            steps = fused.steps_of(drawn["order"])
            given.append(("tensorflow_jitter_", images, amounts, steps))
    torch.save(given, folder / "given.pt")
    command = [sys.executable, "-c", _INTERPRET, folder / "given.pt", folder / "changed.pt"]
    subprocess.run(command, check=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    changed = torch.load(folder / "changed.pt")
    return [(*each, after) for each, after in zip(before, changed, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)), ids=map(str, CASES))
def test_the_kernels_do_what_the_small_operations_do(
    changed: list[tuple[Tensor, ...]], number: int
) -> None:
    images, expected, after = changed[number]
    torch.testing.assert_close(after, expected, rtol=0, atol=ROUNDING)
    assert (after - images).abs().max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("target", [("cuda", 80, 32), ("hip", "gfx942", 64)], ids=str)
def test_the_kernels_compile(
    target: tuple[str, int | str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For GPUs that need not be here: an A100, and AMD's MI300."""
    triton = pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from simclr_ablate.augment import triton_kernels

    floats, counts = {"images": "*fp32"}, {"pixels": "i32", "block": "constexpr"}
    of_tones = {"tones": "*fp32", "hue": "*fp32", "before_hue": "*i64"}
    of_steps = {"amounts": "*fp32", "steps": "*i64"}
    for kernel, arguments in (
        (triton_kernels._jitter, of_tones),
        (triton_kernels._tensorflow_jitter, of_steps),
    ):
        source = ASTSource(kernel, {**floats, **arguments, **counts}, {"block": 1024})
        compiled = triton.compile(source, target=GPUTarget(*target))
        assert len(compiled.asm["cubin" if target[0] == "cuda" else "hsaco"]) > 1000


@pytest.mark.parametrize("color", ["pytorch", "tensorflow"])
def test_where_triton_fails_small_operations_take_over(
    color: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for all: what is prepared later is prepared for them."""
    monkeypatch.setattr(fused, "_works", True)
    monkeypatch.setattr(fused, "DEVICES", ["cpu"])
    monkeypatch.setattr(fused, "_has_triton", lambda: True)
    images, operation = images_of(30, 8, 8), ColorJitter(1.0, color)
    drawn = operation.draw(30, 8, 8, torch.Generator().manual_seed(1))
    expected = operation(images, drawn)
    name, small = {
        "pytorch": ("color_jitter_", fused._small_jitter_),
        "tensorflow": ("tensorflow_jitter_", fused._small_tensorflow_jitter_),
    }[color]
    prepared = operation.prepare(drawn, 8, 8, images.device)
    assert "kinds" not in prepared
    jitter_: Callable[..., None] = fused._by_triton(name, small)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            changed = images.clone()
            jitter_(changed, *prepared.values())  # the kernel is for GPUs
            assert torch.equal(changed, expected)
    assert len(caplog.records) == 1
    assert "since Triton failed" in caplog.text
    assert not fused.covers(images.device)
    assert "kinds" in operation.prepare(drawn, 8, 8, images.device)
