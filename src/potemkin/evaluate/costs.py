"""Counted passes: what the examples needed, and all that was computed."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from potemkin.evaluate.fields import Count, Plain


class Cost(Plain):
    """Counted passes. forward_equivalents = forwards + backwards, since backwards are input-only."""

    forwards: Count = 0
    backwards: Count = 0
    queries: Count = 0
    forward_equivalents: Count = 0

    @model_validator(mode="before")
    @classmethod
    def _fill_equivalents(cls, data: Any) -> Any:
        if isinstance(data, dict) and "forward_equivalents" not in data:
            return {**data, "forward_equivalents": data.get("forwards", 0) + data.get("backwards", 0)}
        return data

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            forwards=self.forwards + other.forwards,
            backwards=self.backwards + other.backwards,
            queries=self.queries + other.queries,
            forward_equivalents=self.forward_equivalents + other.forward_equivalents,
        )


class PurposeCosts(Plain):
    """Physical passes by what they were for."""

    clean: Cost = Cost()
    search: Cost = Cost()
    verify: Cost = Cost()
    check: Cost = Cost()


class Costs(Plain):
    """useful: what the examples themselves needed; physical: all rows computed, padding and checks included."""

    useful: Cost
    physical: Cost
    speculative: Cost = Cost()
    by_purpose: PurposeCosts = PurposeCosts()
