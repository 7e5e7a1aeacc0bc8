"""The encoder f: ResNets in every depth, width and stem that the study needs, timm's networks, and users' own."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, Bottleneck

from simclr_ablate import own
from simclr_ablate.calls import parse
from simclr_ablate.config import ConfigError, is_own, nearest
from simclr_ablate.models.sizes import PLANS, STEM_KERNELS
from simclr_ablate.schema import RESNETS, STEMS, TIMM, Compute

BN_MOMENTUM = 0.1
"""Weight of the new batch in the running statistics; the paper's .9 is the weight of the old value."""
BN_EPSILON = 1e-5


def build_encoder(
    architecture: str,
    width: int,
    stem: str,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int = 224,
) -> "Encoder":
    """The encoder f of Section 2.1: a ResNet up to and including its global average pool.

    architecture: resnet18 to resnet152 of He et al. 2016 (strides on the 3x3 convolution), or
        resnet8 for small images and small machines: three stages of one basic block with 16, 32 and
        128 channels. The last stage is twice as wide as usual, which costs little with so few pixels
        left and gives h more room. timm:NAME, package.module:function: see OwnEncoder.
    width: multiplies the channels of every stage, including the stem (Fig. 7): 1, 2 or 4; for resnet8
        any. (torchvision's wide_resnet50_2 widens only the 3x3 convolutions: another network.)
    stem: `imagenet`: 7x7 convolution of stride 2 and 3x3 max-pool of stride 2; `tensorflow`: the
        same with a SamePool, as in the paper's released code; `cifar`: 3x3 convolution of stride 1
        (App. B.9); `strided`: 3x3 convolution of stride 2.
    mean, std: a value for each channel; images are normalised by them before the first convolution.
    size: side of the images that a network that is not ours has to take.

    Weights are drawn from torch's global generator, as torchvision draws its own (He et al. 2015,
    fan out). With the ImageNet stem, the parameters of the common architectures have torchvision's
    names and shapes.

    Raises ValueError if an argument is none of these, and ConfigError for a network that is not ours and fails.
    """
    if is_own(architecture):
        return OwnEncoder(architecture, width, stem, size, mean, std)
    if architecture not in PLANS:
        raise ValueError(
            f"encoder.architecture must be one of {', '.join(PLANS)}, got {architecture!r}"
        )
    if stem not in STEMS:
        raise ValueError(f"encoder.stem must be one of {', '.join(STEMS)}, got {stem!r}")
    plan = PLANS[architecture]
    if plan.widths is None and width < 1:
        raise ValueError(f"encoder.width must be >= 1, got {width}")
    if plan.widths is not None and width not in plan.widths:
        accepted = ", ".join(map(str, plan.widths))
        raise ValueError(f"encoder.width must be one of {accepted} for {architecture}, got {width}")
    channels = [stage * width for stage in plan.channels]
    block = Bottleneck if plan.bottleneck else BasicBlock
    return ResNet(block, plan.depths, channels, stem, mean, std)


class Encoder(nn.Sequential):
    """A network without its classifier: images (N, 3, H, W) in [0, 1] to h, (N, dim)."""

    dim: int
    """Width of h."""


