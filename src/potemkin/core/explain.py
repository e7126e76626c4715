"""What messages are made of: other people's exceptions in a sentence, names in a row, counts with their noun."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line that says something, without its full stop and no longer than a paragraph bears."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0] if lines else "no message"
    return (said if len(said) <= 240 else f"{said[:237]}...").rstrip(".")


def listed(names: list[str], most: int = 6) -> str:
    """Names in quotes, the first few of many: "'a', 'b' and 3 more"."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def counted(number: int, noun: str) -> str:
    """How many there are, with the noun's plural where it is not one.

    >>> counted(1, "thread"), counted(2, "thread"), counted(0, "class"), counted(3, "query")
    ('1 thread', '2 threads', '0 classes', '3 queries')
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}es" if noun.endswith("s") else f"{number} {noun}s"
