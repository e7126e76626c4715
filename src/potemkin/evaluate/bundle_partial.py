"""Where a bundle grows: a folder of the run's own inside the bundle's, so that no run touches another's.

`.potemkin-partial-PID-…` holds a lock as long as its run lives. What a killed run left behind has none, and is removed
by the next run; where the file system cannot tell the two apart, nothing is removed and the user is told its name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from potemkin.core.files import explained
from potemkin.errors import BundleError
from potemkin.evaluate.bundle_read import PARTIAL, RECORD
from potemkin.evaluate.locks import alone, hold, state

LOCK = ".potemkin-lock"
"""In the bundle's folder while somebody begins there or moves a bundle into place; in a partial folder, its life."""
INSTEAD = "give another --out"
"""What the user can do where the folder cannot be written."""


class Partial:
    """The unfinished bundle of one run.

    BundleError at construction where the folder holds something else, a bundle and not `overwrite`, or another run that
    is under way and not `overwrite`. With it, runs go on side by side and the bundle of the last to finish stays.
    """

    def __init__(self, folder: Path, overwrite: bool) -> None:
        _refuse_foreign(folder)
        self.folder = folder
        self._made = not folder.exists()
        with explained(folder, INSTEAD), alone(folder / LOCK):
            _refuse_foreign(folder)
            _make_way(folder, overwrite)
            self.path = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}-{os.getpid()}-", dir=folder))
            try:
                self._life = hold(self.path / LOCK)
            except BaseException:
                shutil.rmtree(self.path, ignore_errors=True)
                raise

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Nobody else begins or ends in the folder while this lasts; then the partial folder is gone."""
        with alone(self.folder / LOCK):
            try:
                yield
            finally:
                self._life.close()
                shutil.rmtree(self.path, ignore_errors=True)

    def abandon(self) -> None:
        """Remove it, and the bundle's folder, too, if it was made for this run and holds nothing else."""
        if self.path.exists():
            with suppress(OSError), self.ending():
                pass
        if self._made:
            with suppress(OSError):
                self.folder.rmdir()


def refuse_folder(folder: Path, overwrite: bool) -> None:
    """BundleError where a run could not write there: said before anything is loaded."""
    _refuse_foreign(folder)
    _refuse_finished(folder, overwrite)


def _refuse_finished(folder: Path, overwrite: bool) -> None:
    if (folder / RECORD).exists() and not overwrite:
        raise BundleError(f"{folder} already holds a bundle. Give another --out, or --overwrite to replace it.")


def _refuse_foreign(folder: Path) -> None:
    if "\0" in str(folder):
        raise BundleError(f"{str(folder)!r} has a zero byte in it, which no name of a folder can. Give another --out.")
    with explained(folder, INSTEAD):  # a name that is too long, a folder that may not be read
        _refuse_lost(folder)
        if not folder.exists():
            return
        if not folder.is_dir():
            raise BundleError(f"{folder} is a file; the bundle needs a folder. Give another --out.")
        names = {item.name for item in folder.iterdir()} - {LOCK}
    if names and RECORD not in names and not any(name.startswith(f"{PARTIAL}-") for name in names):
        raise BundleError(
            f"{folder} is not empty and holds no {RECORD}: it is not a bundle, and it is left alone. "
            "Give another --out, a new or empty folder."
        )


def _refuse_lost(folder: Path) -> None:
    """BundleError for a link that leads nowhere, there or above: no folder can be made in its place or below it."""
    for path in (folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            raise BundleError(
                f"{path} is a symbolic link to {os.readlink(path)}, which does not exist or leads back to the link. "
                "Remove the link, make the folder that it names, or give another --out."
            )


def _make_way(folder: Path, overwrite: bool) -> None:
    """Remove what killed runs left behind; refuse what may not be replaced."""
    _refuse_finished(folder, overwrite)
    for other in sorted(folder.glob(f"{PARTIAL}-*")):
        life = state(other / LOCK)
        if life == "unknown":
            raise BundleError(
                f"{other} may belong to a run that is still writing, or was left behind by one that was killed: this "
                "file system cannot tell. Remove it if no run is writing there, or give another --out."
            )
        if life == "free":
            shutil.rmtree(other, ignore_errors=True)
        elif not overwrite:
            raise BundleError(
                f"{folder} is being written to by another run. Give another --out, or --overwrite to write all the "
                "same: then the bundle of the run that ends last stays."
            )
