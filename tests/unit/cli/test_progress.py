"""Progress: fair numbers, a live picture on a terminal, plain lines elsewhere, silence for machines."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from potemkin.cli.progress import Bar, Lines, Pace, Silent, accuracy, display, told_time
from potemkin.cli.session import Session
from potemkin.evaluate.audit import Progress
from potemkin.evaluate.rates import Rate


def at(seconds: float, settled: int = 60, done: int = 40, held: int = 20, forwards: int = 1000) -> Progress:
    """The first 40 of 120 needed 100 forwards each, and 6,000 of the 12,000 to be expected have been made."""
    return Progress(
        settled, done, 120, held, done_forwards=100 * done, seated_forwards=6000, forwards=forwards, seconds=seconds
    )


def test_accuracy_counts_the_examples_in_order_only() -> None:
    assert accuracy(at(1.0)) == f"robust accuracy so far {Rate.of(20, 40)}"
    for few in (0, 1, 29):
        assert accuracy(at(1.0, done=few, held=0)) == "robust accuracy not known yet"


def test_speed_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert pace.speed(at(1.0, forwards=0)) is None
    assert pace.speed(at(2.0, forwards=100)) == pytest.approx(100)
    for second in range(3, 40):
        speed = pace.speed(at(float(second), forwards=100 + 1000 * (second - 2)))
    assert speed == pytest.approx(1000)


def test_time_left_goes_by_what_the_first_ones_needed_not_by_how_many_have_fallen() -> None:
    assert Pace.left(at(10.0)) == pytest.approx(10.0)
    assert Pace.left(at(10.0, settled=119)) == pytest.approx(10.0)
    assert Pace.left(at(10.0, done=29)) is None
    assert [told_time(s) for s in (None, 0.0, 12.4, 600.0, 36_000.0)] == [
        "time left not known yet", "nearly done", "about 12 s left", "about 10 min left", "about 10.0 h left",
    ]  # fmt: skip


def test_lines_come_at_their_pace() -> None:
    text = io.StringIO()
    with Lines(Console(file=text, width=20), every=0.0) as shown:
        shown.update(at(1.0))
        shown.update(at(2.0, forwards=3000))
    first, second = text.getvalue().splitlines()
    assert first.startswith("60 of 120 examples done; robust accuracy so far 50.0 % [")
    assert first.endswith("speed not known yet, time left not known yet")
    assert second.endswith("2,000 forwards/s, about 2 s left")
    text = io.StringIO()
    with Lines(Console(file=text), every=60.0) as shown:
        for second in range(100):
            shown.update(at(float(second)))
    assert text.getvalue() == ""


def test_the_first_line_counts_from_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    clock = iter([0.0, 0.0, 1.0, 9.0])
    monkeypatch.setattr("potemkin.cli.progress.time.monotonic", lambda: next(clock))
    with Lines(Console(file=text, width=200)) as shown:
        shown.update(at(1.0))
        shown.update(at(9.0, forwards=5000))
    assert "500 forwards/s, about 9 s left" in text.getvalue()


def test_the_bar_is_gone_when_it_is_over() -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80, color_system=None, legacy_windows=False, markup=False)
    with Bar(console) as shown:
        shown.update(at(1.0))
        shown._live.refresh()
        unknown = text.getvalue()
        shown.update(at(2.0, forwards=3000))
        shown._live.refresh()
        seen = text.getvalue()
        shown.stopping()
        shown._live.refresh()
    assert "60 of 120 examples  time left not known yet" in unknown and "s left" not in unknown
    assert "60 of 120 examples  about 2 s left" in seen
    assert f"robust accuracy so far {Rate.of(20, 40)}" in seen
    assert "Once more aborts" in text.getvalue()
    assert max(len(line) for line in seen.splitlines()) <= 80 + 20  # escapes aside, nothing wraps
    assert text.getvalue().rstrip().endswith("\x1b[2K")  # the last thing it does is to wipe its lines


def test_the_display_fits_the_reader(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(display(Session.of(["audit", "--json"])), Silent)
    assert isinstance(display(Session.of(["audit"])), Lines)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(display(Session.of(["audit"])), Bar)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display(Session.of(["audit"])), Lines)
