"""Signals: noted inside a loop, answered at once elsewhere."""

import os
import signal

import pytest

from simclr_ablate.stopping import Interrupted, StopSignal


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def in_a_loop(stop: StopSignal) -> None:
    with stop.deferred():
        send(signal.SIGTERM)
        assert stop()
        assert stop.heard == signal.SIGTERM


def elsewhere(stop: StopSignal) -> None:
    with stop.at_once():
        send(signal.SIGTERM)
        raise AssertionError("it went on")


def test_in_a_loop_a_signal_is_only_noted() -> None:
    with StopSignal() as stop, pytest.raises(Interrupted), stop.at_once():
        in_a_loop(stop)


def test_elsewhere_it_interrupts_where_it_comes() -> None:
    with StopSignal() as stop:
        for _ in range(2):  # and at the beginning, where it came before
            with pytest.raises(Interrupted):
                elsewhere(stop)


def test_a_signal_to_save_is_told_once_and_stops_nothing() -> None:
    with StopSignal((signal.SIGUSR2,), save_on=(signal.SIGTERM,)) as stop, stop.at_once():
        send(signal.SIGTERM)
        assert not stop()
        assert (stop.take_save_request(), stop.take_save_request()) == (True, False)


def test_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with StopSignal((signal.SIGTERM, signal.SIGINT)):
        assert signal.getsignal(signal.SIGINT) != before[signal.SIGINT]
    assert {number: signal.getsignal(number) for number in before} == before


def test_ctrl_c_is_the_launchers_business() -> None:
    with StopSignal() as stop, stop.at_once():
        send(signal.SIGINT)
        assert not stop()
