"""Random operations, which draw parameters for each image and apply them to whole batches."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from simclr_ablate.augment import fused, tensorflow_color
from simclr_ablate.augment.batching import Kinds, Run, change_kinds, take
from simclr_ablate.augment.color import (
    JITTER_ORDERS,
    equalize,
    jitter_kinds_,
    jitter_steps,
    solarize,
    to_grayscale,
)
from simclr_ablate.augment.filters import (
    add_noise,
    blur_kernel_size,
    gaussian_blur,
    motion_blur,
    sobel,
)
from simclr_ablate.augment.geometry import crop_windows, cutout, resample_windows, rotate_kinds
from simclr_ablate.augment.noise import normals
from simclr_ablate.device import send

Params = dict[str, Tensor]
"""Drawn parameters: tensors on the CPU, with a row for each image."""
Prepared = dict[str, Any]
"""What an operation makes of them for a batch: see `Operation.prepare`."""

MAX_STRENGTH = 2.5
"""Strength s of colour jitter at which the hue, by 0.2 s either way, covers the colour circle."""

_CROP_ATTEMPTS = 10
_CROP_RATIO = (3 / 4, 4 / 3)


class Operation(ABC):
    """A random operation on batches of images (N, 3, H, W), float in [0, 1].

    Parameters are drawn and prepared on the CPU, sent to the images' device with those of all other operations, and
    applied there; calling the operation with images and what it drew does all but the first.

    `apply` treats each image on its own, so a batch can be cut anywhere, and leaves its input as it
    is. `apply_` is for policies, which work on their own copies.
    """

    def __call__(self, images: Tensor, params: Params) -> Tensor:
        """The images, changed as drawn."""
        prepared = self.prepare(params, images.shape[-2], images.shape[-1], images.device)
        return self.apply(images, send(prepared, images.device))

    @abstractmethod
    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        """Parameters for `n` images of (height, width): CPU tensors with leading dimension `n`."""

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        """What `apply` needs of drawn parameters, in nested dicts, lists and tuples: the parameters, unless overridden.

        Its tensors are sent to the images' `device`. Whatever the CPU has to know to decide what is launched there must
        be in plain values.
        """
        return params

    @abstractmethod
    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        """The images, changed. params: of `prepare`, on the images' device."""

    def apply_(self, images: Tensor, params: Prepared) -> Tensor:
        """`apply` to images that nobody needs any more: may overwrite and return them."""
        return self.apply(images, params)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        """The size of images of (height, width) after the operation."""
        return height, width

    def kinds(self, params: Params) -> Tensor | None:
        """Whole numbers (N,): images of a kind go through the same steps. None if all do.

        Policies put images of a kind side by side, which is faster; results don't depend on it.
        """
        return None


@dataclass(frozen=True)
class RandomApply(Operation):
    """Applies `operation` to each image with `probability`, independently; other images cost nothing."""

    operation: Operation
    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must be in [0, 1], got {self.probability}")

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        applied = torch.rand(n, generator=generator) < self.probability
        return {"applied": applied, **self.operation.draw(n, height, width, generator)}

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        kinds = Kinds.of(params["applied"].long(), device)
        inner = kinds.take({name: values for name, values in params.items() if name != "applied"})
        of_runs = [
            self.operation.prepare(take(inner, run.rows), height, width, device)
            if run.kind
            else None
            for run in kinds.runs
        ]
        return {"kinds": kinds, "inner": of_runs}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return self.apply_(images.clone(), params)

    def apply_(self, images: Tensor, params: Prepared) -> Tensor:
        def maybe(number: int, part: Tensor, run: Run) -> Tensor:
            return self.operation.apply_(part, params["inner"][number]) if run.kind else part

        return change_kinds(images, params["kinds"], maybe)

    def kinds(self, params: Params) -> Tensor:
        inner = self.operation.kinds(params)
        applied = params["applied"].long()
        return applied if inner is None else applied * (1 + inner)


