"""Names of libraries' pieces: what they mean, their one spelling, and the command line's quotes."""

import ast
import random

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from simclr_ablate.calls import Call, is_call, is_of_library, parse, quoted, spelled, unquoted
from simclr_ablate.config import ConfigError
from simclr_ablate.identity import run_id


def test_a_name_and_its_arguments() -> None:
    assert parse("kornia:RandomHue") == Call("kornia", "RandomHue", {})
    call = parse("torchvision:X(a=-1.5, b=[true, null, (1, 'q')], c={'k': False}, d=Y(e=2))")
    assert call == Call(
        "torchvision",
        "X",
        {
            "a": -1.5,
            "b": [True, None, (1, "q")],
            "c": {"k": False},
            "d": Call("torchvision", "Y", {"e": 2}),
        },
    )
    assert list(parse("lightly:A(b=[C(d=E())], f={'g': H()})").names()) == ["A", "C", "E", "H"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("torchvision:X(3)", "arguments must be named, as in X(NAME=3)"),
        ("torchvision:X(**a)", "arguments must be named"),
        ("torchvision:X(a=1, a=2)", "an argument is given twice"),
        ("torchvision:X(a=1", "'(' was never closed; quote it inside a list"),
        ("torchvision:X(a=b)", "b must be a number, text in quotes, true, false, null, a list, or"),
        ("torchvision:X(a=1e999)", "1e309 must be a number"),
        ("torchvision:X(a=__import__('os').name)", "__import__('os').name must be a number"),
        ("torchvision:X(a=[b for b in c])", "must be a number"),
        ("torchvision:X.y", "it must be a name, or a name with arguments in brackets"),
        ("torchvision:(1)", "it must be a name"),
        ("torchvision:", "invalid syntax"),
        ("torchvision:" + "X(a=" * 9000, ""),
    ],
)
def test_what_is_wrong_with_a_name_is_said(text: str, problem: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse(text)
    assert problem in str(caught.value)
    assert not is_call(text)


def test_every_spelling_of_a_piece_is_one() -> None:
    rng = random.Random()
    for _ in range(20):
        arguments = {f"a{k}": rng.choice(["1", "-0.5", "'x'", "(1, 2)", "None"]) for k in range(4)}
        names = list(arguments)
        rng.shuffle(names)
        space = rng.choice(["", " "])
        text = f"kornia:X({space}{','.join(f'{n}{space}={arguments[n]}' for n in names)})"
        one = spelled(text)
        assert one == f"kornia:X({', '.join(f'{n}={v}' for n, v in arguments.items())})"
        assert spelled(one) == one
        keywords = ast.parse(one.partition(":")[2], mode="eval").body.keywords  # type: ignore[attr-defined]
        assert {k.arg: ast.literal_eval(k.value) for k in keywords} == parse(text).arguments
    assert spelled("kornia:X()") == "kornia:X"
    assert spelled("kornia:X(y=Y( ))") == "kornia:X(y=Y())"
    assert spelled("kornia:X(p=true)") == spelled("kornia:X( p = True )")


@pytest.mark.parametrize(
    "values",
    [
        ["crop", "torchvision:GaussianBlur(kernel_size=3, sigma=(0.1, 2))", "kornia:RandomHue"],
        ["kornia:RandomMotionBlur(kernel_size=3, angle=5, direction=0, border_type='constant)')"],
        ['torchvision:AutoAugment(policy="cifar10")', "blur"],
        ["mine:gamma", "torchvision:RandomApply(transforms=[Grayscale(a={'b': 3})])"],
    ],
)
def test_hydra_reads_calls_as_the_shell_gives_them(values: list[str]) -> None:
    argument = f"views.first={','.join(values)}"
    override = OverridesParser.create().parse_override(quoted(argument))
    read = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    assert [getattr(value, "text", value) for value in read] == values
    assert quoted(unquoted(quoted(argument))) == quoted(argument)


def test_a_command_is_told_as_it_was_given() -> None:
    given = "views.first=crop,torchvision:GaussianBlur(kernel_size=3, sigma=(0.1, 2)),blur"
    assert unquoted(quoted(given)) == given
    for other in ("views.first='mine:f'", "a='torchvision:X'", "x='torchvision:X(a=1)b'"):
        assert unquoted(other) == other


@pytest.mark.parametrize(
    "argument",
    [
        "views.first='torchvision:X(a=1)'",
        'views.first="torchvision:X(a=1)",blur',
        "loss.temperature=choice(0.1,0.5)",
        "views.first=torchvision:X",
        "--config-dir",
        "seed=0,1",
    ],
)
def test_other_arguments_stay_as_they_are(argument: str) -> None:
    assert quoted(argument) == argument


def test_a_config_keeps_the_one_spelling(make_experiment) -> None:
    first, second = (
        make_experiment("views=pair", f'views.first="{text}"', "views.second=blur")
        for text in (
            "torchvision:RandomAffine(translate=(.1,.1),degrees=5)",
            "torchvision:RandomAffine( degrees=5, translate=(0.1, 0.1) )",
        )
    )
    assert first == second
    assert first.views.first == "torchvision:RandomAffine(degrees=5, translate=(0.1, 0.1))"
    assert run_id(first) == run_id(second)
    assert run_id(first).startswith("shapes-resnet8-pair-torchvision-randomaffine-blur-s0-")
    other = make_experiment(
        "views=pair", "views.first='torchvision:RandomAffine(degrees=6)'", "views.second=blur"
    )
    assert run_id(other) != run_id(first)


def test_a_wrong_call_is_refused_with_its_key(make_experiment) -> None:
    with pytest.raises(ConfigError) as caught:
        make_experiment("views=pair", "views.second='kornia:RandomHue(0.1)'", "views.first=blur")
    assert str(caught.value) == (
        "views.second must be kornia:NAME or kornia:NAME(ARGUMENT=VALUE, ...), got 'kornia:RandomHue(0.1)': "
        "arguments must be named, as in RandomHue(NAME=0.1)"
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("views.policy='kornia:RandomHue(hue=1)'", "views.policy must be one of simclr, "),
        ("views.policy='timm:resnet18(a=1)'", "views.policy must be one of simclr, "),
        ("views.extra='lightly:SimCLRTransform(a=1)'", "views.extra must be one of rotate, "),
        ("loss.name='torchvision:X(a=1)'", "loss.name must be one of nt_xent, "),
    ],
)
def test_a_key_takes_pieces_of_its_own_libraries(
    override: str, message: str, make_experiment
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_experiment(override)


def test_what_is_of_a_library() -> None:
    assert is_of_library("timm:resnet18")
    assert is_of_library("torchvision:X(")
    assert not is_of_library("torchvision.transforms:X")
    assert not is_of_library("torchvision")
    assert not is_of_library(None)
