"""Signals: the first stops, the next aborts; what must stay whole is never cut; nothing is left installed."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from potemkin.cli.signals import interruptible
from potemkin.evaluate.interrupts import uninterrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """SIGINT as Python has it (a test run in the background of a shell ignores it), and all as before afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_both_signals_interrupt_and_the_first_is_told(number: signal.Signals) -> None:
    told: list[str] = []
    before = [signal.getsignal(n) for n in SIGNALS]
    with interruptible(lambda: told.append("stopping")):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    assert told == ["stopping"]
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible(lambda: pytest.fail("it is ignored")):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_what_must_stay_whole_is_finished_first() -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt), interruptible(lambda: steps.append("stopping")):
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            steps.append("finished")
        steps.append("never")
    assert steps == ["finished", "stopping"]


def test_an_error_inside_goes_before_the_signal() -> None:
    with pytest.raises(ValueError), interruptible(lambda: None), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_left_alone() -> None:
    before = [signal.getsignal(n) for n in SIGNALS]
    seen: list[bool] = []

    def work() -> None:
        with interruptible(lambda: None), uninterrupted():
            seen.append([signal.getsignal(n) for n in SIGNALS] == before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
