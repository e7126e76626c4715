"""The Record: what was evaluated, how it ended and what it cost, as versioned plain data.

    Record
    ├── threat, model, data, seed, settings     what was asked
    ├── outcomes -> rates                       how every example ended, and the rates computed from that partition
    ├── attacks                                 what each attack of the cascade contributed
    ├── cost, batch_fill                        counted passes
    ├── smells, gallery                         what to distrust, what to look at
    └── timing, environment                     the only parts that may differ between two identical runs

Nothing here loads torch or numpy. No number is ever NaN or infinite: what is not known is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from potemkin.errors import BundleError
from potemkin.evaluate.statistics import wilson

SCHEMA_VERSION = "1"

Outcome = Literal["clean_wrong", "broken", "budget", "held", "invalid", "error"]
OUTCOMES: tuple[Outcome, ...] = ("clean_wrong", "broken", "budget", "held", "invalid", "error")


def _finite_or_none(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _printable(value: object) -> object:
    """Lone surrogates (undecodable file names) cannot be written as UTF-8: show them escaped."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _plain(value: object) -> object:
    """Free dictionaries, at any depth: text keys, no NaN, nothing that JSON cannot say."""
    if isinstance(value, Mapping):
        return {str(_printable(str(key))): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | bool | int) or value is None:
        return _printable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _printable(str(value))


Number = Annotated[float | None, BeforeValidator(_finite_or_none)]
Text = Annotated[str, BeforeValidator(_printable)]
ExampleId = Annotated[int | str, BeforeValidator(_printable)]
Count = Annotated[int, Field(ge=0)]
Free = Annotated[dict[str, Any], BeforeValidator(_plain)]


class Plain(BaseModel):
    """Base of all parts of a Record: frozen, and a field that is not declared is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Rate(Plain):
    """A rate with its denominator and its 95 % Wilson interval; all null but n where n = 0."""

    value: Number
    n: Count
    low: Number
    high: Number

    @classmethod
    def of(cls, k: int, n: int) -> Self:
        """The rate k / n.

        >>> print(Rate.of(462, 1000))
        46.2 % [43.1, 49.3] (n = 1000)
        """
        if n == 0:
            return cls(value=None, n=0, low=None, high=None)
        low, high = wilson(k, n)
        return cls(value=k / n, n=n, low=low, high=high)

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return f"not measured (n = {self.n})"
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] (n = {self.n})"


class Rates(Plain):
    """The rates of an evaluation. `robust_accuracy` is the lower bound: only examples that held count."""

    clean_accuracy: Rate
    robust_accuracy: Rate
    robust_accuracy_upper: Rate
    attack_success_rate: Rate

    @classmethod
    def of(cls, outcomes: Mapping[str, int], clean_right: int) -> Self:
        """Rates from the partition; `clean_right` counts the examples that were right before any attack.

        clean_accuracy = clean_right / n, robust_accuracy = held / n, its upper bound
        (held + budget + invalid + error) / n, attack_success_rate = broken / clean_right.
        The upper bound never passes the clean accuracy: an example with an error before the attack was not right.
        """
        n = sum(outcomes.values())
        held, broken = outcomes.get("held", 0), outcomes.get("broken", 0)
        undecided = sum(outcomes.get(name, 0) for name in ("budget", "invalid", "error"))
        return cls(
            clean_accuracy=Rate.of(clean_right, n),
            robust_accuracy=Rate.of(held, n),
            robust_accuracy_upper=Rate.of(held + undecided, n),
            attack_success_rate=Rate.of(broken, clean_right),
        )

    def __getitem__(self, name: str) -> Rate:
        """The rate by its name (gates on the command line); KeyError for another name."""
        if name not in type(self).model_fields:
            raise KeyError(name)
        rate: Rate = getattr(self, name)
        return rate


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


class AttackSummary(Plain):
    """What one attack of the cascade contributed."""

    recipe: Text
    order: Count
    tried: Count
    jobs: Count
    broken: Count
    invalid_claims: Count = 0
    robust_accuracy_after: Rate
    cost: Cost


class Smell(Plain):
    """A reason to distrust the numbers, with what to do about it."""

    name: Text
    severity: Literal["note", "warning", "alarm"]
    message: Text
    advice: Text
    evidence: Annotated[dict[str, int | float | str], BeforeValidator(_plain)] = {}


class ThreatInfo(Plain):
    """The threat model as data. A side of the box that is unbounded is null."""

    sentence: Text
    notation: Text
    norm: Text
    eps: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    goal: Text
    access: Text
    eight_bit: bool
    box: tuple[Number, Number]


class ModelInfo(Plain):
    """Which model."""

    name: Text
    fingerprint: Text
    parameters: Count
    classes: Count
    input_shape: list[Count]
    preprocessing: Text | None = None
    one_logit: bool = False


class DataInfo(Plain):
    """Which examples: `examples` were chosen out of `total`, `sample` says how."""

    name: Text
    fingerprint: Text
    total: Count
    examples: Count
    sample: Text
    class_names: list[Text] | None = None


class Settings(Plain):
    """What the engine ran with; outcomes are promised identical at equal settings."""

    rows: Count
    stride: Count
    verify_rows: Count
    retire_cycles: bool
    dtype: Text
    device_type: Text


class GalleryItem(Plain):
    """An example that the report shows; `index` is its row in gallery_clean and gallery_attempt."""

    id: ExampleId
    index: Count
    label: int
    clean_prediction: int
    attack_prediction: int | None
    clean_confidence: Number
    attack_confidence: Number
    outcome: Outcome
    distance: Number
    broken_by: Text | None


class ExampleLine(Plain):
    """One line of examples.jsonl.

    clean_confidence is the softmax of the label's class on the clean input, attack_confidence that of the predicted
    class under attack. Where the example stood among the others is not part of the line, so that lines are identical
    whatever the order and the company: `position` (in the data) stands in adversarials.safetensors, and `adversarial`
    (the row of its tensor `inputs`) is the number of broken lines before this one.
    """

    id: ExampleId
    position: Annotated[int, Field(ge=0, exclude=True)] = 0
    label: int
    prediction: int
    outcome: Outcome
    why: Text | None = None
    broken_by: Text | None = None
    restart: int | None = None
    target: int | None = None
    distance: Number = None
    attack_prediction: int | None = None
    clean_confidence: Number = None
    attack_confidence: Number = None
    forwards: Count = 0
    backwards: Count = 0
    queries: Count = 0
    adversarial: Annotated[int | None, Field(ge=0, exclude=True)] = None


class Record(Plain):
    """The result of an evaluation. `print(record)` is the verdict; `record.json` holds all of it."""

    schema_version: Literal["1"] = "1"
    potemkin: Text
    complete: bool
    why_incomplete: Text | None = None
    threat: ThreatInfo
    model: ModelInfo
    data: DataInfo
    seed: int
    settings: Settings
    attacks: list[AttackSummary]
    outcomes: dict[Outcome, Count]
    rates: Rates
    cost: Costs
    batch_fill: Number
    smells: list[Smell] = []
    gallery: list[GalleryItem] = []
    timing: Free = {}
    environment: Free = {}

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
