"""Signals: noted inside a loop, answered at once elsewhere."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from simclr_ablate.stopping import Interrupted, StopSignal, held_back, terminable


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_a_terminal_asks_to_stop_as_sigterm_does(number) -> None:
    with StopSignal() as stop:
        send(number)
        assert stop()
        assert stop.reason() == f"stopped by {number.name}"


def test_what_comes_while_signals_are_held_back_is_heard_afterwards() -> None:
    with held_back():
        signal.pthread_kill(
            threading.get_ident(), signal.SIGTERM
        )  # threads of other tests hear the rest
        with StopSignal() as stop:
            assert stop()


def test_a_command_stops_at_the_first_of_many_signals() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with terminable():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGHUP)
        send(signal.SIGHUP)
        send(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) == before


ORPHAN = """
import os, time
from simclr_ablate.stopping import end_with_parent
if os.fork() == 0:
    end_with_parent()
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_process_ends_with_its_parent_wherever_it_is() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    orphan = int(parent.stdout.readline())
    parent.kill()
    begin = time.monotonic()
    assert parent.stdout.read() == "", "both ends of the pipe are closed"
    assert time.monotonic() - begin < 30
    parent.wait()
    assert orphan != parent.pid


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminable(), StopSignal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
