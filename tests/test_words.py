"""Words of a command line: read the same everywhere, or refused by name."""

import random
import string

import pytest

from simclr_ablate.config import ConfigError
from simclr_ablate.manner import is_quiet
from simclr_ablate.words import Parser, Values, Vocabulary

WORDS = Vocabulary({"store": Values.FOLDER, "state": ("failed",)}, alone=("retry", "clean"))


@pytest.fixture(autouse=True)
def _loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMCLR_ABLATE_QUIET", raising=False)
    monkeypatch.delenv("SIMCLR_ABLATE_JSON", raising=False)


def test_words_are_read_in_any_order_and_values_as_they_are() -> None:
    draw = random.Random()
    values = ["".join(draw.choices(string.printable, k=8)) for _ in range(2)]
    words = [f"store={values[0]}", "retry", f"state={values[1]}", "./a=b"]
    expected = {"store": values[0], "state": values[1]}
    for _ in range(10):
        draw.shuffle(words)
        alone, given = WORDS.read(words)
        assert (sorted(alone), given) == (["./a=b", "retry"], expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stor=x"], "unknown key stor; did you mean store? (accepted: store, state)"),
        (["a.b=x"], "unknown key a.b (accepted: store, state)"),
        (["store="], "store must have a value, got store="),
        (["store=a", "retry", "store=b"], "store is given twice, as 'a' and 'b'"),
    ],
)
def test_what_is_wrong_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        WORDS.read(words)
    assert str(refused.value) == message


def test_options_may_stand_between_words(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("status", "[WORD]", None)
    parser.add_argument("--json", action="store_true")
    for arguments in (
        ["--json", "a", "b=c", "--quiet"],
        ["a", "--quiet", "b=c", "--json"],
        ["--quiet", "--json", "a", "b=c"],
    ):
        options = parser.read(arguments)
        assert (options.words, options.json, is_quiet()) == (["a", "b=c"], True, True)
    assert not parser.read(["a"]).quiet
    assert not is_quiet(), "the manner is that of the last command"
    with pytest.raises(SystemExit) as ended:
        parser.read(["--jsn"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --jsn\n"
