"""Read a bundle: damaged, truncated or hostile files end in a BundleError that says what to do."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from potemkin.core.outcomes import OUTCOMES
from potemkin.errors import BundleError
from potemkin.evaluate.lines import ExampleLine
from potemkin.evaluate.record import Record, explain, parse_record

RECORD = "record.json"
EXAMPLES = "examples.jsonl"
ADVERSARIALS = "adversarials.safetensors"
REPORT = "report.html"
PARTIAL = ".potemkin-partial"
"""How the names of unfinished bundles begin, hidden folders inside the bundle's own; nobody else's begin so."""
TENSORS = ("inputs", "gallery_clean", "gallery_attempt")
POSITIONS = "positions"
"""(n,) int64 in adversarials.safetensors: where each line's example stands in the data."""

_AGAIN = "The file may be truncated or changed: take an untouched copy, or run the audit again."


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory, but for its tensors, which are read when asked for."""

    folder: Path
    record: Record
    lines: list[ExampleLine]

    def tensor(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Rows [start, stop) of "inputs", "gallery_clean" or "gallery_attempt", as float32."""
        path = self.folder / ADVERSARIALS
        try:
            with safe_open(path, framework="np") as file:
                part = file.get_slice(name)
                rows, *shape = part.get_shape()
                low, high, _ = slice(start, stop).indices(rows)
                if high <= low:
                    return np.empty((0, *shape), dtype=np.float32)
                return np.asarray(part[low:high], dtype=np.float32)
        except (SafetensorError, OSError) as problem:
            raise BundleError(f"{path} cannot be read ({problem}). {_AGAIN}") from None


def read_bundle(folder: str | Path) -> Bundle:
    """The bundle in `folder`, with everything checked that can be checked without the model.

    BundleError where the folder is no bundle, a file is missing or damaged, the schema version is another one, or the
    files do not belong together (outcomes against lines, lines against tensors).
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # os.path: a name that no file can have is just not there, where Path raises
        raise BundleError(f"{folder} is not a folder. Give the folder that `potemkin audit --out` wrote.")
    if not (folder / RECORD).is_file():
        partial = next((path.name for path in sorted(folder.glob(f"{PARTIAL}-*"))), None)
        cut = f" It holds {partial}, so a run is still writing into it or was killed." if partial else ""
        raise BundleError(
            f"{folder} is not a bundle: it has no {RECORD}.{cut} Give the folder that `potemkin audit --out` wrote."
        )
    record = parse_record(_bytes(folder / RECORD), str(folder / RECORD))
    bundle = Bundle(folder, record, _read_lines(folder / EXAMPLES))
    _check_lines(bundle)
    _check_tensors(bundle)
    return replace(bundle, lines=_placed(bundle))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise BundleError(f"{path} cannot be read ({problem.strerror}). {_AGAIN}") from None


def _read_lines(path: Path) -> list[ExampleLine]:
    data = _bytes(path)
    if data and not data.endswith(b"\n"):
        raise BundleError(f"{path} ends in the middle of a line. {_AGAIN}")
    lines = []
    for number, text in enumerate(data.split(b"\n")[:-1], start=1):
        try:
            line = ExampleLine.model_validate_json(text)
        except ValidationError as problem:
            raise BundleError(f"{path}, line {number}: {explain(problem)}. {_AGAIN}") from None
        if strays := line.model_fields_set & {"position", "adversarial"}:
            raise BundleError(f"{path}, line {number} says {min(strays)!r}, which is no part of a line. {_AGAIN}")
        lines.append(line)
    return lines


def _check_lines(bundle: Bundle) -> None:
    path, found = bundle.folder / EXAMPLES, Counter(line.outcome for line in bundle.lines)
    for name in OUTCOMES:
        if found[name] != bundle.record.outcomes[name]:
            raise BundleError(
                f"{path} has {found[name]} examples with outcome {name}, but {RECORD} counts "
                f"{bundle.record.outcomes[name]}. {_AGAIN}"
            )
    _check_breakers(bundle)


def _check_breakers(bundle: Bundle) -> None:
    """Each broken line names the attack that broke it, no other line names one, and the record counts the same."""
    path, counted = bundle.folder / EXAMPLES, Counter[str]()
    for attack in bundle.record.attacks:
        counted[attack.recipe] += attack.broken
    for line in bundle.lines:
        if (line.broken_by in counted) != (line.outcome == "broken"):
            raise BundleError(
                f"{path}: example {line.id!r:.60} is {line.outcome}, with broken_by {line.broken_by!r:.60}: a broken "
                f"example names one of the record's attacks ({', '.join(counted):.200}), another none. {_AGAIN}"
            )
    found = Counter(line.broken_by for line in bundle.lines if line.broken_by is not None)
    for recipe, count_of in counted.items():
        if found[recipe] != count_of:
            raise BundleError(
                f"{path} has {found[recipe]} examples broken by {recipe:.60}, but {RECORD} counts {count_of}. {_AGAIN}"
            )


def _placed(bundle: Bundle) -> list[ExampleLine]:
    """The lines with their place in the data, and the row of `inputs` for those that are broken."""
    path = bundle.folder / ADVERSARIALS
    try:
        with safe_open(path, framework="np") as file:
            positions = file.get_tensor(POSITIONS).tolist()
    except (SafetensorError, OSError) as problem:
        raise BundleError(f"{path} cannot be read ({problem}). {_AGAIN}") from None
    rising = all(before < after for before, after in pairwise(positions))
    if len(positions) != len(bundle.lines) or not rising or (positions and positions[0] < 0):
        raise BundleError(f"{path}: the tensor {POSITIONS!r} does not place the {len(bundle.lines)} examples. {_AGAIN}")
    rows = count()
    return [
        line.model_copy(update={"position": at, "adversarial": next(rows) if line.outcome == "broken" else None})
        for at, line in zip(positions, bundle.lines, strict=True)
    ]


def _check_tensors(bundle: Bundle) -> None:
    path, record = bundle.folder / ADVERSARIALS, bundle.record
    counts = {
        "inputs": record.outcomes["broken"],
        "gallery_clean": len(record.gallery),
        "gallery_attempt": len(record.gallery),
    }
    try:
        with safe_open(path, framework="np") as file:
            names = set(file.keys())
            found = {name: file.get_slice(name) for name in TENSORS if name in names}
            shapes = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in found.items()}
            part = file.get_slice(POSITIONS) if POSITIONS in names else None
            found_places = part and (part.get_dtype(), tuple(part.get_shape()))
    except (SafetensorError, OSError) as problem:
        raise BundleError(f"{path} cannot be read ({problem}). {_AGAIN}") from None
    places = ("I64", (len(bundle.lines),))
    if found_places != places:
        raise BundleError(
            f"{path}: tensor {POSITIONS!r} should be {places}, found {found_places or 'nothing'}. {_AGAIN}"
        )
    for name, rows in counts.items():
        expected = ("F32", (rows, *record.model.input_shape))
        if shapes.get(name) != expected:
            raise BundleError(
                f"{path}: tensor {name!r} should be {expected[0]} {expected[1]}, "
                f"found {shapes.get(name, 'nothing')}. {_AGAIN}"
            )
    if sorted(item.index for item in record.gallery) != list(range(len(record.gallery))):
        raise BundleError(f"{bundle.folder / RECORD}: the gallery does not number its rows 0, 1, 2, … {_AGAIN}")
