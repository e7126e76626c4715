"""A user's folder to stand in, and the command to call from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_run import MODELS, Cli, run, save, tiny


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models and data to train on, and nothing else."""
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    save(tmp_path / "good.npz", *tiny(64))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command in this process: `cli("audit", ...)` gives what it printed and its exit code."""
    return lambda *words: run(capsys, *words)
