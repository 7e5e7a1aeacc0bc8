"""Pages of the documentation site that are made from the code: the start, the keys, the artefacts, the changes.

MkDocs calls `on_files` when it builds the site (`make docs`).
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from analysis.artefacts import ARTEFACTS, LABEL, Artefact  # noqa: E402
from simclr_ablate.config import KeyInfo, flatten, keys, told_conditions  # noqa: E402
from simclr_ablate.paths import config_folder  # noqa: E402
from simclr_ablate.plan.keys import CommandKeys, launcher_keys  # noqa: E402
from simclr_ablate.run import register  # noqa: E402
from simclr_ablate.schema import Experiment  # noqa: E402

SECTIONS = {
    "": "Of the whole run",
    "data": "Images",
    "views": "Views",
    "encoder": "The encoder f",
    "head": "The projection head g",
    "loss": "The loss",
    "optimizer": "The optimiser and its schedule",
    "evaluation": "Evaluation",
    "compute": "Devices and threads",
    "tracker": "Metrics of steps, and trackers",
    "launcher": "Launchers",
    "command": "Of the command",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = draw_those_without_runs(Path(folder))
        drawn = {f"artefacts/{path.name}": path.read_bytes() for path in pictures}
    pages = {
        "index.md": of_the_readme("README.md"),
        "changelog.md": of_the_readme("CHANGELOG.md"),
        "keys.md": keys_page(),
        "artefacts.md": artefacts_page({Path(name).stem: name for name in drawn}),
    }
    for name, content in {**pages, **drawn}.items():
        files.append(File.generated(config, name, content=content))
    return files


def of_the_readme(name: str) -> str:
    """A page that lies at the top of the repository, with links as from `docs`."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](", text).replace("](CHANGELOG.md)", "](changelog.md)")


def keys_page() -> str:
    """Every key, from the schema, with its value where a command says nothing else."""
    with initialize_config_dir(version_base="1.3", config_dir=str(config_folder("conf"))):
        register()
        config = OmegaConf.to_container(compose("config"), resolve=True)
    assert isinstance(config, dict)
    usual = flatten({str(name): value for name, value in config.items()})
    by_section: dict[str, list[KeyInfo]] = {name: [] for name in SECTIONS}
    for info in keys(Experiment):
        section = info.name.partition(".")[0] if "." in info.name else ""
        by_section[section].append(info)
    by_section["launcher"] = launcher_keys()
    by_section["command"] = list(keys(CommandKeys))
    return "\n".join(_keys_lines(by_section, usual))


def _keys_lines(by_section: dict[str, list[KeyInfo]], usual: dict[str, object]) -> Iterator[str]:
    yield "# Every key"
    yield ""
    yield (
        "A key is set as `key=value`, or swept as `key=a,b` with `-m`. *Default* is its value when a command says "
        "nothing else, at `scale=laptop`. A key counts only where it is used: elsewhere its value changes no result."
    )
    for section, infos in by_section.items():
        yield f"\n## {SECTIONS[section]}\n"
        common = {_section_of(info) for info in infos}
        together = common.pop() if len(common) == 1 else ""
        if together:
            yield f"These keys count with {together}.\n"
        yield "| key | default | meaning | accepted |"
        yield "|---|---|---|---|"
        for info in infos:
            default = f"`{_spelled(usual[info.name])}`" if info.name in usual else ""
            alone = "" if _section_of(info) == together else _section_of(info)
            conditions = "; ".join(filter(None, [alone, told_conditions(info.when)]))
            counts = f" Counts with {conditions}." if conditions else ""
            accepted = "; ".join(filter(None, [info.type, info.accepted]))
            cells = [f"`{info.name}`", default, f"{info.doc}.{counts}", accepted]
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _section_of(info: KeyInfo) -> str:
    """When the sections around a key count, in words."""
    return "; ".join(map(told_conditions, info.section))


def _spelled(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value)


def draw_those_without_runs(folder: Path) -> list[Path]:
    """The pictures of artefacts that need no runs, drawn into `folder`."""
    names = [artefact.name for artefact in ARTEFACTS.values() if artefact.sweep is None]
    nowhere = folder / "runs"
    nowhere.mkdir()
    command = [sys.executable, "-m", "analysis", *names, f"store={nowhere}", f"out={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.glob("*.png"))


def artefacts_page(drawn: Mapping[str, str]) -> str:
    """Every table and figure: what makes it, and how it came out on CIFAR-10 or the embedded images.

    drawn: the pictures of those that need no runs, by the names of their files.
    """
    return "\n".join(
        [
            "# Every table and figure",
            "",
            "Pictures show ours beside the paper's, where the paper prints numbers. [What came out](results/README.md) "
            "says on which images, with how many seeds, and by which version.",
            *(
                line
                for artefact in sorted(ARTEFACTS.values(), key=_place_in_the_paper)
                for line in _artefact_lines(artefact, drawn)
            ),
        ]
    )


def _place_in_the_paper(artefact: Artefact) -> tuple[str, str, int]:
    """Figures and tables of the text first, then those of each appendix, by their numbers."""
    label = LABEL.fullmatch(artefact.name)
    assert label is not None
    kind, appendix, number = label.groups()
    return appendix, kind, int(number or 0)


def _artefact_lines(artefact: Artefact, drawn: Mapping[str, str]) -> Iterator[str]:
    title = artefact.title[:1].upper() + artefact.title[1:]
    yield f"\n## {artefact.label}: {title}\n"
    if artefact.sweep:
        yield f"    simclr-ablate -m sweep={artefact.sweep}"
    yield f"    simclr-ablate analyse {artefact.name}\n"
    picture = _picture(artefact, drawn)
    if picture is not None:
        yield f"![{artefact.label}]({picture})\n"


def _picture(artefact: Artefact, drawn: Mapping[str, str]) -> str | None:
    """The link to a picture of it; None if nobody has made its runs."""
    docs = ROOT / "docs"
    folders = ("cifar10", "shapes", "cifar10_0.1.0", "shapes_0.1.0")
    found = [
        path.relative_to(docs).as_posix()
        for folder in folders
        for path in sorted((docs / "results" / folder).glob(f"{artefact.name.lower()}-*.png"))
    ]
    of_images = (
        link for name, link in drawn.items() if name.split("-")[0] == artefact.name.lower()
    )
    return next(iter(found), None) or next(of_images, None)
