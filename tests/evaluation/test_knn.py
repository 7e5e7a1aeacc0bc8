import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from simclr_ablate.evaluation import knn
from simclr_ablate.evaluation.features import Features

CLASSES = 5


def features(n: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(7)
    centres = torch.randn(CLASSES, 6, generator=generator)
    generator.manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    return Features(centres[labels] + 1.5 * torch.randn(n, 6, generator=generator), labels)


def in_plain_loops(train: Features, query: torch.Tensor, k: int, temperature: float) -> int:
    def cosine(x: list[float], y: list[float]) -> float:
        dot = sum(a * b for a, b in zip(x, y, strict=True))
        return dot / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))

    near = [cosine(query.tolist(), key.tolist()) for key in train.features]
    votes = [0.0] * CLASSES
    for neighbour in sorted(range(len(near)), key=near.__getitem__)[-k:]:
        votes[int(train.labels[neighbour])] += math.exp(near[neighbour] / temperature)
    return votes.index(max(votes))


@pytest.mark.parametrize("k", [1, 10, 60])
def test_equals_plain_loops(k: int) -> None:
    train, test = features(60, 0), features(25, 1)
    expected = [in_plain_loops(train, query, k, 0.07) for query in test.features]
    assert knn.knn_predict(train, test.features, k).tolist() == expected
    assert 0 < np.mean(np.array(expected) == test.labels.numpy()) < 1


def test_equals_scikit_learn_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = features(500, 2), features(300, 3)
    model = KNeighborsClassifier(
        20, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.1)
    ).fit(train.features.double().numpy(), train.labels)
    expected = model.predict(test.features.double().numpy()).tolist()
    for elements in (1, 500 * 7, 10**6):
        monkeypatch.setattr(knn, "_BLOCK_ELEMENTS", elements)
        assert knn.knn_predict(train, test.features, 20, 0.1).tolist() == expected


def test_only_directions_count() -> None:
    train, test = features(100, 4), features(50, 5)
    scaled = Features(train.features * torch.rand(100, 1).add(0.1), train.labels)
    assert torch.equal(
        knn.knn_predict(train, test.features, 5), knn.knn_predict(scaled, 3 * test.features, 5)
    )


def test_a_low_temperature_is_the_nearest_neighbour() -> None:
    train, test = features(100, 6), features(50, 7)
    nearest = knn.knn_predict(train, test.features, 1)
    assert torch.equal(knn.knn_predict(train, test.features, 100, temperature=1e-6), nearest)


@pytest.mark.parametrize("k", [0, 11])
def test_refuses_k_and_temperature_out_of_range(k: int) -> None:
    train = features(10, 8)
    with pytest.raises(ValueError, match=rf"evaluation\.knn must be >= 1 and <= 10, got {k}"):
        knn.knn_predict(train, train.features, k)
    with pytest.raises(ValueError, match=r"temperature must be > 0, got 0"):
        knn.knn_predict(train, train.features, 1, temperature=0)
