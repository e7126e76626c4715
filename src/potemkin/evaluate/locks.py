"""Locks between processes that write into one folder: files that the system unlocks when their process dies.

Where there are no such locks (Windows, some network file systems) nothing waits and `state` says "unknown".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

if sys.platform != "win32":
    import fcntl

State = Literal["held", "free", "unknown"]


def hold(path: Path) -> BinaryIO:
    """Create the file and lock it: the lock lasts until what is returned is closed, or the process dies."""
    file = path.open("xb")
    _lock(file, wait=False)
    return file


def state(path: Path) -> State:
    """Whether a living process holds the file's lock."""
    try:
        with path.open("rb") as file:
            locked = _lock(file, wait=False)
    except OSError:
        return "unknown"
    return "unknown" if locked is None else "free" if locked else "held"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process is inside. The file exists only that long; its folder is made if it is missing."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        locked = _lock(file, wait=True)
        if locked is None or _is(file, path):
            break
        file.close()
    try:
        yield
    finally:
        if locked:  # before it is let go of: whoever waited for it finds that it is gone, and asks again
            path.unlink(missing_ok=True)
        file.close()
        if not locked:
            with suppress(OSError):
                path.unlink()


def _lock(file: BinaryIO, wait: bool) -> bool | None:
    """Whether it is ours now; None where nobody can say."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is(file: BinaryIO, path: Path) -> bool:
    """Whether the open file still is the one at that path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
