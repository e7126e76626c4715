"""Write a bundle: spooled to disk as the examples come, moved into place at the end, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from potemkin.errors import BundleError
from potemkin.evaluate.bundle_read import ADVERSARIALS, EXAMPLES, PARTIAL, POSITIONS, RECORD, REPORT, TENSORS
from potemkin.evaluate.interrupts import uninterrupted
from potemkin.evaluate.record import ExampleLine, GalleryItem, Record

GALLERY_LIMITS: dict[str, int] = {"broken": 12, "held": 6}


class BundleWriter:
    """Spools one evaluation to `folder/.partial` and turns it into a bundle at `finish`.

    `record.json` is moved last, so a folder that has one is whole. `abort` (or leaving the `with` block early)
    removes what was spooled, and the folder, too, if it was made for this run.

    Raises BundleError at construction where the folder holds something else, or a bundle and not `overwrite`.
    """

    def __init__(self, folder: str | Path, *, input_shape: tuple[int, ...], overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self.input_shape = tuple(input_shape)
        self.gallery: list[GalleryItem] = []
        self.counts: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()
        self._last_position = -1
        self._partial = self.folder / PARTIAL
        self._made = not self.folder.exists()
        _refuse_foreign(self.folder, overwrite)
        with _explained(self.folder):
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir(parents=True)
            self._lines: BinaryIO = (self._partial / EXAMPLES).open("wb")
            self._spools: dict[str, BinaryIO] = {name: (self._partial / name).open("wb") for name in TENSORS}
            self._places: BinaryIO = (self._partial / POSITIONS).open("wb")
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
        with _explained(self.folder):
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
        with _explained(self.folder):
            self._close()
            self._join_tensors()
            (self._partial / RECORD).write_text(record.to_json() + "\n", encoding="utf-8")
            with uninterrupted():  # all three files, or none
                for stale in (RECORD, REPORT):
                    (self.folder / stale).unlink(missing_ok=True)
                for name in (EXAMPLES, ADVERSARIALS, RECORD):
                    os.replace(self._partial / name, self.folder / name)
                self._open = False
            shutil.rmtree(self._partial, ignore_errors=True)
        return record

    def abort(self) -> None:
        """Remove everything that was spooled; nothing happens after `finish`."""
        if not self._open:
            return
        with suppress(OSError):  # what a full disk could not flush is thrown away anyway
            self._close()
        self._open = False
        shutil.rmtree(self._partial, ignore_errors=True)
        if self._made and self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

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
            start, end = end, end + (self._partial / name).stat().st_size
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with (self._partial / ADVERSARIALS).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in kinds:
                with (self._partial / name).open("rb") as spool:
                    shutil.copyfileobj(spool, file, 1 << 20)


def _refuse_foreign(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(f"{folder} is a file; the bundle needs a folder. Give another --out.")
    names = {item.name for item in folder.iterdir()}
    ours = RECORD in names or PARTIAL in names
    if names and not ours:
        raise BundleError(
            f"{folder} is not empty and holds no {RECORD}: it is not a bundle, and it is left alone. "
            "Give another --out, a new or empty folder."
        )
    if names and not overwrite:
        why = "holds a bundle" if RECORD in names else "is being written to, or was left behind by a killed run"
        raise BundleError(f"{folder} already {why}. Give another --out, or --overwrite to replace it.")


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """A full disk or a folder without permission is the user's to mend, so it is told in their words."""
    try:
        yield
    except OSError as problem:
        raise BundleError(
            f"{folder} cannot be written ({problem.strerror or problem}). Check the disk space and the permissions, "
            "or give another --out."
        ) from problem
