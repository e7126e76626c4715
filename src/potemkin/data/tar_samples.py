"""Members of a webdataset shard put together to samples: what is a picture, what a label, what may not be there."""

from __future__ import annotations

import json
import re
import tarfile
import unicodedata
from dataclasses import dataclass, field
from typing import BinaryIO

from potemkin.core.explain import first_line
from potemkin.data.images import SUFFIXES

PICTURES = {suffix.removeprefix(".") for suffix in SUFFIXES}
MAX_PICTURE = 1 << 28  # bytes: the largest picture that `images` lets pass fits, even uncompressed
MAX_LABEL = 1 << 20  # bytes of a .cls or .json

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")  # what int64 holds; int() itself would also take 1_000 and other scripts
_LINKS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link"}


@dataclass(slots=True)
class Sample:
    """What the members of one key have said so far; `wrong` holds the first thing that makes it no example."""

    suffixes: list[str] = field(default_factory=list)
    offset: int | None = None
    size: int = 0
    cls: int | None = None
    json: int | str | None = None  # a text says why there is no label in it
    wrong: str = ""

    @property
    def label(self) -> int | str | None:
        """The number, a text that says what is wrong with it, or None."""
        return self.json if self.cls is None else self.cls


def take(member: tarfile.TarInfo, file: BinaryIO, samples: dict[str, Sample]) -> str:
    """Enter a member into its sample, or say why it may not be one."""
    name = member.name
    if unfit := _unfit(member):
        return f"the member {quoted(name)} {unfit}"
    base = name.rpartition("/")[2]
    if member.isdir() or base.startswith(".") or (base.startswith("__") and base.endswith("__")):
        return ""
    key, suffix = sample_key(name)
    if not suffix:
        return f"the member {quoted(name)} belongs to no sample: it has no suffix"
    sample = samples.setdefault(key, Sample())
    if suffix in sample.suffixes:
        sample.wrong = sample.wrong or f"has two members .{suffix}"
    sample.suffixes.append(suffix)
    if suffix in PICTURES:
        _take_picture(member, sample)
    elif suffix in {"cls", "json"}:
        _take_label(member, file, suffix, sample)
    return ""


def _unfit(member: tarfile.TarInfo) -> str:
    """Why this is no plain file that may be part of a sample. (Nothing is ever written to disk; ids are names.)"""
    name = member.name
    if any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in name):
        return "has a name that is not printable text"
    if name.startswith("/"):
        return "has an absolute name"
    if ".." in name.split("/"):
        return "has '..' in its name"
    if member.issparse():
        return "is a sparse file"
    if member.isreg() or member.isdir():
        return ""
    return f"is {_LINKS.get(member.type, 'no ordinary file (a device, a pipe or of an unknown type)')}"


def sample_key(name: str) -> tuple[str, str]:
    """Key and suffix: what stands before and after the first dot behind the last slash."""
    while name.startswith("./"):
        name = name[2:]
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, suffix.lower()


def _take_picture(member: tarfile.TarInfo, sample: Sample) -> None:
    if sample.offset is not None:
        sample.wrong = sample.wrong or "has two pictures"
    elif not 0 < member.size <= MAX_PICTURE:
        sample.wrong = sample.wrong or f"has a picture of {member.size} bytes (allowed: 1 to {MAX_PICTURE})"
    sample.offset, sample.size = member.offset_data, member.size


def _take_label(member: tarfile.TarInfo, file: BinaryIO, suffix: str, sample: Sample) -> None:
    if member.size > MAX_LABEL:
        sample.wrong = sample.wrong or f"has a .{suffix} of {member.size} bytes (at most {MAX_LABEL})"
        return
    file.seek(member.offset_data)
    text = file.read(member.size).decode("utf-8", "replace").strip()
    if suffix == "json":
        sample.json = _from_json(text)
    elif _WHOLE.fullmatch(text):
        sample.cls = int(text)
    else:
        sample.wrong = sample.wrong or f"has the label {quoted(text)}, which is no whole number"


def _from_json(text: str) -> int | str:
    """The label in it, or what is wrong with it. A name may stand beside the number: {"label": "tench", "cls": 0}."""
    try:
        held = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"has a .json that cannot be read ({first_line(error)})"
    found = [held[name] for name in ("cls", "label") if name in held] if isinstance(held, dict) else []
    if not found:
        return "has no label: its .json holds neither 'cls' nor 'label'"
    whole = {item for item in found if type(item) is int and abs(item) < 1 << 63}
    if len(whole) == 1:
        return int(whole.pop())
    if whole:
        return f"has two labels in its .json, {' and '.join(map(str, sorted(whole)))}"
    return f"has the label {quoted(str(found[0]))} in its .json, which is no whole number"


def fault(sample: Sample) -> str:
    """Why a finished sample is no example, "" if it is one."""
    if sample.wrong:
        return sample.wrong
    held = f"it holds {' '.join('.' + suffix for suffix in sample.suffixes) or 'nothing whole'}"
    if sample.offset is None:
        return f"has {'neither picture nor label' if sample.label is None else 'no picture'}: {held}"
    if sample.label is None:
        return f"has no label (.cls, or .json with 'label'): {held}"
    return sample.label if isinstance(sample.label, str) else ""


def quoted(name: str) -> str:
    """A member's or sample's name in quotes; a hostile one is cut short, its control characters are escaped."""
    return repr(name if len(name) <= 120 else f"{name[:117]}...")
