"""Memory stays flat: the engine reads on only as it gets rid of what it has."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import pytest

import potemkin as pk
from engine_toys import Ramp, batch_of, ramp_rows
from potemkin.attacks.parts.starts import Center
from potemkin.attacks.program import Attack
from potemkin.data.source import Batch
from potemkin.engine import admission
from potemkin.engine.engine import Engine
from potemkin.engine.jobs import Example
from potemkin.engine.setup import Settings
from potemkin.models.oracle import Oracle

ROWS = 8


class Stream:
    """Examples made as they are asked for, and a count of how many were."""

    def __init__(self, total: int, first: list[float], size: int = ROWS) -> None:
        self.total, self.first, self.size, self.given = total, first, size, 0

    def __iter__(self) -> Iterator[Batch]:
        while self.given < self.total:
            ids = range(self.given, min(self.given + self.size, self.total))
            self.given = ids.stop
            values = [self.first[name] if name < len(self.first) else self.first[-1] for name in ids]
            yield batch_of(*ramp_rows(*values), ids=list(ids))


def watch(stream: Stream, attack: Attack, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, list[str]]:
    """Run; return the most examples read and not yet told, the most alive at once, and the outcomes."""
    alive: weakref.WeakSet[Example] = weakref.WeakSet()

    class Counted(Example):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            alive.add(self)

    monkeypatch.setattr(admission, "Example", Counted)
    model = pk.Classifier(Ramp())
    settings = Settings(rows=ROWS, verify_rows=ROWS, retire_cycles=False)
    engine = Engine(Oracle(model), pk.ThreatModel(pk.Linf(0.1)), [attack], settings=settings)
    ahead, most, told = 0, 0, 0
    outcomes = []

    def look() -> None:
        nonlocal ahead, most
        ahead, most = max(ahead, stream.given - told), max(most, len(alive))

    engine.on_step = look
    with model.guest():
        for result in engine.run(stream):
            look()
            told += 1
            outcomes.append(result.outcome)
    assert told == stream.total
    return ahead, most, outcomes


@pytest.mark.parametrize(
    ("value", "outcome"), [(0.47, "broken"), (0.3, "held"), (0.7, "clean_wrong")], ids=["broken", "held", "wrong"]
)
def test_a_long_stream_is_never_held(value: float, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(400, [value])
    ahead, alive, outcomes = watch(stream, pk.pgd(steps=2), monkeypatch)
    assert outcomes == [outcome] * 400
    # What sits in the batch, waits for the verifier, or was read with the last batch of data.
    assert ahead <= 4 * ROWS
    assert alive <= 4 * ROWS


def test_one_slow_example_stops_the_reading_when_the_window_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first example takes 150 moves; many could fall meanwhile, and their results would wait behind it."""
    monkeypatch.setattr(admission, "WINDOW_EXAMPLES", 40)
    stream = Stream(300, [0.3, 0.47])
    ahead, alive, outcomes = watch(stream, pk.pgd(steps=150, step_size=0.05, start=Center()), monkeypatch)
    assert outcomes == ["held"] + ["broken"] * 299
    assert 40 <= ahead <= 40 + ROWS
    assert alive <= 4 * ROWS


def test_the_window_also_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WINDOW_BYTES", 24 * 3 * 4)  # 24 rows of three numbers
    stream = Stream(200, [0.3, 0.47])
    ahead, _, outcomes = watch(stream, pk.pgd(steps=100, step_size=0.05, start=Center()), monkeypatch)
    assert len(outcomes) == 200
    assert 24 <= ahead <= 24 + ROWS


def test_reading_goes_on_while_a_slow_example_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The window is wide: the batch is kept full, and the others do not wait for the first."""
    stream = Stream(120, [0.3, 0.47])
    ahead, _, outcomes = watch(stream, pk.pgd(steps=200, step_size=0.05, start=Center()), monkeypatch)
    assert len(outcomes) == 120
    assert ahead == 120


def test_an_empty_stream_is_an_empty_result(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch(Stream(0, [0.3]), pk.fgsm(), monkeypatch) == (0, 0, [])


def test_a_batch_longer_than_the_rows_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(50, [0.3, 0.47, 0.7], size=21)
    _, _, outcomes = watch(stream, pk.fgsm(), monkeypatch)
    assert outcomes == ["held", "broken"] + ["clean_wrong"] * 48
