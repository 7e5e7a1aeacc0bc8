import pytest
import torch
from torch import Tensor, nn

from simclr_ablate.data.in_memory import ImageSet
from simclr_ablate.evaluation.features import extract, reset_batchnorm
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.head import build_head


def stored_images(n: int) -> ImageSet:
    images = torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8)
    return ImageSet(images, torch.randint(10, (n,)), [str(k) for k in range(10)])


def trained_encoder() -> nn.Module:
    """An encoder whose running statistics are not those of the images it will see."""
    encoder = build_encoder("resnet8", 1, "strided")
    for norm in encoder.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return encoder


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_features_are_those_of_the_encoder_in_eval_mode() -> None:
    stored, encoder = stored_images(23), trained_encoder()
    head = build_head("nonlinear", encoder.dim, 8)
    result = extract(encoder, stored.batches(7))
    projected = extract(encoder, stored.batches(23), head=head)
    h = encoder.eval()(stored.images.float() / 255).detach()
    z = head.eval()(h).detach()
    torch.testing.assert_close(result.features, h, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(projected.features, z, rtol=1e-4, atol=1e-5)
    assert torch.equal(result.labels, stored.labels)
    assert not result.features.requires_grad


def test_floats_are_taken_as_they_are() -> None:
    stored, encoder = stored_images(6), trained_encoder()
    floats = [(stored.images.float() / 255, stored.labels)]
    expected = extract(encoder, stored.batches(6)).features
    assert torch.equal(extract(encoder, floats).features, expected)


def test_features_are_float32_under_autocast() -> None:
    encoder = build_encoder("resnet8", 1, "strided")
    with torch.autocast("cpu", torch.bfloat16):
        assert extract(encoder, stored_images(4).batches(4)).features.dtype == torch.float32


def test_extraction_leaves_the_network_as_it_was() -> None:
    encoder = trained_encoder().train()
    encoder.bn1.eval()
    modes, before = [m.training for m in encoder.modules()], state(encoder)
    extract(encoder, stored_images(8).batches(4))
    assert [m.training for m in encoder.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in state(encoder).items())


def test_batch_norm_is_reset_to_plain_averages_over_batches() -> None:
    stored = stored_images(30)
    norm = nn.BatchNorm2d(3)
    norm.running_mean.fill_(5)
    network = nn.Sequential(norm).eval()
    reset_batchnorm(network, stored.batches(10))
    batches = (stored.images.double() / 255).split(10)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3), unbiased=True) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean.double(), means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), variances, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not norm.training


def test_reset_of_a_whole_encoder_from_one_batch_equals_that_batch_in_train_mode() -> None:
    stored, encoder = stored_images(64), trained_encoder().train()
    weights = {name: p.clone() for name, p in encoder.named_parameters()}
    expected = encoder(stored.images.float() / 255).detach()
    reset_batchnorm(encoder, stored.batches(64))
    # Running variances are the unbiased ones, which differ by 1/(N * H * W).
    actual = extract(encoder, stored.batches(64)).features
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2)
    assert all(torch.equal(p, weights[name]) for name, p in encoder.named_parameters())
    assert all(module.training for module in encoder.modules())


def test_reset_forgets_what_was_before() -> None:
    stored, encoder = stored_images(20), trained_encoder()
    reset_batchnorm(encoder, stored.batches(10))
    first = state(encoder)
    reset_batchnorm(encoder, stored_images(20).batches(10))
    reset_batchnorm(encoder, stored.batches(10))
    assert all(torch.equal(value, first[name]) for name, value in state(encoder).items())


def test_refuses_no_images() -> None:
    encoder = build_encoder("resnet8", 1, "strided")
    with pytest.raises(ValueError, match="features need at least one image, got none"):
        extract(encoder, [])
    with pytest.raises(ValueError, match="batch norm needs at least one image, got none"):
        reset_batchnorm(encoder, [])
