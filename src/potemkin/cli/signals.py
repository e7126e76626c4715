"""Ctrl-C and SIGTERM: the first ends what runs in good order, the next one aborts."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(stopping: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM raise KeyboardInterrupt while this lasts; `stopping` is called at the first one.

    A signal that is ignored (`nohup`, a job in the background) stays ignored.
    """
    came = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            stopping()
        raise KeyboardInterrupt

    with _handled(interrupt):
        yield


@contextmanager
def stoppable(stopping: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """The first SIGINT or SIGTERM only asks: yields whether it has; the second raises KeyboardInterrupt."""
    came, here = False, os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if os.getpid() != here:  # a process that reads ahead: Ctrl-C reaches it, too, but the main one decides
            return
        if came:
            raise KeyboardInterrupt
        came = True
        stopping()

    with _handled(interrupt):
        yield lambda: came


@contextmanager
def _handled(interrupt: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
