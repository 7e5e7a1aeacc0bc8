"""Import as a user asks for it, without a store."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.schema import Encoder
from simclr_ablate.weights.importing import complete_weights, import_weights

Importing = Callable[..., "tuple[Encoder, Callable[[Tensor], Tensor]]"]


@pytest.fixture
def imported() -> Importing:
    """`imported(source, architecture, width=1, ...)`: the completed config, and the encoder as a function of images."""

    def read(
        source: object, architecture: str, width: int = 1, stem: str = "imagenet", **more: object
    ) -> "tuple[Encoder, Callable[[Tensor], Tensor]]":
        size = int(str(more.pop("size", 64)))
        keys = dict.fromkeys(("fingerprint", "mean", "std", "label")) | more
        spec = complete_weights(
            Encoder(architecture, width, stem, str(source), **keys),  # type: ignore[arg-type]
            size,
        )
        encoder = build_encoder(architecture, width, stem, spec.mean, spec.std, size)
        encoder.load_state_dict(import_weights(spec, size))
        return spec, torch.no_grad()(encoder.eval())

    return read


@pytest.fixture
def images() -> Tensor:
    """(4, 3, 64, 64) in [0, 1], from dark to bright."""
    draw = torch.Generator().manual_seed(5)
    return torch.rand(4, 3, 64, 64, generator=draw) * torch.linspace(0.2, 1, 4).view(-1, 1, 1, 1)
