"""Gates: a rate that must not be under, or over, a limit; the exit code says whether all were passed.

A rate beside an alarm passes no gate, whatever it is: the alarm says that it does not mean what it seems to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from potemkin.cli.options import GATES
from potemkin.errors import ConfigError, suggest

if TYPE_CHECKING:
    from potemkin.evaluate.rates import Rates
    from potemkin.evaluate.record import Record, Smell


@dataclass(frozen=True)
class Gate:
    """A limit on one of the record's rates. A rate that was not measured passes no gate."""

    side: Literal["under", "over"]
    name: str
    limit: float

    def passes(self, rates: Rates) -> bool:
        """Whether the rate is on the right side; on the limit itself it is."""
        value = rates[self.name].value
        if value is None:
            return False
        return value >= self.limit if self.side == "under" else value <= self.limit

    def sentence(self, rates: Rates, alarms: Sequence[Smell] = ()) -> str:
        """How the gate ended: the verdict, what was asked, what was found."""
        verdict = "passed" if self.passes(rates) and not alarms else "FAILED"
        asked = "at least" if self.side == "under" else "at most"
        value = rates[self.name].value
        found = "was not measured" if value is None else f"is {100 * value:.4g} %"
        return f"gate {verdict}: {self.name} {found}, wanted {asked} {100 * self.limit:.4g} %"


def all_passed(gates: Sequence[Gate], record: Record) -> bool:
    """Whether the record passes: every rate on its right side, and no alarm beside them."""
    return all(gate.passes(record.rates) for gate in gates) and not (gates and record.alarms)


def because_of(alarms: Sequence[Smell]) -> str:
    """Why gates fail whose rates are on the right side."""
    names = ", ".join(alarm.name for alarm in alarms)
    return f"gates FAILED for the alarm{'s' if len(alarms) > 1 else ''} {names}: rates with alarms pass no gate"


_UNDER = (
    "NAME=VALUE, such as robust_accuracy=0.40: exit code 1 where the rate is lower, or where any alarm is raised. May "
    "be repeated. robust_accuracy is held / n: what is undecided does not count for the model."
)
_OVER = (
    "NAME=VALUE, such as attack_success_rate=0.5: exit code 1 where the rate is higher, or where any alarm is raised. "
    "May be repeated."
)


@Parameter(name="*", group=GATES)
@dataclass(frozen=True)
class GateOptions:
    """When the exit code is 1."""

    fail_under: Annotated[list[str] | None, Parameter(negative="", help=_UNDER)] = None
    fail_over: Annotated[list[str] | None, Parameter(negative="", help=_OVER)] = None

    def gates(self) -> list[Gate]:
        """The gates; ConfigError for a name that is no rate, or a limit that is none."""
        return [
            *(_gate("under", text) for text in self.fail_under or ()),
            *(_gate("over", text) for text in self.fail_over or ()),
        ]


def _gate(side: Literal["under", "over"], text: str) -> Gate:
    from potemkin.evaluate.rates import Rates

    name, equals, value = (part.strip() for part in text.partition("="))
    names: Sequence[str] = list(Rates.model_fields)
    if name not in names:
        raise ConfigError(
            f"--fail-{side} {text!r}: there is no rate {name!r}.{suggest(name, names)} Rates: {', '.join(names)}; "
            f"for example --fail-{side} robust_accuracy=0.40."
        )
    if not equals:
        raise ConfigError(f"--fail-{side} {text!r} has no value: give NAME=VALUE, such as {name}=0.40.")
    return Gate(side, name, _limit(side, text, value))


def _limit(side: str, text: str, value: str) -> float:
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if 0 <= limit <= 1:
        return limit
    percent = f" Did you mean {limit / 100:g}?" if 1 < limit <= 100 else ""
    raise ConfigError(f"--fail-{side} {text!r}: {value!r} is no limit; give a number from 0 to 1.{percent}")
