"""Networks that are not ours as encoders: they compute what they compute by themselves."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

from simclr_ablate.identity import identity_config, run_id
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.randomness import derive_seed
from simclr_ablate.schema import Experiment
from simclr_ablate.tasks.networks import build_models
from tests.weights.networks import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("timm:test_efficientnet", {}),
        ("timm:test_convnext(act_layer='relu')", {"act_layer": "relu"}),
        ("timm:test_vit(img_size=32, patch_size=8)", {"img_size": 32, "patch_size": 8}),
    ],
)
def test_a_network_of_timm_has_timms_own_weights_and_features(
    architecture: str, arguments: dict
) -> None:
    name = architecture.removeprefix("timm:").partition("(")[0]
    torch.manual_seed(5)
    ours = build_encoder(architecture, 1, "cifar", size=32)
    torch.manual_seed(5)
    theirs = timm.create_model(name, num_classes=0, **arguments)
    images = torch.rand(4, 3, 32, 32)
    for training in (False, True):
        expected = theirs.train(training)(images)
        torch.testing.assert_close(ours.train(training)(images), expected)
        assert ours.dim == expected.shape[1]
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


def test_a_users_function_gets_width_and_stem() -> None:
    torch.manual_seed(5)
    ours = build_encoder("tests.weights.networks:tiny", 2, "imagenet", size=32)
    torch.manual_seed(5)
    theirs = tiny(2, "imagenet")
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))
    assert ours.dim == 16


def test_weights_do_not_depend_on_the_size_of_images(
    make_experiment: Callable[..., Experiment],
) -> None:
    own = "encoder.architecture=tests.weights.networks:tiny"
    other = ["data@evaluation.data=cifar10", "evaluation.data.size=48"]
    first, second = (build_models(make_experiment(own, *more), CPU) for more in ([], other))
    for one, another in zip(first, second, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, another.state_dict()[name]), name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "weights"))
        drawn = tiny(1, "cifar")
        hidden = nn.Linear(8, 8, bias=False)  # what the head draws first, and then replaces
        nn.init.normal_(hidden.weight, std=0.01)
    plain = dict(drawn.named_parameters())
    for name, parameter in first[0].named_parameters():
        assert torch.equal(parameter, plain[name.removeprefix("own.")])


def test_keys_count_where_they_are_used(make_experiment: Callable[..., Experiment]) -> None:
    own, theirs = "encoder.architecture=mine:f", "encoder.architecture=timm:resnet18"
    assert run_id(make_experiment(own)) != run_id(make_experiment(own, "encoder.stem=strided"))
    assert run_id(make_experiment(own)) != run_id(make_experiment(own, "encoder.width=3"))
    assert run_id(make_experiment(theirs)) == run_id(
        make_experiment(theirs, "encoder.stem=strided")
    )
    for name in ("encoder.width", "encoder.stem"):
        assert name in identity_config(make_experiment(own))
        assert name in identity_config(make_experiment())
        assert name not in identity_config(make_experiment(theirs))


def test_ids_of_imported_networks_are_those_that_they_had(
    make_experiment: Callable[..., Experiment],
) -> None:
    imported = make_experiment(
        "objective=imported", "encoder.architecture=timm:resnet18", "encoder.weights=w.pt"
    )
    assert {"encoder.width", "encoder.stem"} <= identity_config(imported).keys()
