"""What users call their data sets, classes and folders is text in every file, read back by parsers of others."""

import csv
import re
import subprocess
import warnings

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from markdown_it import MarkdownIt
from matplotlib.text import Text
from PIL import Image

import analysis
from analysis import processes
from analysis.__main__ import main
from analysis.artefacts import ARTEFACTS
from analysis.drawing import save, shortened
from analysis.report import write
from analysis.settings import LONGEST, shown
from analysis.writing import write_artefact
from simclr_ablate.overrides import override
from simclr_ablate.store import Store
from tests.analysis.test_page import tree
from tests.analysis.test_typesetting import check_latex

pytestmark = pytest.mark.slow

NAMES = [
    # What counts at the beginning of a text alone,
    *("_hidden $5_to_$10", "=1+1 $a^b$", "@SUM(1) \\input{x}", "- list a", "1. one", "+Color", "-0.26", "--- x"),
    # and anywhere.
    *('<script>alert(1)</script> " onload="alert(1)', "&amp; ~^%#{} 'q\"uotes", "a|b", "A-B", "`tick``s`"),
    *("[red]x[/red] *a* **b** ![c](d) \x1b[31mred", "😀 猫 שלום \u202eabc ünïcödé ß", "new\nline\u2028x \udcff byte\\"),
    "x y" * 300,
]  # fmt: skip
FORMULA = re.compile(r"[=+\-@\t\r]")


@pytest.fixture(scope="module")
def store(tmp_path_factory, make):
    store = tmp_path_factory.mktemp("names") / "a `store` of $names"
    for name in NAMES:
        run_ids = []
        for temperature in (0.1, 0.5):
            changes = {"data.label": name, "loss.temperature": temperature}
            run_ids.append(make.put(store, make.experiment(**changes), 50.0 + temperature).run_id)
        given = ["sweep=temperature", override("data.label", name)]
        Store(store).record_sweep("temperature", run_ids, given)
    return store


@pytest.fixture(scope="module")
def out(store, tmp_path_factory):
    """What the whole analysis writes of data sets by these names, without a warning."""
    out = tmp_path_factory.mktemp("out")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(processes, "available_cores", lambda: 1)
        warnings.simplefilter("error")
        assert main([f"store={store}", f"out={out}"]) == 0
    return out


@pytest.fixture(scope="module")
def runs(store):
    return analysis.load(store)


def test_files_have_safe_names_of_their_own(out):
    for ending in ("png", "pdf", "csv", "md", "tex"):
        found = [path.name for path in out.glob(f"table5*.{ending}")]
        assert len(found) == len(NAMES)
        assert all(re.fullmatch(r"[a-z0-9.-]{1,120}", name) for name in found)


def test_no_cell_of_a_csv_is_a_formula(out):
    for path in out.glob("*.csv"):
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        assert len({len(row) for row in rows}) == 1
        for cell in (cell for row in rows for cell in row if FORMULA.match(cell)):
            float(cell)


def test_a_csv_has_the_names(out):
    with open(out / "claims.csv", encoding="utf-8", newline="") as file:
        labels = {row["label"] for row in csv.DictReader(file)}
    for name in map(shown, NAMES):
        formula = FORMULA.match(name) and name != "-0.26"
        assert (f"'{name}" if formula else name) in labels


