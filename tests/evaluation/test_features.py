import pytest
import torch
from torch import Tensor, nn

from simclr_ablate.evaluation.features import extract, in_batches, reset_batchnorm
from simclr_ablate.models.encoder import build_encoder
from simclr_ablate.models.head import build_head


class Stored:
    """Images in memory, read by index."""

    def __init__(self, n: int) -> None:
        self.images = torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8)
        self.labels = torch.randint(10, (n,))

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


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
    stored, encoder = Stored(23), trained_encoder()
    head = build_head("nonlinear", encoder.dim, 8)
    result = extract(encoder, in_batches(stored, 7))
    projected = extract(encoder, in_batches(stored, 23), head=head)
    h = encoder.eval()(stored.images.float() / 255).detach()
    z = head.eval()(h).detach()
    torch.testing.assert_close(result.features, h, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(projected.features, z, rtol=1e-4, atol=1e-5)
    assert torch.equal(result.labels, stored.labels)
    assert not result.features.requires_grad


def test_floats_are_taken_as_they_are() -> None:
    stored, encoder = Stored(6), trained_encoder()
    floats = [(stored.images.float() / 255, stored.labels)]
    expected = extract(encoder, in_batches(stored, 6)).features
    assert torch.equal(extract(encoder, floats).features, expected)


def test_features_are_float32_under_autocast() -> None:
    encoder = build_encoder("resnet8", 1, "strided")
    with torch.autocast("cpu", torch.bfloat16):
        assert extract(encoder, in_batches(Stored(4), 4)).features.dtype == torch.float32


def test_extraction_leaves_the_network_as_it_was() -> None:
    encoder = trained_encoder().train()
    encoder.bn1.eval()
    modes, before = [m.training for m in encoder.modules()], state(encoder)
    extract(encoder, in_batches(Stored(8), 4))
    assert [m.training for m in encoder.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in state(encoder).items())


def test_batch_norm_is_reset_to_plain_averages_over_batches() -> None:
    stored = Stored(30)
    norm = nn.BatchNorm2d(3)
    norm.running_mean.fill_(5)
    network = nn.Sequential(norm).eval()
    reset_batchnorm(network, in_batches(stored, 10))
    batches = (stored.images.double() / 255).split(10)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.var((0, 2, 3), unbiased=True) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean.double(), means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), variances, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not norm.training


def test_reset_of_a_whole_encoder_from_one_batch_equals_that_batch_in_train_mode() -> None:
    stored, encoder = Stored(64), trained_encoder().train()
    weights = {name: p.clone() for name, p in encoder.named_parameters()}
    expected = encoder(stored.images.float() / 255).detach()
    reset_batchnorm(encoder, in_batches(stored, 64))
    # Running variances are the unbiased ones, which differ by 1/(N * H * W).
    actual = extract(encoder, in_batches(stored, 64)).features
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2)
    assert all(torch.equal(p, weights[name]) for name, p in encoder.named_parameters())
    assert all(module.training for module in encoder.modules())


def test_reset_forgets_what_was_before() -> None:
    stored, encoder = Stored(20), trained_encoder()
    reset_batchnorm(encoder, in_batches(stored, 10))
    first = state(encoder)
    reset_batchnorm(encoder, in_batches(Stored(20), 10))
    reset_batchnorm(encoder, in_batches(stored, 10))
    assert all(torch.equal(value, first[name]) for name, value in state(encoder).items())


def test_refuses_no_images() -> None:
    encoder = build_encoder("resnet8", 1, "strided")
    with pytest.raises(ValueError, match="features need at least one image, got none"):
        extract(encoder, [])
    with pytest.raises(ValueError, match="batch norm needs at least one image, got none"):
        reset_batchnorm(encoder, [])
