"""Who hears of a run: its log and TensorBoard, and whoever shows its progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from potemkin.training.board import Board
from potemkin.training.journal import AnyLine, append
from potemkin.training.parallel import Processes


@dataclass(frozen=True)
class Tick:
    """What a progress display may show."""

    step: int
    steps: int
    epoch: float
    seconds: float
    rows: int
    """Training rows of all processes since this process started."""
    line: AnyLine | None = None
    evaluating: bool = False
    """Whether an evaluation begins, during which nothing else is told."""
    audited: tuple[int, int] | None = None
    """During the audit at the end: examples that are settled, and all."""


@dataclass(frozen=True)
class Ears:
    """Who is told how the run goes, and who may ask it to stop."""

    tell: Callable[[Tick], None] = lambda tick: None
    stop_asked: Callable[[], bool] = lambda: False


class Log:
    """Writes the lines of a run, by its first process alone."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._folder, self._processes = folder, processes
        self._board: Board | None = None

    def open(self, step: int) -> None:
        """Begin after `step`: what a killed run logged beyond it is crossed out."""
        if self._processes.first:
            self._board = Board(self._folder, step)

    def write(self, lines: Sequence[AnyLine]) -> None:
        if self._processes.first:
            append(self._folder, list(lines))
            if self._board is not None:
                self._board.add(list(lines))

    def close(self) -> None:
        """Write what the board still holds back."""
        if self._board is not None:
            self._board.close()
