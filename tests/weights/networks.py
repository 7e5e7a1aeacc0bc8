"""Networks of others with random weights, and batch norms that do more than nothing."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode, with batch norms as after training."""
    draw = torch.Generator().manual_seed(seed)
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.weight.data.uniform_(0.5, 1.5, generator=draw)
            norm.bias.data.normal_(0, 0.1, generator=draw)
            norm.running_mean.normal_(0, 0.1, generator=draw)
            norm.running_var.uniform_(0.5, 1.5, generator=draw)
            norm.num_batches_tracked.fill_(7)
    return network.eval()


def normalised(images: Tensor) -> Tensor:
    """Images in [0, 1] as torchvision's ImageNet models take them."""
    from torchvision.transforms import functional

    return functional.normalize(images, list(MEAN), list(STD))


def assert_alike(ours: Tensor, theirs: Tensor) -> None:
    """Equal up to rounding, in the scale of the features."""
    scale = theirs.abs().max()
    assert theirs.std(0).min() >= 0
    assert theirs.std() > 0.01 * scale, "features that hardly vary would prove nothing"
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5)


def tiny(width: int, stem: str) -> nn.Module:
    """A network that is not ours: images to h, (N, 8 * width)."""
    stride = {"imagenet": 4, "cifar": 1}[stem]
    layers = [nn.Conv2d(3, 8 * width, 5, stride), nn.BatchNorm2d(8 * width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
