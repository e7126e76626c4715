"""Write a bundle: spooled to disk as the examples come, moved into place at the end, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from potemkin.core.files import explained
from potemkin.evaluate.bundle_partial import INSTEAD, Partial
from potemkin.evaluate.bundle_read import ADVERSARIALS, EXAMPLES, POSITIONS, RECORD, REPORT, TENSORS
from potemkin.evaluate.interrupts import uninterrupted
from potemkin.evaluate.lines import ExampleLine, GalleryItem
from potemkin.evaluate.record import Record

GALLERY_LIMITS: dict[str, int] = {"broken": 12, "held": 6}


class BundleWriter:
    """Spools one evaluation to a hidden folder of its own inside `folder` and turns it into a bundle at `finish`.

    `record.json` is moved last, so a folder that has one is whole. `abort` (or leaving the `with` block early)
    removes what was spooled, and the folder, too, if it was made for this run. Of several runs that write into one
    folder with `overwrite`, each finishes a whole bundle, and that of the last one stays.

    Raises BundleError at construction where the folder holds something else, or a bundle or another run under way and
    not `overwrite`.
    """

    def __init__(self, folder: str | Path, *, input_shape: tuple[int, ...], overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self.input_shape = tuple(input_shape)
        self.gallery: list[GalleryItem] = []
        self.counts: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._last_position = -1
        self._partial = Partial(self.folder, overwrite)
        try:
            with explained(self.folder, INSTEAD):
                self._lines: BinaryIO = (self._partial.path / EXAMPLES).open("wb")
                self._spools = {name: (self._partial.path / name).open("wb") for name in TENSORS}
                self._places: BinaryIO = (self._partial.path / POSITIONS).open("wb")
        except BaseException:
            self._partial.abandon()
            raise
        self._open = True

    def wants_picture(self, outcome: str) -> bool:
        """Whether the gallery still has room for an example with this outcome."""
        return self._shown[outcome] < GALLERY_LIMITS.get(outcome, 0)

    def add(
        self,
        line: ExampleLine,
        adversarial: NDArray[np.float32] | None = None,
        *,
        clean: NDArray[np.float32] | None = None,
        attempt: NDArray[np.float32] | None = None,
    ) -> ExampleLine:
        """Append one example, in data order; returns the line as written, with its row of `inputs` filled in.

        `adversarial` is given for exactly the broken examples. `clean` and `attempt` (the best point found; for a
        broken example the adversarial itself where left out) offer a picture: the first few of each outcome are kept.
        """
        if (line.outcome == "broken") != (adversarial is not None):
            raise ValueError(f"example {line.id!r} is {line.outcome!r}: an adversarial belongs to broken ones only")
        if line.position <= self._last_position:
            raise ValueError(f"position {line.position} after {self._last_position}: examples come in data order")
        self._last_position = line.position
        with explained(self.folder, INSTEAD):
            row = self._spool("inputs", adversarial) if adversarial is not None else None
            line = line.model_copy(update={"adversarial": row})
            text = json.dumps(line.model_dump(mode="json"), allow_nan=False, ensure_ascii=False)
            self._lines.write(text.encode("utf-8") + b"\n")
            self._places.write(line.position.to_bytes(8, "little"))
            picture = attempt if attempt is not None else adversarial
            if clean is not None and picture is not None and self.wants_picture(line.outcome):
                self._show(line, clean, picture)
        self.counts[line.outcome] += 1
        return line

    def finish(self, record: Record) -> Record:
        """Write the record with the gallery filled in and move everything into place; returns that record."""
        found = {name: self.counts[name] for name in record.outcomes}
        if found != record.outcomes:
            raise ValueError(f"the record counts {record.outcomes}, but these lines were added: {found}")
        if tuple(record.model.input_shape) != self.input_shape:
            raise ValueError(f"input_shape {record.model.input_shape} in the record, {self.input_shape} in the writer")
        record = record.model_copy(update={"gallery": list(self.gallery)})
        with explained(self.folder, INSTEAD):
            self._close()
            self._join_tensors()
            (self._partial.path / RECORD).write_text(record.to_json() + "\n", encoding="utf-8")
            with self._partial.ending(), uninterrupted():  # all three files, or none, and all of this run
                for stale in (RECORD, REPORT):
                    (self.folder / stale).unlink(missing_ok=True)
                for name in (EXAMPLES, ADVERSARIALS, RECORD):
                    os.replace(self._partial.path / name, self.folder / name)
                self._open = False
        return record

    def abort(self) -> None:
        """Remove everything that was spooled; nothing happens after `finish`."""
        if not self._open:
            return
        with suppress(OSError):  # what a full disk could not flush is thrown away anyway
            self._close()
        self._open = False
        self._partial.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _spool(self, name: str, row: NDArray[np.float32]) -> int:
        if row.dtype != np.float32 or row.shape != self.input_shape:
            raise ValueError(f"{name} takes float32 {self.input_shape}, got {row.dtype} {row.shape}")
        self._spools[name].write(np.ascontiguousarray(row, dtype="<f4").tobytes())
        self._rows[name] += 1
        return self._rows[name] - 1

    def _show(self, line: ExampleLine, clean: NDArray[np.float32], attempt: NDArray[np.float32]) -> None:
        index = self._spool("gallery_clean", clean)
        self._spool("gallery_attempt", attempt)
        self._shown[line.outcome] += 1
        self.gallery.append(
            GalleryItem(
                id=line.id,
                index=index,
                label=line.label,
                clean_prediction=line.prediction,
                attack_prediction=line.attack_prediction,
                clean_confidence=line.clean_confidence,
                attack_confidence=line.attack_confidence,
                outcome=line.outcome,
                distance=line.distance,
                broken_by=line.broken_by,
            )
        )

    def _close(self) -> None:
        for file in (self._lines, self._places, *self._spools.values()):
            file.close()

    def _join_tensors(self) -> None:
        """The safetensors file, written by hand: its own writer wants all tensors in memory."""
        header: dict[str, Any] = {}
        end = 0
        kinds = {POSITIONS: ("I64", [sum(self.counts.values())])}
        kinds |= {name: ("F32", [self._rows[name], *self.input_shape]) for name in TENSORS}
        for name, (dtype, shape) in kinds.items():
            start, end = end, end + (self._partial.path / name).stat().st_size
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with (self._partial.path / ADVERSARIALS).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in kinds:
                with (self._partial.path / name).open("rb") as spool:
                    shutil.copyfileobj(spool, file, 1 << 20)
