"""The Record: what was evaluated, how it ended and what it cost, as versioned plain data.

    Record
    ├── threat, model, data, seed, settings     what was asked                                            asked.py
    ├── outcomes -> rates                       how the examples ended, and the rates of that partition   rates.py
    ├── attacks                                 what each attack of the cascade contributed               cascade.py
    ├── cost, batch_fill                        counted passes                                            costs.py
    ├── smells, gallery                         what to distrust, what to look at              record.py, lines.py
    └── timing, environment                     the only parts that may differ between two identical runs

Nothing here loads torch or numpy. No number is ever NaN or infinite: what is not known is null.
"""

from __future__ import annotations

import json
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from potemkin.core.outcomes import OUTCOMES, Outcome
from potemkin.errors import BundleError
from potemkin.evaluate.asked import DataInfo, ModelInfo, Settings, ThreatInfo
from potemkin.evaluate.cascade import AttackSummary, contradiction
from potemkin.evaluate.costs import Costs
from potemkin.evaluate.fields import Count, Evidence, Free, Number, Plain, Text, Whole
from potemkin.evaluate.lines import GalleryItem
from potemkin.evaluate.rates import Rates

SCHEMA_VERSION = "1"


class Smell(Plain):
    """A reason to distrust the numbers, with what to do about it."""

    name: Text
    severity: Literal["note", "warning", "alarm"]
    message: Text
    advice: Text
    evidence: Evidence = Field(default_factory=dict)


class Record(Plain):
    """The result of an evaluation. `print(record)` is the verdict; `record.json` holds all of it."""

    schema_version: Literal["1"] = "1"
    potemkin: Text
    complete: bool
    why_incomplete: Text | None = None
    threat: ThreatInfo
    model: ModelInfo
    data: DataInfo
    seed: Whole
    settings: Settings
    attacks: list[AttackSummary]
    outcomes: dict[Outcome, Count]
    rates: Rates
    cost: Costs
    batch_fill: Number
    smells: list[Smell] = Field(default_factory=list)
    gallery: list[GalleryItem] = Field(default_factory=list)
    timing: Free = Field(default_factory=dict)
    environment: Free = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if set(self.outcomes) != set(OUTCOMES):
            raise ValueError(f"outcomes needs exactly the keys {', '.join(OUTCOMES)}; got {', '.join(self.outcomes)}")
        counted = Rates.of(
            {str(name): count for name, count in self.outcomes.items()}, self.rates.attack_success_rate.n
        )
        for name in Rates.model_fields:
            if self.rates[name] != counted[name]:
                raise ValueError(f"{name} is {self.rates[name]}, but the outcomes give {counted[name]}")
        if self.complete and self.n != self.data.examples:
            raise ValueError(f"complete, but {self.n} outcomes for {self.data.examples} examples")
        if why := contradiction(self.attacks, self.outcomes):
            raise ValueError(why)
        return self

    @property
    def n(self) -> int:
        """How many examples have an outcome; smaller than data.examples where the run was cut short."""
        return sum(self.outcomes.values())

    @property
    def alarms(self) -> list[Smell]:
        """The smells that make the verdict untrustworthy."""
        return [smell for smell in self.smells if smell.severity == "alarm"]

    def to_json(self) -> str:
        """record.json: sorted keys, indented, never NaN."""
        return json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)

    def __str__(self) -> str:
        return "\n".join(_verdict_lines(self))


def _verdict_lines(record: Record) -> list[str]:
    rates, useful, physical = record.rates, record.cost.useful, record.cost.physical
    lines = []
    if not record.complete:
        why = record.why_incomplete or "reason not recorded"
        lines.append(f"INCOMPLETE: {record.n} of {record.data.examples} examples are done ({why})")
    lines.append(
        f"robust accuracy {rates.robust_accuracy}, clean accuracy {rates.clean_accuracy}, "
        f"attack success rate {rates.attack_success_rate}"
    )
    if rates.robust_accuracy_upper != rates.robust_accuracy:
        lines.append(f"at most {rates.robust_accuracy_upper} if every undecided example had held")
    lines.append(f"threat: {record.threat.sentence}")
    lines.append(
        f"cost: {useful.forwards} forwards + {useful.backwards} backwards useful, "
        f"{physical.forwards} + {physical.backwards} physical"
    )
    lines += [f"{smell.severity}: {smell.message} {smell.advice}" for smell in record.smells]
    return lines


def parse_record(text: str | bytes, where: str = "record.json") -> Record:
    """The Record from its JSON, or BundleError: not JSON, another schema version, fields missing or unknown."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{where} is not JSON ({problem}). It may be truncated: run the audit again.") from None
    if not isinstance(data, dict):
        raise BundleError(f"{where} holds a JSON {type(data).__name__}, not an object: it is not a potemkin record.")
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{where} has schema_version {version!r:.40}; this potemkin reads {SCHEMA_VERSION!r}. "
            "Read it with the potemkin that wrote it, or run the audit again."
        )
    try:
        return Record.model_validate(data)
    except ValidationError as problem:
        raise BundleError(f"{where} is not a valid record: {explain(problem)}") from None


def explain(problem: ValidationError) -> str:
    """The first few complaints of pydantic in one line."""
    found = problem.errors(include_url=False, include_input=False)
    told = [f"{'.'.join(map(str, item['loc'])) or 'the record'}: {item['msg']}" for item in found[:3]]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return "; ".join(told) + more
