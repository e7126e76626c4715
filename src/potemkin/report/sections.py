"""What the templates need beyond the Record: rows, bars and pictures, section by section."""

from __future__ import annotations

from dataclasses import dataclass

from potemkin.core.outcomes import Outcome
from potemkin.evaluate.bundle import Bundle
from potemkin.evaluate.cascade import AttackSummary
from potemkin.evaluate.costs import Cost
from potemkin.evaluate.lines import GalleryItem
from potemkin.evaluate.rates import Rate
from potemkin.evaluate.record import Record
from potemkin.report import words
from potemkin.report.charts import Histogram, Segment, Step, histogram, shares, stack, step
from potemkin.report.pictures import Changes, Triptych, changes, is_picture, triptychs
from potemkin.report.typeset import shown


@dataclass(frozen=True)
class Section:
    """A section of the page: its id, its title in the navigation, and the template that draws it."""

    id: str
    title: str
    template: str


CONTENTS = (
    Section("verdict", "Verdict", "verdict.jinja"),
    Section("outcomes", "Outcomes", "outcomes.jinja"),
    Section("attacks", "Attacks", "attacks.jinja"),
    Section("cost", "Cost", "cost.jinja"),
    Section("confidence", "Confidence", "confidence.jinja"),
    Section("gallery", "Gallery", "gallery.jinja"),
    Section("distance", "Distance", "distance.jinja"),
    Section("smells", "Smells", "smells.jinja"),
    Section("provenance", "Provenance", "provenance.jinja"),
    Section("examples", "Examples", "examples.jinja"),
    Section("words", "Words", "glossary.jinja"),
)
"""The page in its order: the navigation and the includes are made from this."""

HOUSES = 20
FEW = 200
"""Below this many examples the interval is wide: at 50 %, more than 13 points."""


@dataclass(frozen=True)
class OutcomeRow:
    """An outcome of the partition with its share of all examples."""

    meaning: words.Meaning[Outcome]
    count: int
    share: Rate


def outcome_rows(record: Record) -> list[OutcomeRow]:
    """All six outcomes, the undecided ones too when there are none, so that the reader sees that there are none."""
    counts = _counts(record)
    return [
        OutcomeRow(meaning, counts[meaning.term], Rate.of(counts[meaning.term], record.n)) for meaning in words.OUTCOMES
    ]


def outcome_bar(record: Record) -> list[Segment]:
    """The partition as one stacked bar."""
    return stack([(row.meaning.term, row.count) for row in outcome_rows(record)])


def street(record: Record) -> dict[str, int]:
    """The partition as a street of houses; the undecided outcomes share one kind."""
    counts = {"held": 0, "undecided": 0, "broken": 0, "clean_wrong": 0}
    for name, n in _counts(record).items():
        counts[name if name in counts else "undecided"] += n
    return shares(counts, HOUSES)


@dataclass(frozen=True)
class AttackRow:
    """An attack of the cascade: its step on the staircase and its cost bar."""

    number: int
    summary: AttackSummary
    step: Step
    cost: list[Segment]

    @property
    def per_example(self) -> float | None:
        """Forward-equivalents per example that it was tried on."""
        return self.summary.cost.forward_equivalents / self.summary.tried if self.summary.tried else None


def attack_rows(record: Record) -> list[AttackRow]:
    """The attacks in the order in which they ran, each with the step from the one before it."""
    rows, before = [], record.rates.clean_accuracy
    summaries = sorted(record.attacks, key=lambda summary: summary.order)
    dearest = max((summary.cost.forward_equivalents for summary in summaries), default=0)
    for number, summary in enumerate(summaries, start=1):
        after = summary.robust_accuracy_after
        rows.append(AttackRow(number, summary, step(after, before), _passes(summary.cost, dearest)))
        before = after
    return rows


@dataclass(frozen=True)
class CostRow:
    """A total and its bar."""

    name: str
    text: str
    cost: Cost
    bar: list[Segment]


def cost_rows(record: Record) -> list[CostRow]:
    """Useful, speculative and physical passes on one scale."""
    costs, told = record.cost, {meaning.term: meaning for meaning in words.GLOSSARY}
    named = [("useful", costs.useful), ("speculative", costs.speculative), ("physical", costs.physical)]
    most = max(cost.forward_equivalents for _, cost in named)
    return [CostRow(told[term].name, told[term].text, cost, _passes(cost, most)) for term, cost in named]


def purpose_rows(record: Record) -> list[CostRow]:
    """The physical passes by what they were for."""
    costs = [(name, getattr(record.cost.by_purpose, name)) for name in words.PURPOSES]
    most = max(cost.forward_equivalents for _, cost in costs)
    return [CostRow(name, words.PURPOSES[name], cost, _passes(cost, most)) for name, cost in costs]


def _passes(cost: Cost, most: int) -> list[Segment]:
    return stack([("forwards", cost.forwards), ("backwards", cost.backwards)], max(most, 1))


@dataclass(frozen=True)
class Distribution:
    """A histogram with what it shows."""

    name: str
    text: str
    kind: str
    histogram: Histogram


