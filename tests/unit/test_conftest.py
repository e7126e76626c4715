"""Where real data should be, a test may not skip itself for want of them: the rule of tests/conftest.py."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
INSIDE = """
import pytest
def test_wants_data(data_root):
    assert data_root.is_dir()
def test_wants_something_else():
    pytest.skip("no browser here")
"""
WHOLE_MODULE = "import pytest\npytest.skip('POTEMKIN_DATA is not set', allow_module_level=True)\n"


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """An empty test folder with this suite's conftest, as if nothing had been said about data."""
    monkeypatch.delenv("POTEMKIN_DATA", raising=False)
    monkeypatch.delenv("POTEMKIN_REQUIRE_DATA", raising=False)
    pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
    return pytester


def test_without_data_the_test_skips_itself(folder: pytest.Pytester) -> None:
    folder.makepyfile(INSIDE)
    folder.runpytest_inprocess().assert_outcomes(skipped=2)


def test_where_data_are_required_the_skip_fails(folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.makepyfile(INSIDE)
    result = folder.runpytest_inprocess("--require-data")
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines("*this may not be skipped here*")
    monkeypatch.setenv("POTEMKIN_REQUIRE_DATA", "1")
    folder.runpytest_inprocess().assert_outcomes(errors=1, skipped=1)


def test_so_it_does_in_a_worker(folder: pytest.Pytester) -> None:
    folder.makepyfile(INSIDE)
    folder.runpytest_subprocess("--require-data", "-n", "1").assert_outcomes(errors=1, skipped=1)


def test_a_module_that_skips_itself_fails_too(folder: pytest.Pytester) -> None:
    folder.makepyfile(WHOLE_MODULE)
    folder.runpytest_inprocess().assert_outcomes(skipped=1)
    folder.runpytest_inprocess("--require-data").assert_outcomes(errors=1)


def test_with_data_the_test_runs(folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POTEMKIN_DATA", str(folder.path))
    folder.makepyfile(INSIDE)
    folder.runpytest_inprocess("--require-data").assert_outcomes(passed=1, skipped=1)
