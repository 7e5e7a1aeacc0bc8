"""Progress away from a terminal: plain lines, at most ten of them."""

import logging

from simclr_ablate.data.progress import reporting, show_progress


def test_plain_lines_away_from_a_terminal(caplog, capsys) -> None:
    with caplog.at_level(logging.INFO), show_progress("reading", 1_000) as advance:
        for _ in range(1_000):
            advance(1)
    assert len(caplog.messages) == 10
    assert caplog.messages[-1] == "reading: 1000 of 1000"
    assert "\x1b" not in capsys.readouterr().err


def test_plain_lines_where_nobody_keeps_a_log(capsys, caplog) -> None:
    # As before a run's log is opened, whatever was opened in this process before.
    with caplog.at_level(logging.WARNING), show_progress("reading [a]", 1_000) as advance:
        for _ in range(1_000):
            advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "reading [a]: 1000 of 1000"


def test_a_bar_on_a_terminal(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with show_progress("reading", 4) as advance:
        advance(4)
    shown = capsys.readouterr().err
    assert "reading" in shown
    assert "4/4" in shown


def test_reports_go_to_whoever_asked(capsys) -> None:
    seen = []
    with reporting(lambda *what: seen.append(what)), show_progress("reading", 300) as advance:
        for _ in range(3):
            advance(100)
    assert seen[0] == ("reading", 0, 300)
    assert seen[-1] == ("reading", 300, 300)
    assert "reading" not in capsys.readouterr().err
