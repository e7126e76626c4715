"""Compare two bundles on the examples that they share: paired, so that the examples' own difficulty cancels out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from potemkin.errors import BundleError
from potemkin.evaluate.bundle_read import Bundle
from potemkin.evaluate.record import ExampleLine, Rate
from potemkin.evaluate.statistics import mcnemar


@dataclass(frozen=True)
class Comparison:
    """How two evaluations fare on their common examples; `notes` say what stands in the way of a fair reading.

    n = both_held + only_a + only_b + neither. `p` is McNemar's exact two-sided p of only_a against only_b.
    """

    name_a: str
    name_b: str
    n: int
    both_held: int
    only_a: int
    only_b: int
    neither: int
    p: float
    robust_a: Rate
    robust_b: Rate
    clean_a: Rate
    clean_b: Rate
    notes: tuple[str, ...]
    sentence: str

    def __str__(self) -> str:
        return "\n".join((self.sentence, *(f"note: {note}" for note in self.notes)))


def compare(a: Bundle, b: Bundle) -> Comparison:
    """Pair the examples with the same id and the same label, and test whether one evaluation held more often.

    An example *held* where its outcome is `held`: undecided ones (budget, invalid, error) do not count, as in
    robust accuracy. BundleError where no example is shared, or an id occurs twice.
    """
    paired, common = _pairs(a, b)
    cells = Counter((left.outcome == "held", right.outcome == "held") for left, right in paired)
    n, only_a, only_b = len(paired), cells[True, False], cells[False, True]
    robust_a = Rate.of(cells[True, True] + only_a, n)
    robust_b = Rate.of(cells[True, True] + only_b, n)
    p = mcnemar(only_a, only_b)
    name_a, name_b = _names(a, b)
    return Comparison(
        name_a=name_a,
        name_b=name_b,
        n=n,
        both_held=cells[True, True],
        only_a=only_a,
        only_b=only_b,
        neither=cells[False, False],
        p=p,
        robust_a=robust_a,
        robust_b=robust_b,
        clean_a=Rate.of(sum(_right(left) for left, _ in paired), n),
        clean_b=Rate.of(sum(_right(right) for _, right in paired), n),
        notes=tuple(_notes(a, b, common, n)),
        sentence=_sentence((name_a, robust_a, only_a), (name_b, robust_b, only_b), n, p),
    )


def _pairs(a: Bundle, b: Bundle) -> tuple[list[tuple[ExampleLine, ExampleLine]], int]:
    """The pairs with equal id and label, in the order of `a`, and how many ids are common."""
    lines_a, lines_b = _by_id(a), _by_id(b)
    common = [key for key in lines_a if key in lines_b]
    paired = [(lines_a[key], lines_b[key]) for key in common if lines_a[key].label == lines_b[key].label]
    if not paired:
        raise BundleError(
            f"{a.folder} and {b.folder} share no example with the same id and label ({len(lines_a)} and "
            f"{len(lines_b)} examples, {len(common)} ids in common). Audit both on the same data, with the same "
            "--examples, --sample and --seed."
        )
    return paired, len(common)


def _right(line: ExampleLine) -> bool:
    """Right before the attack; a tie is `clean_wrong` although the label may be the prediction."""
    return line.prediction == line.label and line.outcome != "clean_wrong"


def _by_id(bundle: Bundle) -> dict[int | str, ExampleLine]:
    lines = {line.id: line for line in bundle.lines}
    if len(lines) != len(bundle.lines):
        twice = next(key for key, count in Counter(line.id for line in bundle.lines).items() if count > 1)
        raise BundleError(f"{bundle.folder}: the id {twice!r} occurs twice, so its examples cannot be paired.")
    return lines


def _names(a: Bundle, b: Bundle) -> tuple[str, str]:
    """The models' names where they tell the two apart, else the folders."""
    names = a.record.model.name, b.record.model.name
    return names if names[0] != names[1] else (str(a.folder), str(b.folder))


def _notes(a: Bundle, b: Bundle, common: int, n: int) -> list[str]:
    left, right, notes = a.record, b.record, []
    if n < common:
        notes.append(f"{common - n} examples have the same id but another label, and were left out.")
    if len(a.lines) > common or len(b.lines) > common:
        notes.append(f"{len(a.lines)} and {len(b.lines)} examples were evaluated; {common} are common to both.")
    if left.data.fingerprint != right.data.fingerprint and len(a.lines) == len(b.lines) == common:
        notes.append("The data fingerprints differ: the same ids and labels may stand for other inputs.")
    if left.threat.sentence != right.threat.sentence:
        notes.append(f"The threat models differ: {left.threat.sentence} | {right.threat.sentence}")
    recipes = [[attack.recipe for attack in record.attacks] for record in (left, right)]
    if recipes[0] != recipes[1]:
        notes.append(f"The attacks differ: {', '.join(recipes[0])} | {', '.join(recipes[1])}")
    if left.seed != right.seed:
        notes.append(f"The seeds differ: {left.seed} | {right.seed}")
    for bundle in (a, b):
        if not bundle.record.complete:
            notes.append(f"{bundle.folder} is incomplete: {bundle.record.why_incomplete or 'reason not recorded'}")
        notes += [f"{bundle.folder} has an alarm: {smell.message}" for smell in bundle.record.alarms]
    return notes


def _sentence(left: tuple[str, Rate, int], right: tuple[str, Rate, int], n: int, p: float) -> str:
    (better, rate, won), (other, other_rate, lost) = sorted((left, right), key=lambda side: -side[2])
    shown = "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
    told = (
        f"on {n} common examples the robust accuracy is {_short(rate)} for {better} "
        f"and {_short(other_rate)} for {other}"
    )
    pairs = f"{won} held only in {better}, {lost} only in {other}; McNemar {shown}"
    if p <= 0.05:
        return f"{better} is more robust: {told} ({pairs})."
    return f"No difference shown: {told} ({pairs})."


def _short(rate: Rate) -> str:
    return str(rate).partition(" (n")[0]
