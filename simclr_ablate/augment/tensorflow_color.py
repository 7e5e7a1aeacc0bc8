"""TensorFlow's colour operations, which the paper's code calls (App. A, the second listing).

Only hue is the same as torchvision's (`color.py`): brightness is added, contrast is relative to each channel's own
mean, and saturation is HSV's. Images are (N, 3, H, W), float in [0, 1]; parameters are (N,), one per image.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from simclr_ablate.augment.batching import Kinds, Run, change_kinds, per_image
from simclr_ablate.augment.color import JITTER_ORDERS, in_pieces, turn_hue_

_TINY = torch.finfo(torch.float32).tiny


def add_brightness(images: Tensor, delta: Tensor) -> Tensor:
    """`images + delta`, clipped: `tf.image.adjust_brightness`."""
    return _add_brightness_(images.clone(), delta)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Moves values away from (factor > 1) or towards (< 1) each channel's mean, clipped: `tf.image.adjust_contrast`."""
    return _adjust_contrast_(images.clone(), factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Multiplies HSV's saturation by `factor`, up to 1; hue and value stay: `tf.image.adjust_saturation`."""
    return _adjust_saturation_(images.clone(), factor)


def jitter_kinds_(
    images: Tensor,
    kinds: Kinds,
    brightness: Tensor,
    contrast: Tensor,
    saturation: Tensor,
    hue: Tensor,
) -> Tensor:
    """Brightness, contrast, saturation and hue in each image's own order, clipped after each, in place.

    kinds: indices into JITTER_ORDERS. The amounts are in the order of its runs, on the images' device. Returns
    `images`.
    """
    amounts = {
        "brightness": brightness,
        "contrast": contrast,
        "saturation": saturation,
        "hue": hue,
    }

    def jitter(_: int, part: Tensor, run: Run) -> Tensor:
        steps = JITTER_ORDERS[run.kind]
        chosen = [amounts[name][run.rows] for name in steps]
        for piece, *amount_of in in_pieces(part, *chosen):
            for name, amount in zip(steps, amount_of, strict=True):
                _STEPS[name](piece, amount)
        return part

    return change_kinds(images, kinds, jitter)


def _add_brightness_(images: Tensor, delta: Tensor) -> Tensor:
    return images.add_(per_image(delta, images)).clamp_(0, 1)


def _adjust_contrast_(images: Tensor, factor: Tensor) -> Tensor:
    factor = per_image(factor, images)
    offset = images.mean((2, 3), keepdim=True).mul_(1 - factor)
    return images.mul_(factor).add_(offset).clamp_(0, 1)


def _adjust_saturation_(images: Tensor, factor: Tensor) -> Tensor:
    # A channel's distance from the highest one, HSV's value, is proportional to the saturation.
    high, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    most = high / (high - low).clamp_(min=_TINY)  # one over the saturation
    ratio = torch.minimum(most, per_image(factor, images))
    return images.sub_(high).mul_(ratio).add_(high).clamp_(0, 1)  # clips rounding errors only


def _adjust_hue_(images: Tensor, turns: Tensor) -> Tensor:
    return turn_hue_(images, turns).clamp_(0, 1)  # clips rounding errors only


_STEPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": _add_brightness_,
    "contrast": _adjust_contrast_,
    "saturation": _adjust_saturation_,
    "hue": _adjust_hue_,
}
