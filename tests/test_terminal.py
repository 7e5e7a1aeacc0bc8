"""Text reaches terminals of any encoding without effects, and output nobody reads ends nothing."""

import os
import pty
import random
import subprocess
import sys
import unicodedata

import pytest

from simclr_ablate.terminal import printable

SAY = "import sys; from simclr_ablate import terminal; terminal.prepare(); "


def test_what_is_printable_has_no_effect_on_a_terminal():
    draw = random.Random()
    for _ in range(200):
        text = "".join(chr(draw.randrange(0x110000)) for _ in range(50))
        shown = printable(text)
        kinds = {unicodedata.category(c) for c in shown if c not in "\u200c\u200d"}
        assert kinds.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})
        shown.encode()
        assert len(shown.splitlines()) == 1
        assert printable(shown) == shown


@pytest.mark.parametrize("text", ["shapes", "a b", "ünï 猫 😀", "$5 [red] \\", "שלום", "क्‍ष"])
def test_plain_text_stays(text):
    assert printable(text) == text


def test_what_has_an_effect_is_spelt():
    assert printable("a\x1b[31m\n\u2028\u202e\udcff\t") == "a\\x1b[31m\\n\\u2028\\u202e\\udcff\\t"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "Spearman’s ρ ± 3 猫"),
        ("latin-1", "Spearman's rho ± 3 \\u732b"),
        ("ascii", "Spearman's rho +- 3 \\u732b"),
        ("cp1252", "Spearman’s rho ± 3 \\u732b"),
    ],
)
def test_a_character_that_is_not_there_is_spelt_with_others(encoding, said):
    code = SAY + "print('Spearman’s ρ ± 3 猫'); print('Spearman’s ρ ± 3 猫', file=sys.stderr)"
    command = [sys.executable, "-X", "utf8=0", "-c", code]
    done = subprocess.run(command, capture_output=True, env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding) == done.stderr.decode(encoding) == said + "\n"


@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
def test_work_goes_on_when_nobody_reads(tmp_path, unbuffered):
    file = tmp_path / "done"
    code = SAY + f"[print('x' * 99) for _ in range(9999)]; open({str(file)!r}, 'w').close()"
    command = [sys.executable, *unbuffered, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    assert file.exists()


def test_work_goes_on_when_the_terminal_is_closed(tmp_path):
    """What it prints then, and what Python still has to print as it ends, is dropped: the status is its own."""
    file = tmp_path / "done"
    ours, theirs = pty.openpty()
    code = SAY + f"sys.stdin.read(1); print('x'); open({str(file)!r}, 'w').close(); print('y')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.close(ours)
    process.communicate(b"x", timeout=60)
    assert process.returncode == 0
    assert file.exists()


def test_all_that_was_printed_arrives():
    code = "print('before'); " + SAY + "print('after', end=''); sys.stderr.write('wrong')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("before\nafter", "wrong")


def test_brackets_are_text_on_a_console():
    code = (
        "from simclr_ablate.terminal import make_console; from rich.table import Table\n"
        "table = Table('[red]x'); table.add_row('[/red] :cat:')\n"
        "make_console().print('[red]a[/red] [/b]', table)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for text in ("[red]a[/red] [/b]", "[red]x", "[/red] :cat:"):
        assert text in done.stdout
