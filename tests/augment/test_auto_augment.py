"""AutoAugment against torchvision's operations, image by image, and against its tables."""

from collections import Counter

import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode
from torchvision.transforms import functional as tv
from torchvision.transforms.autoaugment import AutoAugment as TorchvisionAutoAugment

from simclr_ablate.augment.auto_augment import NAMES, TABLES, AutoAugment, pairs
from simclr_ablate.augment.policies import autoaugment_policy, crop_policy

CASES = [("imagenet", 96, 80), ("imagenet", 70, 33), ("cifar10", 32, 32), ("cifar10", 20, 27)]


def rng(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def random_images(n: int, height: int, width: int) -> Tensor:
    """uint8: smooth, noisy, dull and one-coloured ones in turn."""
    smooth = F.interpolate(torch.rand(n, 3, 5, 4), size=(height, width), mode="bilinear")
    smooth[1::4] = torch.rand(len(smooth[1::4]), 3, height, width)
    smooth[2::4] = 0.4 + 0.1 * smooth[2::4]
    smooth[3::16] = smooth[3::16, :, :1, :1]
    return (smooth * 255).round().to(torch.uint8)


def one_by_one(image: Tensor, name: str, magnitude: float) -> Tensor:
    """torchvision's operation on one uint8 image (3, H, W), called as its AutoAugment calls it."""
    nearest = InterpolationMode.NEAREST
    corner: dict = {"angle": 0.0, "scale": 1.0, "interpolation": nearest}
    slope = torch.tensor(magnitude).atan().rad2deg().item()
    if name == "ShearX":
        return tv.affine(image, translate=[0, 0], shear=[slope, 0.0], center=[0, 0], **corner)
    if name == "ShearY":
        return tv.affine(image, translate=[0, 0], shear=[0.0, slope], center=[0, 0], **corner)
    if name == "TranslateX":
        return tv.affine(image, translate=[int(magnitude), 0], shear=[0.0, 0.0], **corner)
    if name == "TranslateY":
        return tv.affine(image, translate=[0, int(magnitude)], shear=[0.0, 0.0], **corner)
    functions = {
        "Rotate": lambda: tv.rotate(image, magnitude, nearest),
        "Brightness": lambda: tv.adjust_brightness(image, 1 + magnitude),
        "Color": lambda: tv.adjust_saturation(image, 1 + magnitude),
        "Contrast": lambda: tv.adjust_contrast(image, 1 + magnitude),
        "Sharpness": lambda: tv.adjust_sharpness(image, 1 + magnitude),
        "Posterize": lambda: tv.posterize(image, int(magnitude)),
        "Solarize": lambda: tv.solarize(image, magnitude),
        "AutoContrast": lambda: tv.autocontrast(image),
        "Equalize": lambda: tv.equalize(image),
        "Invert": lambda: tv.invert(image),
        "Identity": lambda: image,
    }
    return functions[name]()


def to_bytes(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


@pytest.mark.parametrize(("table", "height", "width"), CASES)
def test_views_are_torchvisions_image_by_image(table: str, height: int, width: int) -> None:
    images = random_images(400, height, width)
    operation = AutoAugment(table)
    params = operation.draw(len(images), height, width, rng(0))
    ours = to_bytes(operation(images.float() / 255, params))
    wrong = 0.0
    for k, image in enumerate(images):
        for number, magnitude in zip(
            params["operation"][k], params["magnitude"][k].tolist(), strict=True
        ):
            image = one_by_one(image, NAMES[number], magnitude)
        wrong += float((ours[k] != image).double().mean()) / len(images)
    # Where an exact product of rounded numbers lies at the border of two levels or pixels.
    assert wrong < 1e-4


@pytest.mark.parametrize("name", NAMES[1:])
def test_each_operation_at_every_magnitude(name: str) -> None:
    size = 40
    values, signed = TorchvisionAutoAugment()._augmentation_space(10, (size, size))[name]
    magnitudes = values.double().flatten()
    if name.startswith("Shear"):  # levels 2 and 6 read halfway between pixels; no table has them
        magnitudes = magnitudes[[0, 1, 3, 4, 5, 7, 8, 9]]
    if signed:
        magnitudes = torch.cat([magnitudes, -magnitudes])
    images = random_images(len(magnitudes), size, size)
    if name.startswith("Translate"):
        magnitudes = magnitudes.trunc()
    both = torch.stack([torch.full((len(images),), NAMES.index(name)), torch.zeros(len(images))], 1)
    params = {
        "operation": both.long(),
        "magnitude": magnitudes.unsqueeze(1).expand(-1, 2),
    }
    ours = to_bytes(AutoAugment("imagenet")(images.float() / 255, params))
    theirs = [
        one_by_one(image, name, magnitude)
        for image, magnitude in zip(images, magnitudes.tolist(), strict=True)
    ]
    assert (ours != torch.stack(theirs)).double().mean() < 1e-4


@pytest.mark.parametrize("table", TABLES)
def test_magnitudes_are_torchvisions(table: str) -> None:
    height, width = 96, 64
    theirs = TorchvisionAutoAugment(AutoAugmentPolicy(table))
    space = theirs._augmentation_space(10, (height, width))
    numbers, probabilities, magnitudes = pairs(table, height, width)
    for k, row in enumerate(theirs.policies):
        for place, (name, probability, level) in enumerate(row):
            assert NAMES[numbers[k, place]] == name
            assert float(probabilities[k, place]) == pytest.approx(probability)
            expected = 0.0 if level is None else float(space[name][0][level])
            if name.startswith("Translate"):
                expected = int(expected)
            assert float(magnitudes[k, place]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("table", TABLES)
def test_pairs_probabilities_and_signs(table: str) -> None:
    n = 60_000
    params = AutoAugment(table).draw(n, 32, 32, rng(1))
    names, probabilities, _ = pairs(table, 32, 32)
    for place in (0, 1):
        expected: Counter[str] = Counter()
        for number, probability in zip(names[:, place], probabilities[:, place], strict=True):
            expected[NAMES[number]] += float(probability) / len(names)
        drawn = params["operation"][:, place]
        for name, share in expected.items():
            assert abs(float((drawn == NAMES.index(name)).double().mean()) - share) < 0.01
    signs = params["magnitude"][params["operation"] == NAMES.index("Color")]
    assert abs(float((signs[signs != 0] < 0).double().mean()) - 0.5) < 0.03
    solarized = params["magnitude"][params["operation"] == NAMES.index("Solarize")]
    assert solarized.min() >= 0


def test_images_are_left_as_they_were() -> None:
    images = random_images(32, 24, 24).float() / 255
    before = images.clone()
    operation = AutoAugment("cifar10")
    changed = operation(images, operation.draw(32, 24, 24, rng(2)))
    assert torch.equal(images, before)
    assert not torch.equal(changed, before)


def test_an_image_that_draws_nothing_stays() -> None:
    images = random_images(300, 24, 24)
    operation = AutoAugment("cifar10")
    params = operation.draw(300, 24, 24, rng(3))
    still = (params["operation"] == 0).all(1)
    assert still.any()
    assert torch.equal(to_bytes(operation(images.float() / 255, params))[still], images[still])


@pytest.mark.parametrize(("size", "table"), [(32, "cifar10"), (64, "cifar10"), (96, "imagenet")])
def test_the_policy_is_crop_and_flip_then_the_table_of_the_size(size: int, table: str) -> None:
    policy = autoaugment_policy(size, crop_area=0.3, interpolation="bilinear")
    crop, augment = policy.first
    assert [crop] == crop_policy(size, crop_area=0.3, interpolation="bilinear").first
    assert augment == AutoAugment(table)
    assert policy.first == policy.second


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(ValueError, match="table must be one of imagenet, cifar10, got 'svhn'"):
        AutoAugment("svhn")
