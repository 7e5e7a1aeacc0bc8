"""How many parameters encoders have, counted without building them."""

import itertools
import subprocess
import sys

import pytest
import torch
from torchvision import models

from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.sizes import PLANS, parameters
from simclr_ablate.schema import RESNETS, STEMS


def test_all_of_our_encoders_have_a_plan():
    assert tuple(PLANS) == RESNETS


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_they_are_those_of_torchvisions_network_without_its_classifier(name):
    with torch.device("meta"):
        network = getattr(models, name)()
    body = sum(weights.numel() for weights in network.parameters())
    classifier = sum(weights.numel() for weights in network.fc.parameters())
    assert parameters(name, 1, "imagenet") == body - classifier


@pytest.mark.parametrize("name", PLANS)
def test_they_are_those_of_the_encoder_that_is_built(name):
    for width, stem in itertools.product(PLANS[name].widths or (1, 2, 3), STEMS):
        with torch.device("meta"):
            encoder = build_encoder(name, width, stem)
        built = sum(weights.numel() for weights in encoder.parameters())
        assert parameters(name, width, stem) == built


def test_counting_needs_no_torch():
    code = (
        "import sys; from simclr_ablate.models.sizes import parameters\n"
        "parameters('resnet50', 4, 'imagenet'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
