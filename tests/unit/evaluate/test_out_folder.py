"""Where a bundle may grow: names that no folder can have, links that lead nowhere, and files of other people."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from bundles import line_of, record_of
from potemkin.errors import BundleError
from potemkin.evaluate import locks
from potemkin.evaluate.bundle import BundleWriter
from potemkin.evaluate.bundle_partial import LOCK, refuse_folder
from potemkin.evaluate.bundle_read import PARTIAL

Begin = Callable[[Path], object]


def write(folder: Path, overwrite: bool = False) -> None:
    """A small bundle, all of it."""
    with BundleWriter(folder, input_shape=(2, 2), overwrite=overwrite) as writer:
        writer.finish(record_of([writer.add(line_of(0, "held", np.random.default_rng(0)))], (2, 2)))


def ask(folder: Path) -> None:
    """What the command line asks before it loads anything."""
    refuse_folder(folder, overwrite=False)


def refused(begin: Begin, folder: Path) -> str:
    """The BundleError of a call that must come back: a pipe without another end would keep it for ever."""
    told: list[str] = []

    def called() -> None:
        with pytest.raises(BundleError) as caught:
            begin(folder)
        told.append(str(caught.value))

    thread = threading.Thread(target=called, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits for ever"
    assert len(told) == 1 and "\n" not in told[0]
    return told[0]


@pytest.mark.parametrize("begin", [write, ask])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("zero\0byte", "x00byte' has a zero byte"),
        ("n" * 300, "too long"),
        ("nowhere", "nowhere is a symbolic link to .*missing, which does not exist"),
        ("nowhere/run", "nowhere is a symbolic link to .*missing, which does not exist"),
        ("loop", "loop is a symbolic link to .*loop, which .* leads back to the link"),
    ],
    ids=["zero byte", "long", "dangling link", "below a dangling link", "loop"],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, begin: Begin, name: str, says: str) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(BundleError, match=says) as caught:
        begin(tmp_path / name)
    assert "another --out" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"nowhere", "loop"}


def test_a_link_to_a_folder_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link")
    write(tmp_path / "link" / "below")
    assert (tmp_path / "real" / "record.json").is_file() and (tmp_path / "real" / "below" / "record.json").is_file()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link(path: Path) -> None:
    path.parent.joinpath("theirs").write_text("do not lose me", encoding="utf-8")
    path.symlink_to("theirs")


@pytest.mark.parametrize("make", [pipe, link, Path.mkdir])
def test_what_is_no_file_is_no_lock(tmp_path: Path, make: Callable[[Path], None]) -> None:
    write(tmp_path / "run")
    make(tmp_path / "run" / LOCK)
    before = {path.name for path in (tmp_path / "run").iterdir()}
    told = refused(lambda folder: write(folder, overwrite=True), tmp_path / "run")
    assert told.startswith(f"{tmp_path / 'run' / LOCK} is no ordinary file") and "another --out" in told
    assert {path.name for path in (tmp_path / "run").iterdir()} == before
    if make is link:
        assert (tmp_path / "run" / "theirs").read_text(encoding="utf-8") == "do not lose me"


def test_a_pipe_is_no_life_of_a_run(tmp_path: Path) -> None:
    left = tmp_path / "run" / f"{PARTIAL}-1-x"
    left.mkdir(parents=True)
    os.mkfifo(left / LOCK)
    assert str(left) in refused(write, tmp_path / "run")
    assert left.exists()


def test_files_of_other_people_are_left_alone(tmp_path: Path) -> None:
    """Names that anybody may give are no sign that something is ours."""
    run = tmp_path / "run"
    write(run)
    (run / ".partial-mine").mkdir()
    (run / ".partial-mine" / "thesis.tex").write_text("do not lose me", encoding="utf-8")
    (run / ".lock").write_text("nor me", encoding="utf-8")
    (run / f"{PARTIAL}.txt").write_text("nor me", encoding="utf-8")
    write(run, overwrite=True)
    assert (run / ".partial-mine" / "thesis.tex").read_text(encoding="utf-8") == "do not lose me"
    assert (run / ".lock").read_text(encoding="utf-8") == (run / f"{PARTIAL}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [".lock", ".partial-mine"])
def test_a_folder_that_holds_only_such_a_file_is_no_bundle(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    for begin in (write, ask):
        with pytest.raises(BundleError, match=r"is not empty and holds no record\.json"):
            begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("another", [False, True])
def test_the_lock_of_a_file_that_is_gone_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another: bool
) -> None:
    """Whoever held it before takes its file along: those who come later lock a new one, and so must we."""
    path, real = tmp_path / "lock", locks._lock
    waited: list[bool | None] = []

    def held_up(file: BinaryIO, wait: bool) -> bool | None:
        got = real(file, wait)
        if not waited:
            path.unlink()
            if another:
                path.touch()
        waited.append(got)
        return got

    monkeypatch.setattr(locks, "_lock", held_up)
    with locks.alone(path):
        assert locks.state(path) == "held"
    assert not path.exists()
