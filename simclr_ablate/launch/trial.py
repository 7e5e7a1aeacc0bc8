"""A trial of what is the user's own, on a few random numbers, before any run starts.

A sweep of a hundred jobs should not have to start for its author to learn that a head returns a tuple.
"""

import copy
import functools

import torch
from torch import Tensor

from simclr_ablate import own
from simclr_ablate.augment.build import build_policy
from simclr_ablate.augment.policies import Policy
from simclr_ablate.config import ConfigError, own_values
from simclr_ablate.data.streamed import split_crop
from simclr_ablate.losses.exact import ContrastiveLoss
from simclr_ablate.losses.registry import build_loss
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.head import build_head
from simclr_ablate.schema import Data, Encoder, Experiment, Head, Loss, Views

_IMAGES = 4
_TOLERANCE = 1e-4


def try_own(experiment: Experiment) -> None:
    """Makes the experiment's own policy, operations, head and loss, and has them work once. Raises ConfigError.

    The same piece is tried once, in however many experiments it is. Of a data set only the function is found: it is
    called when its images are made.
    """
    own_by_key = own_values(experiment)
    if "data.name" in own_by_key:
        own.find("data.name", experiment.data.name)
    with torch.random.fork_rng(devices=[]):
        if own_values(experiment.views):
            _try_views(experiment.views, experiment.data)
        if "head.kind" in own_by_key and experiment.objective != "supervised":
            _try_head(experiment.head, experiment.encoder)
        if "loss.name" in own_by_key and experiment.objective == "contrastive":
            _try_loss(experiment.loss)


@functools.cache
def _try_views(views: Views, data: Data) -> None:
    named = ", ".join(f"{key}={name}" for key, name in own_values(views, "views").items())
    policy = build_policy(views, data)
    images = torch.randint(256, (_IMAGES, 3, data.size, data.size), dtype=torch.uint8)
    made = _make_views(named, policy, images)
    shape = (2 * _IMAGES, 3, data.size, data.size)
    if tuple(made.shape) != shape:
        raise ConfigError(f"{named}: views must be {shape}, got {tuple(made.shape)}")
    if not (made.min() >= 0 and made.max() <= 1):  # nor may there be NaN
        raise ConfigError(
            f"{named}: views must be in [0, 1], got {made.min():.7g} to {made.max():.7g}"
        )
    if data.name == "imagenet":
        with own.blamed(named, "suit streamed images"):
            split_crop(policy)
    policy.chunk_bytes = 1
    again = _make_views(named, policy, images)
    if not torch.allclose(made, again, atol=_TOLERANCE):
        raise ConfigError(
            f"{named}: an operation must draw from its generator alone, in `draw`, and treat each image by "
            "itself, but the same draw gave other views when images were worked on one by one"
        )


def _make_views(named: str, policy: Policy, images: Tensor) -> Tensor:
    with own.blamed(named, f"make views of images {tuple(images.shape)}"):
        return policy.two_views(images, torch.Generator().manual_seed(0))


@functools.cache
def _try_head(head: Head, encoder: Encoder) -> None:
    with torch.device("meta"):
        in_dim = build_encoder(encoder.architecture, encoder.width, encoder.stem).dim
    made = build_head(head.kind, in_dim, head.dim)
    h = torch.randn(_IMAGES, in_dim)
    outputs = []
    for seed in range(2):
        torch.manual_seed(seed)
        with own.blamed(f"head.kind={head.kind}", f"take h, {tuple(h.shape)}, in training"):
            outputs.append(copy.deepcopy(made).train()(h))
    if not torch.equal(*outputs):
        raise ConfigError(
            f"head.kind={head.kind} must draw nothing at random once it is made, as dropout does, "
            "but made two different z of one h"
        )


@functools.cache
def _try_loss(spec: Loss) -> None:
    z = torch.randn(2 * _IMAGES, 16, requires_grad=True)
    loss = build_loss(spec)
    with own.blamed(f"loss.name={spec.name}", f"take z, {tuple(z.shape)}"):
        result = loss(z)
    named = f"loss.name={spec.name} must return a ContrastiveLoss of three scalar tensors"
    if not isinstance(result, ContrastiveLoss):
        raise ConfigError(f"{named}, got {type(result).__name__}")
    for field, value in result._asdict().items():
        if not isinstance(value, Tensor) or value.ndim:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"{named}, got {got} as its {field}")
    with own.blamed(f"loss.name={spec.name}", "have a gradient with respect to z"):
        (gradient,) = torch.autograd.grad(result.loss, z)
    if not bool(gradient.isfinite().all()):
        raise ConfigError(f"loss.name={spec.name} must have a finite gradient with respect to z")