def test_the_page_shows_the_names_and_carries_nothing_out(out):
    document = tree((out / "index.html").read_text(encoding="utf-8"))
    headings = [heading.text for heading in document.all("h3")]
    for name in map(shown, NAMES):
        assert f"Table 5 on {name}, ResNet-8, 6 epochs, batch size 256" in headings
    assert len(document.all("script")) == 1
    nodes = document.all(*{node.tag for node in every(document)})
    assert not [key for node in nodes for key in node.attributes if key.startswith("on")]
    ids = [node.attributes["id"] for node in nodes if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    targets = [node.attributes["href"] for node in document.all("a")]
    assert {target[1:] for target in targets if target.startswith("#")} <= set(ids)
    assert {target for target in targets if not target.startswith("#")} <= {
        path.name for path in out.iterdir()
    }


def every(node):
    for child in node.children:
        if not isinstance(child, str):
            yield child
            yield from every(child)


def plain(token):
    """An inline token's text, as a reader sees it."""
    return "".join(part.content for part in token.children if part.type != "softbreak")


def test_markdown_shows_the_names_and_keeps_its_tables(out):
    titles = []
    for path in out.glob("table5*.md"):
        tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
        kinds = [token.type for token in tokens]
        assert not {"html_block", "hr", "ordered_list_open", "blockquote_open", "fence"} & set(
            kinds
        )
        assert kinds.count("bullet_list_open") == 1
        assert kinds.count("table_open") == 2
        titles.append(plain(tokens[kinds.index("heading_open") + 1]))
        inside = [part for token in tokens for part in token.children or ()]
        kinds_inside = {part.type for part in inside} - {"text_special", "softbreak"}
        assert kinds_inside == {"text", "image", "code_inline"}
        (alt,) = [part.content for part in inside if part.type == "image"]
        assert len(alt) > 40
    assert sorted(titles) == sorted(
        f"Table 5 on {shown(name)}, ResNet-8, 6 epochs, batch size 256" for name in NAMES
    )


def test_commands_of_markdown_can_be_pasted(out, store):
    labels = set()
    for path in out.glob("table5*.md"):
        tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
        inside = [part for token in tokens for part in token.children or ()]
        make, draw = (part.content for part in inside if part.type == "code_inline")
        overrides = {
            parsed.key_or_group: parsed.value()
            for parsed in OverridesParser.create().parse_overrides(arguments(make)[1:])
        }
        labels.add(str(overrides["data.label"]))
        assert overrides["store"] == str(store)
        assert arguments(draw)[-1] == f"store={store}"
    assert labels == set(NAMES)


def arguments(command):
    """What a shell makes of a command that begins with simclr-ablate."""
    script = f"simclr-ablate() {{ printf '%s\\0' \"$@\"; }}; {command}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]


def test_latex_is_sound_and_compiles(out, compile_latex, tmp_path):
    texts = [path.read_text(encoding="utf-8") for path in out.glob("table5*.tex")]
    for text in texts:
        assert text.isascii()
        assert check_latex(text) == 2
    compile_latex(tmp_path, "booktabs,graphicx", "\\clearpage\n".join(sorted(texts)))


def test_latex_without_a_compiler_has_a_sound_structure(out):
    for path in out.glob("*.tex"):
        assert path.read_text(encoding="utf-8").isascii()


def test_a_name_in_a_picture_is_no_formula(tmp_path, make):
    widths = {}
    for name in ("aaaa", "$aaaa$"):
        make.put(tmp_path / name, make.pair("crop", "color", **{"data.label": name}), 50.0)
        (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path / name))
        (title,) = [t for t in report.figure.findobj(Text) if t.get_text() == f"Ours: {name}"]
        widths[name] = title.get_window_extent().width
    # A formula's dollar signs take no room.
    assert widths["$aaaa$"] > 1.2 * widths["aaaa"]


def test_every_artefact_takes_every_name_at_once(site, tmp_path):
    everything = "".join(name for name in NAMES if len(name) < 50)
    runs = analysis.load(site.parent / "runs").assign(**{"data.label": everything})
    drawn = 0
    for artefact in ARTEFACTS.values():
        outcome = write_artefact(artefact, tmp_path, runs)
        assert outcome.problem == ""
        drawn += len(outcome.written)
        for path in tmp_path.glob(f"{artefact.name.lower()}*.tex"):
            assert check_latex(path.read_text(encoding="utf-8")) >= 1
    assert drawn == len(list(site.glob("*.png")))


def test_classes_are_named_as_their_folders(tmp_path, make):
    names = [name for name in NAMES if "/" not in name and len(name) < 200]
    rng = np.random.default_rng()
    for split in ("train", "test"):
        for name in names:
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    told = set()
    for seed in range(4):  # of the choice of ten classes
        data = {"data.name": "image_folder", "data.root": str(tmp_path / "images"), "data.size": 8}
        experiment = make.experiment(
            **data, **{"data.validation": 4, "data.label": "x", "data.seed": seed}
        )
        store = tmp_path / f"runs{seed}"
        make.keep_weights(make.put(store, experiment, 50.0), experiment)
        (report,) = ARTEFACTS["figureB4"].reports(analysis.load(store))
        (legend,) = report.figure.legends
        texts = [text.get_text() for text in legend.get_texts()]
        assert sorted(texts) == sorted(set(report.data["class"]))
        assert len(legend.legend_handles) == len(texts) == 10
        told |= set(texts)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            write(report, tmp_path / "out")
    assert told <= set(map(shown, names))
    assert len(told) > 11


def test_what_the_font_does_not_have_is_told_apart(tmp_path, make):
    make.put(tmp_path, make.pair("crop", "color", **{"data.label": "猫 ü"}), 50.0)
    (report,) = ARTEFACTS["figure5"].reports(analysis.load(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(report.figure, tmp_path / "picture")
    assert "Ours: \\u732b ü" in [text.get_text() for text in report.figure.findobj(Text)]


@pytest.mark.parametrize("most", [5, 30, 200])
def test_long_names_keep_their_ends(most):
    name = "".join(map(chr, np.random.default_rng().integers(97, 123, 1000)))
    short = shortened(name, most)
    assert len(short) == most
    begin, end = short.split("…")
    assert name.startswith(begin)
    assert name.endswith(end)
    assert shortened(name[:most], most) == name[:most]
    assert len(shown(name)) == LONGEST
