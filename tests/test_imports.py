"""Imports run downwards: what is below knows nothing of what is built on it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEVELS = [
    ["simclr_ablate"],
    ["simclr_ablate.data", "simclr_ablate.augment", "simclr_ablate.models", "simclr_ablate.losses"],
    ["simclr_ablate.training", "simclr_ablate.evaluation", "simclr_ablate.weights"],
    ["simclr_ablate.trackers"],
    ["simclr_ablate.tasks"],
    ["simclr_ablate.plan"],
    ["simclr_ablate.launch"],
    ["simclr_ablate.run", "simclr_ablate.status", "simclr_ablate.help"],
    ["simclr_ablate.completion"],
    ["simclr_ablate.__main__"],
    ["analysis"],
]
"""From the ground floor up. A module is on the level of the longest name that its own begins with."""


def modules() -> dict[str, Path]:
    paths = [*ROOT.glob("simclr_ablate/**/*.py"), *ROOT.glob("analysis/**/*.py")]
    dotted = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {name.removesuffix(".__init__"): path for name, path in dotted.items()}


def imports() -> dict[str, set[str]]:
    """The modules of ours that each imports, wherever it does."""
    known = modules()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                origin = _origin(node, name, path)
                inside = {f"{origin}.{alias.name}" for alias in node.names}
                names |= {module if module in known else origin for module in inside}
        found[name] = names & known.keys() - {name}
    return found


def _origin(node: ast.ImportFrom, name: str, path: Path) -> str:
    """The module that `node` imports from. Imports inside the analysis are relative, all others absolute.

    Installed, the analysis has another name.
    """
    inside = name.partition(".")[0] == "analysis"
    assert bool(node.level) or not (node.module or "").startswith("analysis"), f"{path}: absolute"
    if not node.level:
        assert node.module is not None
        return node.module
    assert inside, f"{path} has a relative import"
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def level(module: str) -> int:
    places = {name: number for number, names in enumerate(LEVELS) for name in names}
    return places[max((p for p in places if f"{module}.".startswith(f"{p}.")), key=len)]


def test_no_import_runs_upwards() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in others
        if level(other) > level(name)
    ]
    assert upwards == []
