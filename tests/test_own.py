"""What is the user's own is found, and what is wrong with it is said: which key, which function, which line."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from simclr_ablate import own
from simclr_ablate.config import ConfigError, is_own, own_values
from simclr_ablate.schema import Experiment

Write = Callable[[str], str]

OWN = "or package.module:function"
TRANSFORMS = "or torchvision:NAME, or kornia:NAME"


@pytest.mark.parametrize("name", ["mine:loss", "a.b_2.c:_f", "größe:maß"])
def test_a_name_of_the_users_own(name: str) -> None:
    assert is_own(name)


@pytest.mark.parametrize(
    "name", ["mine", "mine:", ":loss", "mine.py:the loss", "a..b:c", "2a:b", "a:b:c", "a:b.c", None]
)
def test_no_name_of_the_users_own(name: str | None) -> None:
    assert not is_own(name)


def test_the_function_itself_is_found(own_module: Write) -> None:
    mine = own_module("def double(x):\n    return 2 * x\n")
    assert own.find("loss.name", f"{mine}:double")(21) == 42


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all' ({mine}.py, line 1)"),
        ("import sys\n\nsys.exit(0)\n", "SystemExit: 0 ({mine}.py, line 3)"),
        ("x = 1\ny = x / 0\n", "ZeroDivisionError: division by zero ({mine}.py, line 2)"),
        ("import json\njson.loads('{')\n", "({mine}.py, line 2)"),
        ("def loss(:\n", "SyntaxError: invalid syntax ({mine}.py, line 1)"),
        ("def lose(): pass\n", "module '{mine}' has no 'loss'; did you mean lose?"),
        ("loss = 3\n", "must name a function (package.module:function), got '{mine}:loss', which is int"),
    ],
)  # fmt: skip
def test_what_cannot_be_found_is_explained(own_module: Write, source: str, message: str) -> None:
    mine = own_module(source)
    with pytest.raises(ConfigError) as caught:
        own.find("loss.name", f"{mine}:loss", ["a", "b"])
    assert str(caught.value).startswith("loss.name must name ")
    assert f"got '{mine}:loss'" in str(caught.value)
    assert message.format(mine=mine) in str(caught.value)


def test_where_a_module_is_looked_for_is_said(own_module: Write) -> None:
    for missing in ("nowhere_at_all:loss", f"{own_module('')}.deeper:loss"):
        with pytest.raises(ConfigError, match="in the current folder or in those of"):
            own.find("loss.name", missing)


def test_an_error_of_the_users_is_told_with_key_task_and_line(own_module: Write) -> None:
    mine = own_module("import torch\n\n\ndef f(x):\n    return torch.ones(2) @ x\n")
    function = own.find("head.kind", f"{mine}:f")
    with (
        pytest.raises(ConfigError, match=rf"^head\.kind={mine}:f must add up, and failed: ") as caught,
        own.blamed(f"head.kind={mine}:f", "add up"),
    ):  # fmt: skip
        function(torch.ones(3))
    assert str(caught.value).endswith(f"({mine}.py, line 5)")


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        ("loss.name", "nt_xent, nt_logistic, margin_triplet"),
        ("head.kind", "none, linear, nonlinear"),
        ("views.policy", f"simclr, crop, autoaugment, pair, none, {OWN}, or lightly:NAME"),
        ("views.first", f"crop, cutout, color, sobel, noise, blur, rotate, {OWN}, {TRANSFORMS}"),
        ("views.second", f"crop, cutout, color, sobel, noise, blur, rotate, {OWN}, {TRANSFORMS}"),
        ("views.extra", f"rotate, noise, sobel, broader, {OWN}, {TRANSFORMS}"),
        (
            "data.name",
            "shapes, image_folder, cifar10, cifar100, stl10, imagenet, food101, sun397, stanford_cars, fgvc_aircraft, "
            "voc2007, dtd, oxford_iiit_pet, caltech101, flowers102",
        ),
    ],
)
def test_each_key_says_what_it_takes(
    key: str, accepted: str, make_experiment: Callable[..., Experiment]
) -> None:
    accepted = accepted if OWN in accepted else f"{accepted}, {OWN}"
    expected = f"{key} must be one of {accepted}, got 'no one:of'"
    views = ["views=pair"] if key in ("views.first", "views.second") else []
    with pytest.raises(ConfigError, match=re.escape(expected)):
        make_experiment(*views, f"{key}='no one:of'")
    experiment = make_experiment(*views, f"{key}=mine:piece")
    assert own_values(experiment) == {key: "mine:piece"}


def test_other_keys_take_no_function(make_experiment: Callable[..., Experiment]) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name must be one of lars, sgd, adamw, got"):
        make_experiment("optimizer.name=mine:adam")
    assert own_values(make_experiment("compute.device=cuda:1")) == {}


def test_the_help_says_which_keys_take_one() -> None:
    command = [sys.executable, "-m", "simclr_ablate", "--help-all"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split()[0] for line in text.splitlines() if "or package.module:function" in line]
    assert lines == [
        *("data.name", "views.policy", "views.first", "views.second", "views.extra"),
        *(
            "encoder.architecture",
            "head.kind",
            "loss.name",
            "evaluation.protocol",
            "evaluation.data.name",
            "tracker.names",
        ),
    ]


def test_a_folder_is_looked_in_last_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = len(sys.path)
    own.look_in(tmp_path)
    own.look_in(str(tmp_path))
    assert sys.path[before:] == [os.fspath(tmp_path)]
