"""Scalars for TensorBoard, where it is installed; the log of record is log.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potemkin.training.journal import AlarmLine, AnyLine, EvaluationLine, StepLine

FOLDER = "tensorboard"


class Board:
    """Writes nothing where TensorBoard is not installed (`pip install 'potemkin-ml[tensorboard]'`)."""

    def __init__(self, folder: Path, step: int) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except (ImportError, RuntimeError, AttributeError):  # missing, or builds that do not fit together
            return
        # What a killed run logged beyond its checkpoint is crossed out, as in log.jsonl.
        self._writer = SummaryWriter(str(folder / FOLDER), purge_step=step + 1)

    def add(self, lines: list[AnyLine]) -> None:
        """The numbers of these lines, under the names that the log has."""
        if self._writer is None:
            return
        for line in lines:
            for name, value in _scalars(line).items():
                if value is not None:
                    self._writer.add_scalar(name, value, line.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _scalars(line: AnyLine) -> dict[str, float | None]:
    if isinstance(line, StepLine):
        told = line.model_dump(exclude={"kind", "step", "epoch", "cost", "seconds"})
        return {f"steps/{name}": value for name, value in told.items()}
    if isinstance(line, EvaluationLine) and line.n:
        counts = line.model_dump(include={"clean", "training_attack", "one_step", "robust"})
        return {f"{line.part}/{name}": k / line.n for name, k in counts.items()}
    if isinstance(line, AlarmLine):
        return {f"alarms/{line.name}": 1.0}
    return {}
