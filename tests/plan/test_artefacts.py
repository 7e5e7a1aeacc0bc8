"""Artefacts of the user's own are read and checked before any run starts: what is kept, and which line is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from simclr_ablate.artefact import Definition
from simclr_ablate.config import ConfigError
from simclr_ablate.plan.artefacts import Defined
from simclr_ablate.plan.grid import Composer, Grids, expand
from simclr_ablate.plan.sweeps import checked

GROUPS = {"data", "views", "encoder", "head", "loss", "optimizer", "evaluation"}
TEXT = """\
seeds: [0, 1]
grids:
  - loss.temperature: [0.1, 0.5, 1.0]
    optimizer.batch_size: [32, 64]
  - loss.temperature: 0.1
    optimizer.batch_size: 128
  - views: none
    objective: none
artefact:
  title: Temperature and batch size
  rows: loss.temperature
  columns: optimizer.batch_size
  labels: {0.1: low}
  reference: there.csv
  findings:
    - say: A low temperature is better at every batch size.
      higher: {loss.temperature: 0.1}
      than: {loss.temperature: 1.0}
      at_every: optimizer.batch_size
    - say: Small batches are as good as large ones.
      alike: [{optimizer.batch_size: 32}, {optimizer.batch_size: 64}]
      within: 1
"""
TABLE = "temperature,32,64\nlow,50.5,51\n0.50,49,\n1,,31e0\n"
Check = Callable[..., Definition]


@pytest.fixture
def check(compose_config, tmp_path: Path) -> Check:
    """`check(text, table)`: the artefact of a sweep with this YAML, beside a reference."""

    def build(text: str = TEXT, table: str = TABLE, given: tuple[str, ...] = ()) -> Definition:
        path = tmp_path / "my.yaml"
        path.write_text(text)
        (tmp_path / "there.csv").write_text(table)
        section = checked(OmegaConf.to_container(OmegaConf.load(path), resolve=True), "my.yaml")
        composer = Composer(compose_config, GROUPS.__contains__)
        defined = Defined.read(section, "my.yaml", path, given)
        experiments = expand(composer, Grids.from_config(section), {}, given)
        return defined.checked(experiments)

    return build


def test_places_are_those_of_the_sweep_in_its_order(check: Check) -> None:
    definition = check()
    assert definition.places == (
        *((((tau,), (size,))) for tau in (0.1, 0.5, 1.0) for size in (32, 64)),
        ((0.1,), (128,)),
    )


def test_a_reference_is_read_by_values_and_labels(check: Check) -> None:
    definition = check()
    assert definition.reference is not None
    assert definition.reference.cells == (
        ((0.1,), (32,), 50.5),
        ((0.1,), (64,), 51.0),
        ((0.5,), (32,), 49.0),
        ((1.0,), (64,), 31.0),
    )


def test_a_reference_may_have_several_keys_a_row(check: Check) -> None:
    text = TEXT.replace("rows: loss.temperature", "rows: [loss.temperature, optimizer.batch_size]")
    text = text.replace("  columns: optimizer.batch_size\n", "")
    definition = check(text, "temperature,size,top-1\nlow,32,50\n1,64,40\n")
    assert definition.reference is not None
    assert definition.reference.cells == (((0.1, 32), (), 50.0), ((1.0, 64), (), 40.0))


def wrong(check: Check, change: tuple[str, str], table: str = TABLE) -> str:
    assert change[0] in TEXT
    with pytest.raises(ConfigError) as error:
        check(TEXT.replace(*change, 1), table)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (
            ("  title:", "  titel:"),
            10,
            "sweep.artefact.titel is an unknown key; did you mean title?",
        ),
        (("  title: Temperature and batch size\n", ""), 9, "sweep.artefact.title is missing"),
        (
            ("rows: loss.temperature", "rows: [loss.temperature, views.blur]"),
            11,
            "keys that the sweep varies, got views.blur, which is always false",
        ),
        (
            ("rows: loss.temperature", "rows: [loss.temperature, loss.margin]"),
            11,
            "got loss.margin, which is always –",
        ),
        (("columns: optimizer", "columns: optimiser"), 12, "did you mean optimizer.batch_size?"),
        (("  labels", "  metric: top7\n  labels"), 13, "got 'top7'; did you mean top"),
        (("{loss.temperature: 1.0}", "{loss.temperature: 2}"), 18, "one of 0.1, 0.5, 1.0, got 2"),
        (
            ("at_every: optim", "at_every: optm"),
            19,
            "did you mean optimizer.batch_size?",
        ),
        (("{optimizer.batch_size: 64}", "{optimizer.batch_size: 65}"), 21, "32, 64, 128, got 65"),
        (("within", "wthin"), 22, "is an unknown key; did you mean within?"),
        (("{0.1: low}", "\n    0.1: low\n    true: ''"), 15, "labels.true must be text, got ''"),
        (("there.csv", "their.csv"), 14, "must be a CSV file, got 'their.csv': no such file"),
        (("  labels", "  kind: curve\n  labels"), 13, "did you mean curves?"),
        (
            ("{loss.temperature: 1.0}", "{loss.temperature: 1.0, optimizer.batch_size: 32}"),
            18,
            "must name loss.temperature, got loss.temperature, optimizer.batch_size",
        ),
        (
            (
                "      at_every: optimizer.batch_size\n",
                "      where: {optimizer.batch_size: 128}\n",
            ),
            16,
            "compares no cells of the sweep",
        ),
        (
            ("artefact:", "select: {}\nartefact:"),
            10,
            "cannot be defined by a sweep with select",
        ),
        (
            ("seeds:", "name: Figure5\nseeds:"),
            10,
            "a sweep called Figure5, which is a name of ours",
        ),
        (("seeds:", "name: temperature\nseeds:"), 10, "a sweep called temperature"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(check: Check, change, line, words) -> None:
    message = wrong(check, change)
    assert message.startswith(f"sweep=my.yaml, line {line}: sweep.artefact")
    assert words in message


@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        (TABLE.replace("64", "65"), 1, "must name a row or column of the sweep (32, 64, 128)"),
        (TABLE.replace("low", "lwo"), 2, "(0.1, 0.5, 1.0), got 'lwo'"),
        (TABLE.replace("51", "x"), 2, "must be numbers or empty, got 'x'"),
        (TABLE.replace("51", "nan"), 2, "must be numbers or empty, got 'nan'"),
        (TABLE.replace("49,", "49"), 3, "must have 3 cells, got 2"),
        (TABLE + "0.1,1,2\n", 5, "a cell is there twice"),
        (TABLE.replace("low,50.5", 'low,"50\n.5"'), 3, "must be numbers or empty"),
    ],
)
def test_a_wrong_reference_is_said_with_its_line(check: Check, table, line, words) -> None:
    with pytest.raises(ConfigError) as error:
        check(TEXT, table)
    assert f"there.csv, line {line}: " in str(error.value)
    assert words in str(error.value)


def test_an_empty_reference_is_refused(check: Check) -> None:
    with pytest.raises(ConfigError, match="a header and at least one row, got 1 lines"):
        check(TEXT, "temperature,32,64\n")


VARIED = "    optimizer.lr: [0.001, 0.002]\n  - loss.temperature: 0.1\n"


def test_a_cell_holds_one_experiment(check: Check) -> None:
    text = TEXT.replace("  - loss.temperature: 0.1\n", VARIED, 1)
    check(text)  # two tables
    free = text.replace("  labels", "  free: [optimizer.lr]\n  labels")
    with pytest.raises(ConfigError) as error:
        check(free)
    assert "line 14: sweep.artefact.free must not name optimizer.lr" in str(error.value)
    assert "runs of one cell differ in it: 0.001 and 0.002" in str(error.value)


TUNED = """\
grids:
  - optimizer.batch_size: 32
    optimizer.lr: 0.001
  - optimizer.batch_size: 64
    optimizer.lr: 0.002
