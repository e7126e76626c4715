"""What all tests share: the folder of real data sets, and what happens where it should be there and is not."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

NO_DATA = "POTEMKIN_DATA is not set (or not a folder): point it at the folder of real data sets to run this test"


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; the test skips itself without it, and fails under `--require-data`."""
    folder = os.environ.get("POTEMKIN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip(NO_DATA)
    return Path(folder)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-data",
        action="store_true",
        default=bool(os.environ.get("POTEMKIN_REQUIRE_DATA")),
        help="a test that skips itself for want of POTEMKIN_DATA fails (or set POTEMKIN_REQUIRE_DATA=1, as CI does)",
    )


def _fail_if_skipped_for_data(report: pytest.TestReport | pytest.CollectReport, config: pytest.Config) -> None:
    if not config.getoption("--require-data") or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if "POTEMKIN_DATA" in reason:
        report.outcome = "failed"
        report.longrepr = f"--require-data: this may not be skipped here.\n{reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped_for_data(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped_for_data(report, collector.config)
    return report