class ResNet(Encoder):
    """A ResNet: see `build_encoder`."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        channels: Sequence[int],
        stem: str,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        kernel, stride = STEM_KERNELS[stem], 1 if stem == "cifar" else 2
        layers = _first_layers(mean, std)
        in_channels = channels[0]
        layers["conv1"] = nn.Conv2d(3, in_channels, kernel, stride, kernel // 2, bias=False)
        layers["bn1"] = _batch_norm(in_channels)
        layers["relu"] = nn.ReLU(inplace=True)
        if stem == "imagenet":
            layers["maxpool"] = nn.MaxPool2d(3, 2, padding=1)
        elif stem == "tensorflow":
            layers["maxpool"] = SamePool()
        for number, (depth, out_channels) in enumerate(zip(depths, channels, strict=True)):
            stride = 2 if number else 1
            layers[f"layer{number + 1}"] = _stage(block, in_channels, out_channels, depth, stride)
            in_channels = out_channels * block.expansion
        layers["avgpool"] = GlobalAveragePool()
        super().__init__(layers)
        self.dim = in_channels
        self.apply(_initialise)


class OwnEncoder(Encoder):
    """A network that is not ours.

    `timm:NAME` or `timm:NAME(ARGUMENT=VALUE, ...)`: timm's model without its classifier, pooled as timm pools it.
    `package.module:function`: the module that `function(width, stem)` returns, called with the config's values, from
    images to h, (N, D).

    D is the network's choice, and is measured once, on images of `size` pixels.
    """

    def __init__(
        self,
        architecture: str,
        width: int,
        stem: str,
        size: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        named = f"encoder.architecture={architecture}"
        module: object
        if architecture.startswith(TIMM):
            module = _timm_model(architecture, named)
        else:
            make = own.find("encoder.architecture", architecture, RESNETS)
            with own.blamed(named, "make a network"):
                module = make(width, stem)
        if not isinstance(module, nn.Module):
            raise ConfigError(f"{named} must make a torch.nn.Module, got {type(module).__name__}")
        super().__init__(OrderedDict(_first_layers(mean, std), own=module))
        self.dim = self._width_of_h(named, size)

    def _width_of_h(self, named: str, size: int) -> int:
        # In eval mode, which leaves batch norm's statistics alone. The weights that are drawn next must not depend on
        # the size.
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices=[]),
            own.blamed(named, f"take images (2, 3, {size}, {size})"),
        ):
            h = self.eval()(torch.rand(2, 3, size, size))
        self.train()
        if not isinstance(h, Tensor) or h.ndim != 2 or len(h) != 2:
            got = tuple(h.shape) if isinstance(h, Tensor) else type(h).__name__
            raise ConfigError(
                f"{named} must map images (2, 3, {size}, {size}) to h, (2, D), got {got}"
            )
        return h.shape[1]


_OF_WEIGHTS = (
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "num_classes",
)
"""Arguments of `timm.create_model` that say more than what the network is."""


def _timm_model(architecture: str, named: str) -> nn.Module:
    """timm's model of that name without its classifier. Raises ConfigError if there is none, or no timm."""
    call = parse(architecture)
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f"{named} needs timm: pip install 'simclr-ablate[timm]'") from error
    if not timm.is_model(call.name):
        raise ConfigError(
            f"encoder.architecture must name a model of timm, got {architecture!r}"
            f"{nearest(call.name, timm.list_models())}"
        )
    for argument in _OF_WEIGHTS:
        if argument in call.arguments:
            raise ConfigError(
                f"{named} must have no argument {argument}: weights are drawn, or imported with objective=imported"
            )
    with own.blamed(named, "be made by timm.create_model"):
        model: nn.Module = timm.create_model(
            call.name, pretrained=False, num_classes=0, **call.arguments
        )
    return model


class Normalize(nn.Module):
    """Images in [0, 1] to (images - mean) / std, channel by channel. It has nothing in a state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class SamePool(nn.Module):
    """A 3x3 max pool of stride 2 with TensorFlow's padding `SAME`.

    An even side is padded by one pixel at its end alone, so windows lie one pixel further than with torch's padding.
    """

    def forward(self, features: Tensor) -> Tensor:
        height, width = features.shape[2:]
        padding = (width % 2, 1, height % 2, 1)
        return F.max_pool2d(F.pad(features, padding, value=float("-inf")), 3, 2)


def _first_layers(
    mean: Sequence[float] | None, std: Sequence[float] | None
) -> OrderedDict[str, nn.Module]:
    if mean is None or std is None:
        return OrderedDict()
    return OrderedDict(normalize=Normalize(mean, std))


class GlobalAveragePool(nn.Module):
    """(N, C, H, W) to (N, C)."""

    def forward(self, features: Tensor) -> Tensor:
        # The gradient of a mean over (2, 3) is in no memory format, which makes the backward pass of
        # the ReLU before it several times slower than with this gradient.
        return features.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    in_channels: int,
    channels: int,
    depth: int,
    stride: int,
) -> nn.Sequential:
    out_channels = channels * block.expansion
    shortcut = None
    if stride != 1 or in_channels != out_channels:
        shortcut = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), _batch_norm(out_channels)
        )
    first = block(in_channels, channels, stride, shortcut, norm_layer=_batch_norm)
    rest = [block(out_channels, channels, norm_layer=_batch_norm) for _ in range(depth - 1)]
    return nn.Sequential(first, *rest)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)


def _initialise(module: nn.Module) -> None:
    """Draws a convolution's weights; zeroes a block's last batch norm, so the block starts as its shortcut."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, Bottleneck):
        nn.init.zeros_(module.bn3.weight)
    elif isinstance(module, BasicBlock):
        nn.init.zeros_(module.bn2.weight)


def memory_format(compute: Compute) -> torch.memory_format:
    """How images and convolutions lie in memory."""
    return torch.channels_last if compute.channels_last else torch.contiguous_format