artefact: {title: Tuned, rows: optimizer.batch_size}
"""


def test_a_key_that_goes_along_with_the_cells_has_to_be_free(check: Check) -> None:
    with pytest.raises(ConfigError, match=r"must have optimizer\.lr in free: it changes from cell"):
        check(TUNED)
    check(
        TUNED.replace(
            "rows: optimizer.batch_size", "rows: optimizer.batch_size, free: [optimizer.lr]"
        )
    )
    check(
        TUNED.replace("rows: optimizer.batch_size", "rows: optimizer.batch_size, free: [optimizer]")
    )


def test_what_the_command_line_narrows_is_checked_by_what_the_file_lists(check: Check) -> None:
    narrow = TEXT.replace("[0.1, 0.5, 1.0]", "0.1")
    with pytest.raises(ConfigError, match="must name keys that the sweep varies"):
        check(narrow)
    fixed = ("loss.temperature", "optimizer.batch_size")  # both at their defaults
    assert check(given=fixed).places == (((0.2,), (256,)),)
    with pytest.raises(ConfigError, match=r"one of 0\.2, 0\.1, 0\.5, 1\.0, got 2"):
        check(TEXT.replace("{loss.temperature: 1.0}", "{loss.temperature: 2}"), given=fixed)


def test_curves_go_over_few_numbers(check: Check) -> None:
    curves = TEXT.replace("  labels", "  kind: curves\n  labels")
    check(curves)
    with pytest.raises(
        ConfigError, match=r"must be a key with numbers with kind: curves, got head"
    ):
        check(
            "grids: [{head: [none, linear]}]\nartefact: {title: T, kind: curves, rows: head.kind}\n"
        )
    many = curves.replace("[32, 64]", "[32, 64, 65, 66, 67]")
    with pytest.raises(ConfigError, match="must take at most 5 values with kind: curves, got 6"):
        check(many)


PROTOCOL = """
from simclr_ablate.evaluation.protocol import Result

