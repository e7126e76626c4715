"""Ctrl-C, SIGTERM and a real terminal: what is done is kept and marked, and people see how far it is."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli_run import MODELS, run, save, tiny
from potemkin.evaluate.bundle_read import read_bundle

# A test run in the background of a shell may ignore SIGINT, and its children would, too.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from potemkin.cli.main import main
sys.exit(main())
"""
DATA = """
import os, signal
import numpy as np
from potemkin.data.load import as_source

class Impatient:
    '''Presses Ctrl-C again while the bundle is being finished: then the fingerprint of all examples is asked for.'''

    def __init__(self):
        stored = np.load("many.npz")
        self.inner = as_source((stored["x"], stored["y"]), name="impatient")

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __len__(self):
        return len(self.inner)

    def batches(self, size, indices=None):
        return self.inner.batches(size, indices)

    def fingerprint(self, positions=None):
        os.kill(os.getpid(), signal.SIGINT)
        return self.inner.fingerprint(positions)

def load():
    return Impatient()
"""
TOTAL = 64


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    (tmp_path / "data.py").write_text(DATA, encoding="utf-8")
    save(tmp_path / "many.npz", *tiny(TOTAL))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(model: str, data: str = "many.npz", *more: str) -> list[str]:
    attack = ["--threat", "Linf(0.1)", "--attack", "pgd(steps=5, restarts=2)", "--rows", "8", "--no-cycles"]
    return ["audit", f"models.py:{model}", data, *attack, "--device", "cpu", *more]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", START, *arguments]


def check_what_was_kept(folder: Path, capsys: pytest.CaptureFixture[str], model: str) -> None:
    record = read_bundle(folder).record
    assert (record.complete, record.why_incomplete, record.data.examples) == (False, "interrupted", TOTAL)
    assert 0 < record.n < TOTAL
    assert record.outcomes["broken"] > 0
    assert list(folder.glob(".*")) == []
    assert "interrupted" in (folder / "report.html").read_text(encoding="utf-8")
    answer = run(capsys, "verify", str(folder), "--model", f"models.py:{model}", "--data", "many.npz")
    assert answer.code == 0, answer.out


def test_ctrl_c_keeps_what_is_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run(
        command(*words("Stops", "many.npz", "--out", "runs/a", "--fail-under", "robust_accuracy=1")),
        cwd=here, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "Stopping: what is done will be kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert f"INCOMPLETE (interrupted): {read_bundle(here / 'runs/a').record.n} of {TOTAL} examples" in done.stdout
    check_what_was_kept(here / "runs" / "a", capsys, "Stops")


def test_sigterm_keeps_what_is_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = subprocess.Popen(
        command(*words("Slow", "many.npz", "--out", "runs/a", "--json")),
        cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for number, _ in enumerate(process.stderr):
        if number == 60:
            process.send_signal(signal.SIGTERM)
            break
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 4
    assert '"complete": false' in out
    check_what_was_kept(here / "runs" / "a", capsys, "Slow")


def test_a_second_ctrl_c_aborts_and_leaves_nothing(here: Path) -> None:
    done = subprocess.run(
        command(*words("Stops", "data.py:load", "--out", "runs/a")),
        cwd=here, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == "error: Interrupted: nothing was written."
    assert not (here / "runs" / "a").exists()


def test_a_terminal_shows_how_far_it_is(here: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="80", LINES="24")
        os.execv(sys.executable, command(*words("Slow", "many.npz", "--examples", "48")))
    seen = b""
    while True:
        try:
            read = os.read(terminal, 4096)
        except OSError:
            break
        if not read:
            break
        seen += read
    _, status = os.waitpid(pid, 0)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert re.search(r"━\s+\d+ of 48 examples\s+(about \d+ s left|time left not known yet)", text)
    assert re.search(r"robust accuracy so far \d+\.\d % \[\d+\.\d, \d+\.\d\] \(n = \d+\)\s+\d+ forwards/s", text)
    assert "Robust accuracy" in text.split("forwards/s")[-1]
