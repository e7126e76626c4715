"""Ctrl-C may come at any moment; what has to stay whole puts it off until it is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM while this lasts; one that came is handled at the end, as it would have been,
    unless the body raises: that ends the run by itself.

    Outside of the main thread, where Python never handles signals, nothing is done; nor for a signal that ends the
    process without asking Python (SIGTERM by default).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in _SIGNALS if callable(handler := signal.getsignal(number))}
    came: list[tuple[int, FrameType | None]] = []
    for number in handlers:
        signal.signal(number, lambda sent, frame: came.append((sent, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for sent, frame in came[:1]:
        handlers[signal.Signals(sent)](sent, frame)
