"""Memory that ran out, however it is said."""

from __future__ import annotations

from collections.abc import Iterator

WORDS = ("not enough memory", "can't allocate memory", "out of memory")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch says so on the CPU in words only, and a model's failure hides it in its cause."""
    return any(
        isinstance(link, MemoryError)
        or type(link).__name__ == "OutOfMemoryError"
        or (type(link) is RuntimeError and any(word in str(link) for word in WORDS))
        for link in chain(error)
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        yield link
        link = link.__cause__
