"""The images that pictures of views show: test images of the runs' data sets, or embedded ones if there are none.

What is computed of them is kept in the cache, since it needs torch.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simclr_ablate.config import is_own
from simclr_ablate.paths import default_cache
from simclr_ablate.schema import KEYS, SHAPES_SIDE, SHAPES_VERSION
from simclr_ablate.store import Run
from simclr_ablate.terminal import printable

from .artefacts import Artefact
from .cache import Arrays, kept_under
from .drawing import style
from .report import LeftOut, Report
from .settings import Setting, settings

if TYPE_CHECKING:
    from torch import Tensor

    from simclr_ablate.schema import Data

EMBEDDED = "shapes"
OPERATIONS = "simclr_ablate.augment"
_SAME_IMAGES = ["data.name", "data.size", "data.fingerprint", "data.version"]


@dataclass(frozen=True)
class Source:
    """One data set's test images.

    name: that of the report's files. label: what the data set is called. size: the side of its images, pixels. seed:
    that of all draws. setting: the runs that have these images; None for embedded images without runs.
    """

    name: str
    label: str
    size: int
    seed: int
    setting: Setting | None = None

    @property
    def data(self) -> "Data | None":
        """The config of the data; None for embedded images."""
        if self.setting is None or self.setting.config["data.name"] == EMBEDDED:
            return None
        from simclr_ablate.schema import Experiment

        run = Run(Path(self.setting.runs["path"].iloc[0]))
        return Experiment.from_config(run.config()).data

    @property
    def version(self) -> int:
        """That of embedded images."""
        return SHAPES_VERSION if self.setting is None else self.setting.config["data.version"]

    def images(self, most: int) -> "Tensor":
        """At most `most` test images in random order, uint8 (N, 3, S, S). Embedded ones are drawn anew.

        Raises ValueError if they have changed since the run, are not at hand, or come from code of the user's.
        """
        import torch

        from simclr_ablate.cores import available_cores
        from simclr_ablate.data.shapes import make_shapes
        from simclr_ablate.data.splits import open_data
        from simclr_ablate.randomness import generator

        data = self.data
        if data is None:
            if self.version != SHAPES_VERSION:
                raise ValueError(
                    f"version {self.version} of the embedded images is no longer drawn"
                )
            # Ten or more, so that the first ones are of random classes.
            return make_shapes(max(most, 20), self.seed, "test")[0][:most]
        check_images(data)
        if not data.is_folder:
            check_downloaded(data)
        test = open_data(data, Path(default_cache()), available_cores()).test
        rows = torch.randperm(len(test), generator=generator(self.seed, "analysis/images"))[:most]
        return torch.cat([images for images, _ in test.subset(rows).batches(256)])

    @property
    def stamp(self) -> str:
        """What tells these images from others."""
        if self.setting is None or self.setting.config["data.name"] == EMBEDDED:
            return f"{EMBEDDED} {self.version} {self.size} {self.seed}"
        name, fingerprint = (self.setting.config[f"data.{key}"] for key in ("name", "fingerprint"))
        root = self.setting.runs["data.root"].iloc[0]
        return f"{name} {fingerprint} {root} {self.size} {self.seed}"


def report_on_images(
    artefact: Artefact,
    runs: pd.DataFrame,
    compute: Callable[[Source], Arrays],
    report: Callable[[Source, Arrays], Report],
) -> list[Report | LeftOut]:
    """One report for each data set among `runs` whose images are at hand, or one on embedded images if there is none.

    compute: what needs torch. It is kept in the cache until its module or an operation changes.
    """
    made: list[Report | LeftOut] = []
    for source in sources(artefact, runs):
        try:
            arrays = kept_of_images(source, compute)
        except (OSError, ValueError, RuntimeError) as error:
            made.append(LeftOut(source.label, printable(str(error))))
        else:
            made.append(report(source, arrays))
    if not any(isinstance(each, Report) for each in made):
        source = embedded(artefact)
        made.append(report(source, kept_of_images(source, compute)))
    return made


def illustrated(
    artefact: Artefact, source: Source, caption: str, draw: Callable[[str], Figure], **rest: Any
) -> Report:
    """The report of an artefact on a data set's images. draw: draws the picture above a caption. rest: other fields."""
    with style():
        figure = draw(caption)
    return Report(
        name=source.name,
        title=f"{artefact.label} on {source.label}",
        caption=caption,
        figure=figure,
        setting=source.setting,
        **rest,
    )


def sources(artefact: Artefact, runs: pd.DataFrame) -> list[Source]:
    """The data sets among `runs`, each once, whatever its labels and however it is split."""
    if runs.empty:
        return []
    order = ["data.seed", "data.label", "run_id"]
    first = runs.sort_values(order).drop_duplicates([*_SAME_IMAGES, "data.root"])
    # Where a folder has several copies, prefer one that is still there.
    gone = [isinstance(root, str) and not Path(root).is_dir() for root in first["data.root"]]
    first = first.assign(gone=gone).sort_values("gone", kind="stable").drop_duplicates(_SAME_IMAGES)
    groups = dict.fromkeys(key.name.partition(".")[0] for key in KEYS)
    free = [group for group in groups if group != "data"]
    return [
        Source(
            setting.name,
            setting.label,
            int(setting.config["data.size"]),
            int(setting.config["data.seed"]),
            setting,
        )
        for setting in settings(first, artefact.name, free)
    ]


def embedded(artefact: Artefact) -> Source:
    """The embedded images."""
    return Source(f"{artefact.name.lower()}-{EMBEDDED}", EMBEDDED, SHAPES_SIDE, 0)


def check_images(data: "Data") -> None:
    """Raises ValueError if the run's images cannot be opened, or have changed."""
    from simclr_ablate.data.kept_listing import fingerprint_streamed

    if is_own(data.name):
        raise ValueError(f"the images of {data.name} come from code that the analysis does not run")
    if data.is_streamed and data.root is not None:  # other folders are opened by their fingerprint
        images = fingerprint_streamed(data.root, data.on_error, Path(default_cache()))
        if data.fingerprint not in (None, images):
            raise ValueError(f"the images in {data.root} have changed since the run")


def check_downloaded(data: "Data") -> None:
    """Raises ValueError if the images would have to be downloaded: a picture is not worth that."""
    folder = Path(default_cache()) / "downloads" if data.root is None else Path(data.root)
    if not folder.is_dir():
        raise ValueError(f"the images of {data.name} are not at hand: {folder} does not exist")


def to_bytes(views: "Tensor") -> NDArray[np.uint8]:
    """Views in [0, 1] as images of 8 bits."""
    rounded: NDArray[np.uint8] = (255 * views).round().byte().numpy()
    return rounded


def kept_of_images(source: Source, compute: Callable[[Source], Arrays]) -> Arrays:
    """What `compute` makes of the images, from the cache if it has it: see `report_on_images`."""
    code = Path(inspect.getfile(compute)).read_text(encoding="utf-8")
    stamp = f"{source.stamp} {code} {_operations()}"
    return kept_under(f"{compute.__name__}-{source.name}", stamp, lambda: compute(source))


@cache
def _operations() -> str:
    """The code of this module and of all operations."""
    spec = find_spec(OPERATIONS)
    assert spec is not None
    assert spec.origin is not None
    paths = [Path(__file__), *sorted(Path(spec.origin).parent.glob("*.py"))]
    return "".join(path.read_text(encoding="utf-8") for path in paths)
