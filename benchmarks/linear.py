"""The l2 path of linear evaluation, beside scikit-learn's logistic regression, one fit after the other.

Each runs in a process of its own. Both fit every strength on the training split, without the choice on the validation
split and the fit on both splits. scikit-learn has its defaults, L-BFGS with at most 100 iterations, and starts each
strength from the solution of the one before, as ours does.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.measure import print_table
from simclr_ablate.evaluation.features import Features
from simclr_ablate.evaluation.linear import fit_path, log_spaced

CASES = {
    "50,000 x 128, 10 classes, 9 strengths, two cores": (50_000, 128, 10, 9, 2, 2),
    "10,000 x 2,048, 200 classes, 10 strengths, two cores": (10_000, 2048, 200, 10, 2, 2),
    "3,060 x 128, 102 classes, 45 strengths, one core": (3_060, 128, 102, 45, 5, 1),
}
"""Images, width, classes, strengths, the exponent of the largest, and cores. The last is Caltech-101's in Table B.5."""


def main() -> None:
    if len(sys.argv) > 1:
        name, *numbers = sys.argv[1:]
        measure({"ours": ours, "scikit-learn": scikit_learns}[name], *map(int, numbers))
        return
    rows = []
    for case, numbers in CASES.items():
        found = {}
        for name in ("ours", "scikit-learn"):
            command = [sys.executable, "-m", "benchmarks.linear", name, *map(str, numbers)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[name] = [float(word) for word in output.split()[-3:]]
        reference = found["ours"][0]
        rows += [
            [
                case,
                name,
                f"{seconds:.1f}",
                f"{seconds / reference:.1f}x",
                f"{megabytes:,.0f}",
                f"{top1:.1f}",
            ]
            for name, (seconds, megabytes, top1) in found.items()
        ]
    print_table(
        ["linear evaluation", "", "s", "time", "MB over the features", "top-1 %, weakest"], rows
    )


def measure(
    fit: Callable[[Features, int, list[float]], Callable[[torch.Tensor], torch.Tensor]],
    n: int,
    dim: int,
    classes: int,
    count: int,
    exponent: int,
    cores: int,
) -> None:
    """Prints seconds, megabytes on top of the features, and top-1 of the weakest strength on as many test rows."""
    torch.set_num_threads(cores)
    train, test = (made_up(n, dim, classes, seed) for seed in (0, 1))
    strengths = sorted(log_spaced(count, 1e-6, 10.0**exponent), reverse=True)
    before, begin = _peak(), time.perf_counter()
    predict = fit(train, classes, strengths)
    seconds, after = time.perf_counter() - begin, _peak()
    right = (predict(test.features) == test.labels).double().mean().item()
    print(seconds, after - before, 100 * right)


def made_up(n: int, dim: int, classes: int, seed: int) -> Features:
    """Made-up features of overlapping classes, after a ReLU, which h has too: (n, dim)."""
    centres = 0.15 * torch.randn(classes, dim, generator=torch.Generator().manual_seed(9))
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=draw)
    features = torch.empty(n, dim)
    for rows in torch.arange(n).split(10_000):  # the draws take less memory than the features
        noise = torch.randn(len(rows), dim, generator=draw)
        features[rows] = (noise + centres[labels[rows]]).relu()
    return Features(features, labels)


def ours(
    data: Features, classes: int, strengths: list[float]
) -> Callable[[torch.Tensor], torch.Tensor]:
    weakest = fit_path(data, classes, strengths)[-1]
    return lambda features: weakest.logits(features).argmax(1)


def scikit_learns(
    data: Features, classes: int, strengths: list[float]
) -> Callable[[torch.Tensor], torch.Tensor]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(warm_start=True)
    x, y = data.features.numpy(), data.labels.numpy()
    for strength in strengths:
        model.set_params(C=1 / (strength * len(y))).fit(x, y)
    return lambda features: torch.from_numpy(model.predict(features.numpy()))


def _peak() -> float:
    """The peak memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
