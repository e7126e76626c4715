"""Files are written whole or not at all, and what goes wrong is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from potemkin.core.files import explained, write_whole
from potemkin.errors import BundleError


def test_a_text_is_moved_into_place_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_whole(path, "façade")
    write_whole(path, "once more")
    assert path.read_text(encoding="utf-8") == "once more"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["half", "\ud800"])
def test_what_fails_leaves_the_old_file_and_no_half_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("potemkin.core.files.os.replace", full)
    with pytest.raises((BundleError, UnicodeEncodeError)):
        write_whole(path, text)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_message_says_what_can_be_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BundleError, match=r"a\.json cannot be written \(.*\)\. Check .*, or give another --out\."):
        write_whole(tmp_path / "file" / "a.json", "x", "give another --out")
    told = r"cannot be written \(Is a directory\)\. Check the disk space and the permissions\.$"
    with pytest.raises(BundleError, match=told), explained(tmp_path):
        raise IsADirectoryError(21, "Is a directory")
