import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.linear import Classifier, evaluate_linear, fit_path, log_spaced
from simclr_ablate.schema import Evaluation

CLASSES = 6


def features(n: int, seed: int = 0, noise: float = 1.5) -> Features:
    """Overlapping classes; features of unequal scales, correlated, not centred, one constant."""
    generator = torch.Generator().manual_seed(99)
    centres = 0.6 * torch.randn(CLASSES, 12, generator=generator)
    mix = torch.randn(12, 20, generator=generator) * torch.logspace(-1.5, 1, 20)
    generator.manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    hidden = centres[labels] + noise * torch.randn(n, 12, generator=generator)
    outputs = (hidden @ mix + 1).relu()
    outputs[:, 3] = 2.5
    return Features(outputs, labels)


def oracle(data: Features, strength: float) -> LogisticRegression:
    """The same optimum in float64 by Newton's method."""
    model = LogisticRegression(
        C=1 / (strength * len(data.labels)), solver="newton-cholesky", tol=1e-10, max_iter=1000
    )
    return model.fit(data.features.double().numpy(), data.labels.numpy())


def objective(classifier: Classifier, data: Features, strength: float) -> float:
    weight, bias = (values.double() for values in classifier)
    logits = data.features.double() @ weight.T + bias
    cross_entropy = torch.nn.functional.cross_entropy(logits, data.labels)
    return (cross_entropy + strength / 2 * (weight**2).sum()).item()


@pytest.mark.parametrize(("noise", "weakest"), [(1.5, 1e-5), (0.3, 1e-3)])
def test_reaches_the_optimum_of_scikit_learn(noise: float, weakest: float) -> None:
    data, test = features(1000, noise=noise), features(1000, seed=1, noise=noise)
    strengths = [1.0, 1e-2, weakest]
    for strength, ours in zip(strengths, fit_path(data, CLASSES, strengths), strict=True):
        theirs = oracle(data, strength)
        best = Classifier(torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_))
        expected = objective(best, data, strength)
        assert objective(ours, data, strength) == pytest.approx(expected, rel=1e-4)
        predictions = ours.logits(test.features).argmax(1).numpy()
        assert np.mean(predictions == theirs.predict(test.features.numpy())) >= 0.995


def test_the_path_does_not_matter() -> None:
    data = features(800)
    strengths = [1e-1, 1e-3]
    for strength, warm in zip(strengths, fit_path(data, CLASSES, strengths), strict=True):
        cold = fit_path(data, CLASSES, [strength])[0]
        expected = objective(cold, data, strength)
        assert objective(warm, data, strength) == pytest.approx(expected, rel=1e-4)


def test_chooses_on_validation_and_refits_on_both() -> None:
    train, validation, test = features(600), features(300, seed=1), features(500, seed=2)
    strengths = [1e-5, 1e-3, 1e-1, 10.0]
    result = evaluate_linear(train, validation, test, strengths)
    assert result.strengths == sorted(strengths, reverse=True)
    for strength, accuracy in zip(result.strengths, result.validations, strict=True):
        theirs = oracle(train, strength).score(validation.features.numpy(), validation.labels)
        assert accuracy == pytest.approx(100 * theirs, abs=0.7)
    assert result.validation == max(result.validations)
    assert result.validations[result.strengths.index(result.strength)] == result.validation
    both = Features(*(torch.cat(pair) for pair in zip(train, validation, strict=True)))
    model = oracle(both, result.strength)
    agree = result.logits.argmax(1).numpy() == model.predict(test.features.numpy())
    assert agree.mean() >= 0.995
    probabilities = result.logits.softmax(1).numpy()
    expected = model.predict_proba(test.features.numpy())
    np.testing.assert_allclose(probabilities, expected, atol=5e-3)


def test_test_labels_have_no_part_in_the_choice() -> None:
    train, validation, test = features(300), features(150, seed=1), features(100, seed=2)
    strengths = [1e-4, 1e-2, 1.0]
    result = evaluate_linear(train, validation, test, strengths)
    shuffled = Features(test.features, test.labels.roll(1))
    other = evaluate_linear(train, validation, shuffled, strengths)
    assert (result.strength, result.validations) == (other.strength, other.validations)
    assert torch.equal(result.logits, other.logits)


def test_the_largest_of_tied_strengths_is_chosen() -> None:
    points = torch.tensor([[-1.0], [1.0]]).repeat(20, 1)
    data = Features(points, (points[:, 0] > 0).long())
    result = evaluate_linear(data, data, data, [1e-3, 1e-1, 1e-2])
    assert result.validations == [100, 100, 100]
    assert result.strength == 1e-1
    assert (result.logits.argmax(1) == data.labels).all()


def test_strengths_are_log_spaced() -> None:
    assert log_spaced(5, 1e-2, 1e2) == pytest.approx([1e-2, 1e-1, 1, 10, 100])
    assert log_spaced(1, 1e-2, 1e2) == [1e-2]


def test_refuses_bad_strengths_and_features() -> None:
    data = features(50)
    for strengths in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match=r"l2 strengths must be > 0, got \["):
            evaluate_linear(data, data, data, strengths)
    data.features[3, 2] = torch.nan
    with pytest.raises(ValueError, match="features must be finite"):
        fit_path(data, CLASSES, [1.0])


@pytest.mark.parametrize("bound", ["at_least", "at_most"])
def test_the_largest_and_smallest_strength_of_a_config_are_computed_with(bound: str) -> None:
    """Beyond them float32 underflows or overflows, and so does the classifier."""
    names = {"at_least": "l2_min", "at_most": "l2_max"}
    fields = {field.name: field for field in dataclasses.fields(Evaluation)}
    strength = fields[names[bound]].metadata["bounds"][bound]
    features = torch.rand(60, 8)
    features[:, 3], features[:, 5] = 0, features[:, 4]  # of no use, where l2 alone decides
    (fitted,) = fit_path(Features(features, torch.arange(60) % 3), 3, [strength])
    assert fitted.logits(features).isfinite().all()
