"""One JSON file as the result of a verb: written whole or not at all, and never over something else."""

from __future__ import annotations

import os
from pathlib import Path

from potemkin.core.files import write_whole
from potemkin.errors import BundleError


def write_json(path: Path, text: str, overwrite: bool) -> None:
    """Write the text; BundleError where something is there already, or the place cannot be written."""
    refuse_taken(path, overwrite)
    write_whole(path, text + "\n", "give another --out")


def refuse_taken(path: Path, overwrite: bool) -> None:
    """Before anything is computed: BundleError where the file exists and may not be replaced."""
    if os.path.isdir(path):  # os.path: a name that no file can have is just not there, where Path raises
        raise BundleError(f"--out {path} is a folder; this verb writes one JSON file: give its path.")
    if os.path.exists(path) and not overwrite:
        raise BundleError(f"--out {path} exists already. Give another path, or --overwrite to replace it.")
