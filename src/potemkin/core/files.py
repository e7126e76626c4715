"""Writing files: whole or not at all, and what goes wrong told in the user's words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from potemkin.errors import BundleError


def sha256(data: bytes) -> str:
    """The fingerprint of some bytes, as it is written everywhere.

    >>> sha256(b"")[:15]
    'sha256:e3b0c442'
    """
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextmanager
def explained(path: Path, instead: str = "") -> Iterator[None]:
    """A full disk or a folder without permission is the user's to mend: a BundleError that says so.

    `instead` is what else they can do, where there is something: "give another --out".
    """
    try:
        yield
    except OSError as problem:
        otherwise = f", or {instead}" if instead else ""
        raise BundleError(
            f"{path} cannot be written ({problem.strerror or problem}). Check the disk space and the "
            f"permissions{otherwise}."
        ) from problem


def write_whole(path: Path, content: str | bytes, instead: str = "") -> None:
    """Write a file beside its place and move it there, so that nobody ever reads half of it; makes the folder."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with explained(path, instead):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content.encode() if isinstance(content, str) else content)
            os.replace(unfinished, path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