def confidences(bundle: Bundle) -> list[Distribution]:
    """Confidence before the attack, and under it for what broke and for what held."""
    of = bundle.lines
    before = [line.clean_confidence for line in of if line.outcome != "clean_wrong"]
    broken = [line.attack_confidence for line in of if line.outcome == "broken"]
    held = [line.attack_confidence for line in of if line.outcome == "held"]
    parts = [
        ("Before", "Confidence in the true class on clean inputs, examples that were right", "clean", before),
        ("After, broken", "Confidence in the wrong class under attack, broken examples", "broken", broken),
        ("After, held", "Confidence in the predicted class at the best attempt, held examples", "held", held),
    ]
    return [Distribution(name, text, kind, histogram(values, 0.0, 1.0)) for name, text, kind, values in parts if values]


def distances(bundle: Bundle) -> Distribution | None:
    """Distances of the broken examples, on an axis that ends at eps or at the farthest."""
    found = [line.distance for line in bundle.lines if line.outcome == "broken"]
    end = max([bundle.record.threat.eps, *(value for value in found if value is not None)])
    if not found or end <= 0.0:
        return None
    text = (
        f"{shown(bundle.record.threat.norm, 20)} distance between the clean input and the adversarial, broken examples"
    )
    return Distribution("Distance", text, "broken", histogram(found, 0.0, end))


@dataclass(frozen=True)
class Specimen:
    """An example of the gallery, as pictures or as bars."""

    item: GalleryItem
    pictures: Triptych | None
    changes: Changes | None


@dataclass(frozen=True)
class Room:
    """The gallery's examples of one outcome."""

    outcome: str
    title: str
    specimens: list[Specimen]
    total: int


def gallery(bundle: Bundle) -> list[Room]:
    """The kept examples by outcome, broken ones first."""
    items = bundle.record.gallery
    if not items:
        return []
    clean, attempt = bundle.tensor("gallery_clean"), bundle.tensor("gallery_attempt")
    pairs = [(clean[item.index], attempt[item.index]) for item in items]
    if is_picture(tuple(bundle.record.model.input_shape)):
        drawn = triptychs(pairs, bundle.record.threat.box)
        specimens = [Specimen(item, pictures, None) for item, pictures in zip(items, drawn, strict=True)]
    else:
        specimens = [Specimen(item, None, changes(*pair)) for item, pair in zip(items, pairs, strict=True)]
    rooms = []
    for outcome, title in (("broken", "Broken"), ("held", "Held")):
        kept = [specimen for specimen in specimens if specimen.item.outcome == outcome]
        if kept:
            rooms.append(Room(outcome, title, kept, bundle.record.outcomes[kept[0].item.outcome]))
    return rooms


def next_steps(record: Record) -> list[str]:
    """What a careful reader would do now, most urgent first."""
    return [text for applies, text in (*_before_believing(record), *_to_learn_more(record)) if applies]


def _before_believing(record: Record) -> list[tuple[bool, str]]:
    """What is missing before the numbers say anything."""
    o = record.outcomes
    searches = [summary for summary in record.attacks if summary.tried]
    return [
        (not record.complete, "Run the audit to its end: what is shown covers only the examples that were finished."),
        (bool(record.alarms), "Mend what the alarms name, then audit again: until then the rates mean little."),
        (
            any(smell.severity == "warning" for smell in record.smells),
            "Read the warnings among the smells below: each says what to do about it.",
        ),
        (
            0 < record.n == o["clean_wrong"],
            "Nothing was right before the attack, so nothing was attacked: check the labels, the preprocessing and the "
            "weights.",
        ),
        (
            bool(searches) and all(summary.cost.backwards == 0 for summary in searches),
            "No attack used gradients: what withstands these may fall at once to one that does. Whoever has the "
            "weights has gradients: add apgd(), with Access('gradients').",
        ),
        (o["budget"] > 0, "Give the examples that ran out of budget more queries, or read the upper bound as well."),
        (o["invalid"] + o["error"] > 0, "Look into the invalid and error examples: examples.jsonl says why for each."),
    ]


def _to_learn_more(record: Record) -> list[tuple[bool, str]]:
    """What the result itself suggests."""
    o, robust = record.outcomes, record.rates.robust_accuracy
    between = f"{100 * (robust.low or 0):.0f} and {100 * (robust.high or 0):.0f} %"
    return [
        (
            o["held"] > 0 and o["broken"] == 0,
            "Nothing broke. Audit again at a much larger eps, where any model must fail: if this one still holds, the "
            "attacks are not working on it, and the number says nothing.",
        ),
        (
            o["held"] > 0 and len(record.attacks) < 2,
            "Add a second, different attack, such as apgd(): one alone flatters a model that resists just that one.",
        ),
        (
            o["held"] == 0 and o["broken"] > 0,
            "Nothing held at this eps: audit at smaller ones to see where the model begins to fail. A model that was "
            "never trained to resist falls early; adversarial training is the usual remedy.",
        ),
        (
            0 < record.n < FEW,
            f"Audit more examples: by chance alone, {record.n} leave the robust accuracy anywhere between {between}.",
        ),
        (
            o["broken"] > 0,
            "Have somebody else run potemkin verify on this folder: it checks every adversarial example again.",
        ),
    ]


def _counts(record: Record) -> dict[str, int]:
    return {str(name): n for name, n in record.outcomes.items()}
