"""How many parameters encoders have, and what is remembered of it."""

import pytest
import torch
from torchvision import models

from analysis import parameters
from simclr_ablate.models.encoder import build_encoder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIMCLR_ABLATE_CACHE", str(tmp_path))
    parameters.parameters.cache_clear()
    yield tmp_path / "analysis"
    parameters.parameters.cache_clear()


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_they_are_those_of_torchvisions_network_without_its_classifier(name):
    with torch.device("meta"):
        network = getattr(models, name)()
    body = sum(weights.numel() for weights in network.parameters())
    classifier = sum(weights.numel() for weights in network.fc.parameters())
    assert parameters.parameters(name, 1, "imagenet") == body - classifier


@pytest.mark.parametrize(("width", "stem"), [(1, "strided"), (3, "cifar")])
def test_they_are_those_of_an_encoder_with_weights(width, stem):
    weights = build_encoder("resnet8", width, stem).state_dict()
    norms = ("running_mean", "running_var", "num_batches_tracked")
    expected = sum(w.numel() for name, w in weights.items() if not name.endswith(norms))
    assert parameters.parameters("resnet8", width, stem) == expected


def test_a_count_is_remembered_until_encoders_are_built_in_another_way(cache, monkeypatch):
    count = parameters.parameters("resnet8", 1, "cifar")
    (file,) = cache.iterdir()
    file.write_text(str(count + 1))
    parameters.parameters.cache_clear()
    assert parameters.parameters("resnet8", 1, "cifar") == count + 1
    parameters.parameters.cache_clear()
    monkeypatch.setattr(parameters, "_version", lambda: "another")
    assert parameters.parameters("resnet8", 1, "cifar") == count
