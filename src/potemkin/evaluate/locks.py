"""Locks between processes that write into one folder: files that the system unlocks when their process dies.

Where there are no such locks (Windows, some network file systems) nothing waits and `state` says "unknown".
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from potemkin.errors import BundleError

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
        with _open(path, os.O_RDONLY) as file:
            locked = _lock(file, wait=False)
    except (OSError, BundleError):
        return "unknown"
    return "unknown" if locked is None else "free" if locked else "held"


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process is inside. The file exists only that long; its folder is made if it is missing.

    BundleError where something else than a file has its name: a pipe would keep us waiting for ever.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open(path, os.O_RDWR | os.O_CREAT)
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


def _open(path: Path, flags: int) -> BinaryIO:
    """The regular file at that path, and nothing else: no pipe, no device, no link to somebody's file."""
    # Not every system has these; without O_NONBLOCK, opening a pipe waits for somebody at its other end.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        number = os.open(path, flags, 0o666)
    except OSError:
        _refuse_irregular(path)
        raise
    file = os.fdopen(number, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "r+b", buffering=0)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        file.close()
        _refuse_irregular(path)
    return file


def _refuse_irregular(path: Path) -> None:
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise BundleError(
            f"{path} is no ordinary file, but a pipe, a folder, a link or a device where a lock belongs. Remove it, or "
            "give another --out."
        )


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
