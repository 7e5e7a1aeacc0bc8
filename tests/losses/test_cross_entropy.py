"""Cross entropy of a batch and of its parts."""

import pytest
import torch
from torch.nn import functional as F

from simclr_ablate.losses.cross_entropy import cross_entropy

N, CLASSES = 24, 7


def test_it_is_the_mean_over_the_batch() -> None:
    logits, labels = torch.randn(N, CLASSES, dtype=torch.float64), torch.randint(CLASSES, (N,))
    result = cross_entropy(logits, labels, N)
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = -p[range(N), labels].log().mean()
    torch.testing.assert_close(result.loss, expected)
    assert float(result.accuracy) == pytest.approx(sum(p.argmax(1) == labels) / N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parts_add_up_with_their_gradients(dtype: torch.dtype) -> None:
    logits, labels = torch.randn(N, CLASSES, dtype=dtype), torch.randint(CLASSES, (N,))
    whole, parted = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected = F.cross_entropy(whole, labels)
    expected.backward()
    parts = [cross_entropy(parted[k : k + 6], labels[k : k + 6], N) for k in range(0, N, 6)]
    total = sum(part.loss for part in parts)
    total.backward()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(parted.grad, whole.grad)
    assert total.dtype == dtype
    accuracy = sum(part.accuracy for part in parts)
    torch.testing.assert_close(accuracy, cross_entropy(logits, labels, N).accuracy)


def test_half_precision_is_widened_first() -> None:
    logits, labels = torch.randn(N, CLASSES).bfloat16(), torch.randint(CLASSES, (N,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(logits, labels, N).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), labels))
