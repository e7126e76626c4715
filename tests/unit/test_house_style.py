"""House style that a machine can check: one spelling for each thing, docstrings in full, files that can be read."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import potemkin
from potemkin.core.registry import Entry, entries

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
NO_PAPER = {"Box", "Rectangle", "Features"}  # where a set lies: nothing to cite
NAMED = [
    e for kind in ("attack", "recipe", "set", "objective", "part") for e in entries(kind) if e.name not in NO_PAPER
]


def spellings() -> Iterator[tuple[str, str]]:
    """(spelling that is not ours, ours), from the glossary's table of arguments."""
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    table = text.split("## Arguments")[1].split("\n## ")[0]
    for ours, others in re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", table, re.MULTILINE):
        for other in others.split(","):
            yield other.split("(")[0].strip(), ours


def public_calls() -> Iterator[tuple[str, Callable[..., object]]]:
    public = ((name, getattr(potemkin, name)) for name in potemkin.__all__ if name != "__version__")
    yield from ((name, value) for name, value in public if callable(value))
    yield from ((entry.name, entry.factory) for kind in ("part", "model", "data", "recipe") for entry in entries(kind))


def test_every_argument_is_spelled_as_the_glossary_has_it() -> None:
    ours = dict(spellings())
    assert ours["alpha"] == "step_size"
    wrong = [
        f"{name}({parameter}): say {ours[parameter]}"
        for name, call in public_calls()
        for parameter in inspect.signature(call).parameters
        if parameter in ours
    ]
    assert wrong == []


@pytest.mark.parametrize("entry", NAMED, ids=lambda entry: entry.name)
def test_docstrings_name_their_source_and_what_differs(entry: Entry) -> None:
    text = inspect.getdoc(entry.factory) or ""
    assert len(text.splitlines()[0]) <= 120
    for section in ("Source:", "Differs:"):
        assert re.search(rf"{section}\s+\S", text), f"{entry.name} says nothing under {section}"


@pytest.mark.parametrize("entry", entries("recipe"), ids=lambda entry: entry.name)
def test_training_recipes_have_an_equation_a_cost_and_an_example(entry: Entry) -> None:
    text = inspect.getdoc(entry.factory) or ""
    for what, pattern in {
        "equation": r"\n\n    \S",
        "arguments": r"^Args:",
        "cost": r"^Cost per .*\b(forward|row)",
        "example": r"^    >>> \S",
    }.items():
        assert re.search(pattern, text, re.MULTILINE), f"{entry.name} has no {what}"


def test_something_is_registered_under_each_kind() -> None:
    """So that the test above cannot pass by looking at nothing."""
    kinds = {entry.kind for entry in NAMED}
    assert kinds == {"attack", "recipe", "set", "objective", "part"}
    assert len(NAMED) >= 30


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_files_can_be_read_in_one_sitting(source: Path) -> None:
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 400


def test_there_is_no_room_without_a_name() -> None:
    assert [path.name for path in SOURCES if path.stem in {"utils", "util", "helpers", "misc", "common"}] == []


def test_every_short_citation_stands_in_the_bibliography() -> None:
    listed = (ROOT / "docs" / "theory" / "bibliography.md").read_text(encoding="utf-8")
    short = re.compile(r"(?:[A-Z]\w+, )*(?:de )?[A-Z]\w+ (?:et al\.|and [A-Z]\w+) \d{4}")
    places = [*SOURCES, *(ROOT / "tests" / "reference").rglob("*.py")]
    cited = {name for path in places for name in short.findall(" ".join(path.read_text(encoding="utf-8").split()))}
    assert {"Kurakin et al. 2017", "Croce and Hein 2021", "Wong, Rice and Kolter 2020", "de Jorge et al. 2022"} <= cited
    assert sorted(name for name in cited if f"| {name} |" not in listed) == []