def measured(subject, frozen):
    return Result({"spread": 1.5, "depth": 2.0}, {})
"""


def test_a_key_need_only_have_numbers_where_a_finding_looks(check: Check) -> None:
    """The margin counts for one of the losses alone."""
    text = """\
grids:
  - loss: [nt_xent, nt_logistic]
    loss.temperature: [0.1, 0.5]
    loss.reduction: sum
  - loss: margin_triplet
    loss.margin: [0.1, 0.2]
artefact:
  title: Losses
  rows: loss.name
  columns: [loss.temperature, loss.margin]
  free: [loss]
  findings:
    - say: A large margin is better.
      rises_with: loss.margin
      WHERE
"""
    for where in ("", "where: {loss.name: margin_triplet}", "at_every: loss.name"):
        (statement,) = check(text.replace("WHERE", where)).findings
        assert statement.key == "loss.margin"
    words = text.replace("rises_with: loss.margin", "rises_with: loss.name")
    with pytest.raises(ConfigError, match=r"line 14: .*rises_with must be a key with numbers"):
        check(words.replace("WHERE", ""))


def test_a_metric_may_be_that_of_a_protocol_of_ones_own(check: Check, own_module) -> None:
    name = own_module(PROTOCOL)
    text = (
        f"grids: [{{evaluation.protocol: {name}:measured, loss.temperature: [0.1, 0.2]}}]\n"
        "artefact: {title: T, rows: loss.temperature, metric: depth}\n"
    )
    assert check(text).metric == "depth"
    with pytest.raises(ConfigError, match=r"must be one of spread, depth, pretraining\.loss"):
        check(text.replace("metric: depth", "metric: top1"))


def test_where_no_file_is_known_the_sweep_is_named(check: Check) -> None:
    section = {"name": "my", "artefact": {"title": "T", "rows": "loss.temp"}}
    with pytest.raises(ConfigError) as error:
        Defined.read(section, "my", None, ())
    assert str(error.value).startswith("sweep=my: sweep.artefact.rows must name keys")
