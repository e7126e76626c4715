"""What to run after a training run: an audit stronger than its own, as a command line and as Python."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from potemkin.training.journal import AUDIT, Journal, RunInfo

STRONGER = ("pgd(steps=100, restarts=5)", "apgd(restarts=5)", "apgd(objective=DLR(), targets=9, restarts=2)")
"""The audit at the end runs APGD once per objective; these start several times, with other random draws."""
UNKNOWN = "TEST_DATA"


def named(info: RunInfo) -> bool:
    """Whether the network was named, so that a command can bring it again; a Python object cannot be."""
    return info.model.spec is not None


def test_data(info: RunInfo) -> str | None:
    """What the run was audited on, as it was named."""
    test = _options(info).get("test")
    return test if isinstance(test, str) and test else None


def audit_words(journal: Journal, out: Path | None = None) -> list[str]:
    """The words after `potemkin` that audit the kept weights with more steps, more restarts and another seed."""
    info, size = journal.info, _options(journal.info).get("image_size")
    attacks = [word for attack in STRONGER for word in ("--attack", attack)]
    return [
        "audit", str(journal.folder), test_data(info) or UNKNOWN, "--threat", info.threat_notation, *attacks,
        "--seed", str(info.seed + 1), *(() if size is None else ("--image-size", str(size))),
        "--out", str(out or beside(journal.folder)),
    ]  # fmt: skip


def audit_command(journal: Journal) -> str:
    """The same, to be typed."""
    return shlex.join(["potemkin", *audit_words(journal)])


def audit_python(journal: Journal) -> str:
    """The same in Python, for a network that was given as an object."""
    folder, info = journal.folder, journal.info
    attacks = "".join(f"    {attack!r},\n" for attack in STRONGER)
    return (
        "import potemkin as pk\n\n"
        f"model = pk.load_model('my_models:net', weights={str(folder / 'model.safetensors')!r})\n"
        f"attacks = [\n{attacks}]\n"
        f"pk.audit(model, test_data, {info.threat_notation!r}, attacks,\n"
        f"         seed={info.seed + 1}, out={str(beside(folder))!r})"
    )


def verify_command(journal: Journal) -> str | None:
    """What checks the run's own audit; None for a network that no command can bring."""
    if not named(journal.info):
        return None
    size = _options(journal.info).get("image_size")
    words = ["potemkin", "verify", str(journal.folder / AUDIT), "--model", str(journal.folder)]
    words += ["--data", test_data(journal.info) or UNKNOWN]
    return shlex.join([*words, *(() if size is None else ("--image-size", str(size)))])


def beside(folder: Path) -> Path:
    """Where the stronger audit goes: not into the run, which --overwrite would empty."""
    return folder.with_name(f"{folder.name}-audit")


def fresh(folder: Path) -> Path:
    """That, or the first of its kind that is not there yet."""
    first = path = beside(folder)
    number = 2
    while path.exists():
        path, number = first.with_name(f"{first.name}-{number}"), number + 1
    return path


def _options(info: RunInfo) -> dict[str, Any]:
    found = info.model.details.get("options")
    return found if isinstance(found, dict) else {}
