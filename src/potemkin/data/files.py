"""Files by a pattern, and pieces of them read at any position, in any process."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from potemkin.core.explain import counted, listed
from potemkin.errors import ConfigError, DataError

MAX_OPEN = 64
MAX_FILES = 100_000

_RANGE = re.compile(r"\{([0-9]{1,12})\.\.([0-9]{1,12})\}")
_NAMED = 5


def expand(pattern: str | os.PathLike[str]) -> list[Path]:
    """The files that a path with ranges in braces names, in order; all must be there.

    A range that starts with a zero is padded to its width: a{08..10} is a08, a09, a10. Several ranges multiply.

    Errors: ConfigError for other braces, a range backwards, over 100,000 files; DataError names what is missing.
    """
    text = os.fspath(pattern)
    if _found(text):
        return [Path(text).expanduser()]  # braces may be part of a name
    plain = _RANGE.sub("", text)
    if "{" in plain or "}" in plain:
        raise ConfigError(f"The braces in {text!r} are no range: write {{FIRST..LAST}}, such as {{000000..000146}}.")
    ranges = [_range(match, text) for match in _RANGE.finditer(text)]
    many = math.prod(len(numbers) for numbers, _ in ranges)
    if many > MAX_FILES:
        raise ConfigError(f"{text!r} names {many} files, at most {MAX_FILES} are allowed: check its ranges.")
    between = re.split(r"\{[0-9]+\.\.[0-9]+\}", text)
    said = ([f"{n:0{width}d}" for n in numbers] for numbers, width in ranges)
    names = ["".join(itertools.chain(*zip(between, (*pick, ""), strict=True))) for pick in itertools.product(*said)]
    missing = [Path(name).name for name in names if not _found(name)]
    if missing and not ranges:
        raise DataError(f"There is no file {text!r}. Several are given as a range, such as {{000000..000146}}.")
    if missing:
        raise DataError(
            f"{len(missing)} of the {counted(len(names), 'file')} that {text!r} names "
            f"{'is' if len(missing) == 1 else 'are'} missing: {listed(missing, _NAMED)}. Fetch what is missing, or "
            "give the range that is there."
        )
    return [Path(name).expanduser() for name in names]


def _found(name: str) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, no home folder
        raise DataError(f"The path {name[:200]!r} cannot be looked at: {error}. Give the path of a file.") from error


def _range(match: re.Match[str], text: str) -> tuple[range, int]:
    first, last = match.groups()
    if int(first) > int(last):
        raise ConfigError(f"The range {match[0]} in {text!r} goes backwards: write {{{last}..{first}}}.")
    padded = any(len(end) > 1 and end.startswith("0") for end in (first, last))
    return range(int(first), int(last) + 1), max(len(first), len(last)) if padded else 0


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: a file that is indexed once must stay as it was."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class OpenFiles:
    """Reads pieces of files; keeps at most `limit` of them open in each process, and none in a pickle.

    It reads by `pread`, as forked processes share the place in a file that they inherit. No lock: a file that
    another thread pushes out is closed only when its last reader lets go of it.
    """

    def __init__(self, paths: Sequence[Path], limit: int = MAX_OPEN) -> None:
        self._paths, self._limit = list(paths), limit
        self._stamps = [stamp(path) for path in paths]
        self._open: OrderedDict[int, _Handle] = OrderedDict()

    def read(self, number: int, offset: int, size: int) -> bytes:
        """`size` bytes of file `number` from `offset` on."""
        try:
            handle = self._open.pop(number, None) or self._opened(number)
            self._open[number] = handle
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
            parts = []
            while size > 0 and (part := os.pread(handle.descriptor, size, offset)):
                parts.append(part)
                offset, size = offset + len(part), size - len(part)
        except OSError as error:
            raise DataError(f"{self._paths[number]} cannot be read: {error.strerror or error}.") from error
        if size:
            raise DataError(f"{self._paths[number]} ends at byte {offset}: it was cut after it had been opened.")
        return b"".join(parts)

    def _opened(self, number: int) -> _Handle:
        path = self._paths[number]
        handle = _Handle(path)
        if stamp(path) != self._stamps[number]:
            raise DataError(f"{path} was changed after it had been indexed: open the data again.")
        return handle

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_open": OrderedDict()}


class _Handle:
    """An open file descriptor that closes with its last owner."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


def short_name(path: Path) -> str:
    """The last two parts: enough to know the file by, and no home folder in a report that is passed on."""
    return "/".join(part for part in path.parts[-2:] if part not in {path.anchor, ".", ".."}) or path.name or str(path)