@dataclass(frozen=True)
class RandomResizedCrop(Operation):
    """A random window resized to (size, size), mirrored with probability 0.5 if `flip` is set (App. A).

    Its area is uniform in [min_area, 1] of the image, its aspect ratio log-uniform in [3/4, 4/3].
    As in torchvision, a window that does not fit is drawn again; if none of ten fits, the window is
    the largest with an allowed ratio.

    The area is uniform as in App. A; the ratio and the attempts are torchvision's. The released code calls
    `tf.image.sample_distorted_bounding_box`, which draws the ratio uniformly, then the height, uniformly among those
    that the area and the image allow. There, small areas are more frequent, areas near 1 hardly ever occur, and areas
    under 0.1 never do, because its `min_object_covered` is 0.1.
    """

    size: int
    min_area: float = 0.08
    interpolation: str = "bicubic"
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise ValueError(f"crop_area must be > 0 and <= 1, got {self.min_area}")

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        drawn = self.draw_each(n, [(height, width)], [generator])
        return {name: values[0] for name, values in drawn.items()}

    def draw_each(
        self, n: int, sizes: Sequence[tuple[int, int]], generators: Sequence[Generator]
    ) -> Params:
        """`draw` for each of several images, as (images, n): the same numbers, in less time for all together.

        sizes: the height and width of each. generators: one for each.
        """
        numbers = [
            (
                torch.rand(2, n, _CROP_ATTEMPTS, generator=generator),
                torch.rand(2, n, generator=generator, dtype=torch.float64),
                # Drawn in any case, so that windows are the same with and without flips.
                torch.rand(n, generator=generator),
            )
            for generator in generators
        ]
        extent, corner, flip = (torch.stack(each) for each in zip(*numbers, strict=True))
        height, width = torch.tensor(sizes).view(-1, 2, 1).unbind(1)
        rows, columns = self._extents(extent, sizes)
        return {
            "top": (corner[:, 0] * (height - rows + 1)).long(),
            "left": (corner[:, 1] * (width - columns + 1)).long(),
            "height": rows,
            "width": columns,
            "flip": flip < 0.5 * self.flip,
        }

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        return crop_windows(**params, image_size=(height, width), size=self.size)

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return self._crop(images, params, None)

    def apply_(self, images: Tensor, params: Prepared) -> Tensor:
        fits = images.shape[-2:] == (self.size, self.size) and images.is_contiguous()
        return self._crop(images, params, images if fits else None)

    def _crop(self, images: Tensor, params: Prepared, out: Tensor | None) -> Tensor:
        crops = resample_windows(
            images, **params, size=self.size, interpolation=self.interpolation, out=out
        )
        return crops.clamp_(0, 1)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        return self.size, self.size

    def _extents(self, drawn: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Rows and columns of the first of ten windows that fits, (images, n) each, whole pixels.

        drawn: (images, 2, n, 10), uniform in [0, 1).
        """
        height, width = torch.tensor(sizes).view(-1, 2, 1, 1).unbind(1)
        low, high = (math.log(ratio) for ratio in _CROP_RATIO)
        area = (self.min_area + (1 - self.min_area) * drawn[:, 0]) * (height * width)
        ratio = (low + (high - low) * drawn[:, 1]).exp()
        rows, columns = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()
        fits = (rows >= 1) & (rows <= height) & (columns >= 1) & (columns <= width)
        first = fits.long().argmax(-1, keepdim=True)
        one_fits = fits.any(-1)
        largest = torch.tensor([_largest_window(*size) for size in sizes])
        return (
            torch.where(one_fits, rows.gather(-1, first)[..., 0], largest[:, :1]),
            torch.where(one_fits, columns.gather(-1, first)[..., 0], largest[:, 1:]),
        )


@dataclass(frozen=True)
class Resize(Operation):
    """Resizes the whole image to (size, size); nothing is random."""

    size: int
    interpolation: str = "bicubic"

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        zero = torch.zeros(n, dtype=torch.long)
        return {"top": zero, "left": zero, "height": zero + height, "width": zero + width}

    def draw_each(
        self, n: int, sizes: Sequence[tuple[int, int]], generators: Sequence[Generator]
    ) -> Params:
        """`draw` for each of several images, as (images, n). sizes: the height and width of each."""
        zero = torch.zeros(len(sizes), n, dtype=torch.long)
        height, width = torch.tensor(sizes).view(-1, 2, 1).unbind(1)
        return {"top": zero, "left": zero, "height": zero + height, "width": zero + width}

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        if (height, width) == (self.size, self.size):
            return {}
        upright = torch.zeros(len(params["top"]), dtype=torch.bool)
        return crop_windows(**params, flip=upright, image_size=(height, width), size=self.size)

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        if not params:
            return images
        resized = resample_windows(
            images, **params, size=self.size, interpolation=self.interpolation
        )
        return resized.clamp_(0, 1)

    def size_after(self, height: int, width: int) -> tuple[int, int]:
        return self.size, self.size


@dataclass(frozen=True)
class ColorJitter(Operation):
    """Changes brightness, contrast and saturation by up to 0.8 s, hue by up to 0.2 s (App. A).

    The four come in a random order, and values are clipped after each. s is `strength`. Amounts are uniform: factors
    in [max(0, 1 - 0.8 s), 1 + 0.8 s], turns of the hue in [-0.2 s, 0.2 s].

    color: `pytorch` for the operations of App. A's first listing, `tensorflow` for those of its second listing and of
        the paper's code (v1), in which brightness adds a number from [-0.8 s, 0.8 s].
    """

    strength: float = 1.0
    color: str = "pytorch"

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= MAX_STRENGTH:
            raise ValueError(f"strength must be in [0, {MAX_STRENGTH}], got {self.strength}")
        if self.color not in ("pytorch", "tensorflow"):
            raise ValueError(f"color must be pytorch or tensorflow, got {self.color!r}")

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        drawn = torch.rand(4, n, generator=generator)
        order = torch.randint(len(JITTER_ORDERS), (n,), generator=generator)
        reach = 0.8 * self.strength
        brightness, contrast, saturation = _uniform(drawn[:3], max(0.0, 1 - reach), 1 + reach)
        hue = _uniform(drawn[3], -0.2 * self.strength, 0.2 * self.strength)
        if self.color == "pytorch":
            tones, before_hue = jitter_steps(brightness, contrast, saturation, order)
            return {"tones": tones, "hue": hue, "before_hue": before_hue}
        return {
            "brightness": _uniform(drawn[0], -reach, reach),
            "contrast": contrast,
            "saturation": saturation,
            "hue": hue,
            "order": order,
        }

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        name = "before_hue" if self.color == "pytorch" else "order"
        if fused.covers(device):
            if self.color == "pytorch":
                return params
            amounts = torch.stack([params[amount] for amount in fused.AMOUNTS], 1)
            return {"amounts": amounts, "steps": fused.steps_of(params["order"])}
        kinds = Kinds.of(params[name], device)
        return {"kinds": kinds, **kinds.take({k: v for k, v in params.items() if k != name})}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return self.apply_(images.clone(), params)

    def apply_(self, images: Tensor, params: Prepared) -> Tensor:
        if self.color == "pytorch":
            if "kinds" in params:
                return jitter_kinds_(images, **params)
            return fused.color_jitter_(images, **params)
        if "kinds" in params:
            return tensorflow_color.jitter_kinds_(images, **params)
        return fused.tensorflow_jitter_(images, **params)

    def kinds(self, params: Params) -> Tensor:
        return params["before_hue" if self.color == "pytorch" else "order"]


@dataclass(frozen=True)
class Grayscale(Operation):
    """The grey image in three channels."""

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        return {}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return to_grayscale(images)

    def apply_(self, images: Tensor, params: Prepared) -> Tensor:
        return to_grayscale(images, out=images)


@dataclass(frozen=True)
class GaussianBlur(Operation):
    """Gaussian blur, sigma uniform in [0.1, 2] pixels, kernel a tenth of the shorter side (App. A)."""

    sigma: tuple[float, float] = (0.1, 2.0)

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        return {"sigma": _uniform(torch.rand(n, generator=generator), *self.sigma)}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return self._blur(images, params["sigma"], torch.empty_like(images))

    def apply_(self, images: Tensor, params: Prepared) -> Tensor:
        return self._blur(images, params["sigma"], images)

    def _blur(self, images: Tensor, sigma: Tensor, out: Tensor) -> Tensor:
        size = blur_kernel_size(*images.shape[-2:])
        return gaussian_blur(images, sigma, size, out).clamp_(0, 1)  # clips rounding errors only


@dataclass(frozen=True)
class MotionBlur(Operation):
    """The blur of a motion in a random direction (App. B.2).

    Its length is uniform from 1 pixel to `share` of the shorter side, or to 5 pixels if that is more. SimCLR does not
    publish it; a fifth is twice the kernel of its Gaussian blur.
    """

    share: float = 0.2

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        drawn = torch.rand(2, n, generator=generator)
        return {
            "length": _uniform(drawn[0], 1, max(5, self.share * min(height, width))),
            "angle": _uniform(drawn[1], 0, math.pi),
        }

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        taps = 2 * math.ceil(max(5, self.share * min(images.shape[-2:])) / 2) + 1
        return motion_blur(images, **params, taps=taps).clamp_(0, 1)  # clips rounding errors only


@dataclass(frozen=True)
class Cutout(Operation):
    """Covers a square, `share` of the shorter side wide and centred on a random pixel, with grey.

    SimCLR does not publish the size. A half is DeVries and Taylor's (2017) 16 of 32 on CIFAR-10.
    """

    share: float = 0.5

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        side = round(self.share * min(height, width))
        center = [torch.randint(extent, (n,), generator=generator) for extent in (height, width)]
        top, left = (pixel - side // 2 for pixel in center)
        return {"top": top, "left": left, "side": torch.full((n,), side)}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return cutout(images, params["top"], params["left"], params["side"])


@dataclass(frozen=True)
class Sobel(Operation):
    """Replaces the image by its edges; nothing is random."""

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        return {}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return sobel(images)


@dataclass(frozen=True)
class GaussianNoise(Operation):
    """Adds Gaussian noise to every value, with each image's standard deviation uniform in `std`.

    SimCLR does not publish the strength. The default is plainly visible and hides no object.
    """

    std: tuple[float, float] = (0.05, 0.15)

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        std = _uniform(torch.rand(n, generator=generator), *self.std)
        noise = normals(n, (3, height, width), generator)
        return {"std": std, "noise": noise}  # type: ignore[dict-item] # indexed as tensors are

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        noise = params["noise"]
        return {**params, "noise": noise if isinstance(noise, Tensor) else noise.draw()}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return add_noise(images, params["noise"], params["std"])


@dataclass(frozen=True)
class Rotate(Operation):
    """Turns the image by 90, 180 or 270 degrees, each equally likely.

    Figure 4(f) names these three. Figure 5 always applies its operations, so no image stays upright.
    """

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        return {"quarters": torch.randint(1, 4, (n,), generator=generator)}

    def prepare(self, params: Params, height: int, width: int, device: torch.device) -> Prepared:
        return {"quarters": Kinds.of(params["quarters"], device)}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return rotate_kinds(images, params["quarters"])

    def kinds(self, params: Params) -> Tensor:
        return params["quarters"]


@dataclass(frozen=True)
class Solarize(Operation):
    """Inverts values at or above a threshold."""

    threshold: float = 0.5

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        return {"threshold": torch.full((n,), self.threshold)}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return solarize(images, params["threshold"])


@dataclass(frozen=True)
class Equalize(Operation):
    """Flattens the histogram of each channel; nothing is random."""

    def draw(self, n: int, height: int, width: int, generator: Generator) -> Params:
        return {}

    def apply(self, images: Tensor, params: Prepared) -> Tensor:
        return equalize(images)


def _uniform(drawn: Tensor, low: float, high: float) -> Tensor:
    """Numbers drawn from [0, 1), moved to [low, high)."""
    return low + (high - low) * drawn


def _largest_window(height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest window with an allowed aspect ratio."""
    narrowest, widest = _CROP_RATIO
    if width / height < narrowest:
        return round(width / narrowest), width
    if width / height > widest:
        return height, round(height * widest)
    return height, width
