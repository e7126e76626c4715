"""Other people's exceptions, told in a sentence."""

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
