"""Any exception becomes one paragraph with the right exit code."""

from __future__ import annotations

import pytest

from potemkin import errors
from potemkin.cli.failures import explain
from potemkin.cli.session import Session, plain


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("a"), 2),
        (errors.DataError("a"), 3),
        (errors.ModelError("a"), 3),
        (errors.BundleError("a"), 3),
        (errors.AccessError("a"), 4),
        (errors.ModelChangedError("a"), 4),
        (KeyboardInterrupt(), 4),
        (MemoryError(), 4),
        (ZeroDivisionError("division by zero"), 4),
        (SystemExit(0), 4),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert explain(error).exit_code == code
    if isinstance(error, errors.PotemkinError):
        assert explain(error).message == "a"


@pytest.mark.parametrize(
    "full",
    [MemoryError(), OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")],
)
def test_full_memory_is_told_however_deep_it_hides(full: BaseException) -> None:
    wrapped = errors.ModelError("the model failed")
    wrapped.__cause__ = full
    for error in (full, wrapped):
        failure = explain(error)
        assert failure.exit_code == 4
        assert "--rows" in failure.message


def test_a_runtime_error_is_not_taken_for_full_memory() -> None:
    assert "--rows" not in explain(RuntimeError("shapes cannot be multiplied")).message
    assert explain(errors.ModelError("out of memory")).exit_code == 3


def test_the_unexpected_says_how_to_report_it() -> None:
    message = explain(ZeroDivisionError("division by zero\nand more")).message
    assert "ZeroDivisionError: division by zero." in message
    assert "--debug" in message
    assert "\n" not in message


def test_a_missing_package_points_to_the_doctor() -> None:
    assert "potemkin doctor" in explain(ModuleNotFoundError("No module named 'torch'")).message


def test_what_others_named_cannot_steer_a_terminal() -> None:
    assert plain("a\x1b[2Jb\rc\n d\u202ee") == "a\\x1b[2Jb c d\\u202ee"
    assert plain("façade ≤ 8/255 …") == "façade ≤ 8/255 …"


def test_switches_are_read_from_a_wrong_command_line_too() -> None:
    assert Session.of(["adit", "--json"]).json
    assert not Session.of(["audit", "--", "--json"]).json
    assert Session.of(["audit", "--debug"]).debug
    assert (
        Session.of(["audit", "a b", "--threat", "Linf(8/255)"]).command == "potemkin audit 'a b' --threat 'Linf(8/255)'"
    )
