"""One call of the command line: how it is named to those who will type the next one."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from potemkin.cli.main import main
from potemkin.cli.session import program


@pytest.mark.parametrize(
    ("found", "started", "words"),
    [
        ("/usr/bin/potemkin", "/usr/bin/potemkin", ["potemkin"]),
        (None, "{here}/.venv/bin/potemkin", [".venv/bin/potemkin"]),
        (None, "/opt/tools/potemkin", ["/opt/tools/potemkin"]),
        (None, "/site-packages/potemkin/__main__.py", ["python", "-m", "potemkin"]),
    ],
)
def test_printed_commands_start_with_what_a_shell_finds(
    found: str | None, started: str, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: found)
    monkeypatch.setattr("sys.argv", [started.format(here=tmp_path), "audit"])
    assert program() == words


@pytest.mark.parametrize("verb", ["audit", "verify", "report", "compare", "list", "doctor"])
def test_help_breaks_its_lines_where_the_terminal_does(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No line is left short because the docstring had its break there."""
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out.partition("╭")[0]
    for paragraph in text.split("\n\n"):
        lines = paragraph.splitlines()
        for line, after in itertools.pairwise(lines):
            assert len(line) + 1 + len(after.split()[0]) > 80, line
