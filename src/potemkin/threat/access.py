"""What the adversary may see of the model, and how often it may ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from potemkin.core.checks import choice, number
from potemkin.core.notation import Noted
from potemkin.core.registry import register

Level: TypeAlias = Literal["gradients", "scores", "decisions"]
LEVELS: tuple[Level, ...] = get_args(Level)  # from the most to the least
_SEEN = {
    "gradients": "gradients visible",
    "scores": "scores visible, no gradients",
    "decisions": "only decisions visible",
}


@register("access")
@dataclass(frozen=True, repr=False)
class Access(Noted):
    """What the adversary sees (gradients, scores or only decisions), and how many queries it has per example.

    Each level includes those after it. `queries` counts forward passes per example; None is without limit.
    Errors: ConfigError for an unknown level or a query limit that is not a positive integer.

    >>> Access("scores", queries=5000).allows("gradients")
    False
    """

    level: Level = "gradients"
    queries: int | None = None

    def __post_init__(self) -> None:
        choice("The level of Access", self.level, LEVELS)
        if self.queries is not None:
            number("The queries of Access (per example; None for no limit)", self.queries, low=1, integer=True)

    def allows(self, asks: Level) -> bool:
        """Whether an attack that asks for `asks` may run under this access."""
        choice("What an attack asks for", asks, LEVELS)
        return LEVELS.index(asks) >= LEVELS.index(self.level)

    def sentence(self) -> str:
        """The access in words, as reports print it."""
        if self.queries is None:
            return f"{_SEEN[self.level]}, unlimited queries"
        noun = "query" if self.queries == 1 else "queries"
        return f"{_SEEN[self.level]}, at most {self.queries:,} {noun} per example"
