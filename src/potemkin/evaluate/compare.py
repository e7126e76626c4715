"""Compare two bundles on the examples that they share: paired, so that the examples' own difficulty cancels out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from potemkin.core.explain import counted
from potemkin.errors import BundleError
from potemkin.evaluate.bundle_read import Bundle, read_bundle
from potemkin.evaluate.lines import ExampleLine
from potemkin.evaluate.rates import Rate
from potemkin.evaluate.record import Record
from potemkin.evaluate.statistics import mcnemar


@dataclass(frozen=True)
class Comparison:
    """How two evaluations fare on their common examples; `notes` say what stands in the way of a fair reading.

    n = both_held + only_a + only_b + neither. `p` is McNemar's exact two-sided p of only_a against only_b.
    `differences` names what forbids the comparison ("attacks", "threat models", "data"): then neither model was shown
    to be more robust, whatever p is.
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
    same_model: bool
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    sentence: str

    @property
    def comparable(self) -> bool:
        """Whether attacks, threat model and data agree; settings and seed are not asked about."""
        return not self.differences

    def __str__(self) -> str:
        return "\n".join((self.sentence, *(f"note: {note}" for note in self.notes)))


def compare(a: Bundle | str | Path, b: Bundle | str | Path) -> Comparison:
    """Pair the examples with the same id and the same label, and test whether one evaluation held more often.

    Each is a run folder, or what `read_bundle` returned.

    An example *held* where its outcome is `held`: undecided ones (budget, invalid, error) do not count, as in
    robust accuracy. BundleError where no example is shared, an id occurs twice, or the inputs differ in size.
    """
    a, b = (given if isinstance(given, Bundle) else read_bundle(given) for given in (a, b))
    paired, common = _pairs(a, b)
    cells = Counter((left.outcome == "held", right.outcome == "held") for left, right in paired)
    n, only_a, only_b = len(paired), cells[True, False], cells[False, True]
    robust_a = Rate.of(cells[True, True] + only_a, n)
    robust_b = Rate.of(cells[True, True] + only_b, n)
    p = mcnemar(only_a, only_b)
    name_a, name_b = _names(a, b)
    same = a.record.model.fingerprint == b.record.model.fingerprint
    differences = tuple(_differences(a, b, common, n))
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
        same_model=same,
        differences=differences,
        notes=tuple(_notes(a, b, common, n)),
        sentence=_sentence((name_a, robust_a, only_a), (name_b, robust_b, only_b), n, p, same, differences),
    )


def _pairs(a: Bundle, b: Bundle) -> tuple[list[tuple[ExampleLine, ExampleLine]], int]:
    """The pairs with equal id and label, in the order of `a`, and how many ids are common."""
    lines_a, lines_b = _by_id(a), _by_id(b)
    common = [key for key in lines_a if key in lines_b]
    paired = [(lines_a[key], lines_b[key]) for key in common if lines_a[key].label == lines_b[key].label]
    shapes = a.record.model.input_shape, b.record.model.input_shape
    if math.prod(shapes[0]) != math.prod(shapes[1]):
        raise BundleError(
            f"{a.folder} and {b.folder} are about different inputs, of shapes {shapes[0]} and {shapes[1]}: examples of "
            "the same id have nothing in common. Compare runs on the same data."
        )
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


def _differences(a: Bundle, b: Bundle, common: int, n: int) -> list[str]:
    """What forbids to lay the two rates at the models' door."""
    left, right = a.record, b.record
    found = []
    if _recipes(left) != _recipes(right):
        found.append("attacks")
    if left.threat.sentence != right.threat.sentence:
        found.append("threat models")
    if n < common or left.model.input_shape != right.model.input_shape or _other_inputs(a, b, common):
        found.append("data")
    return found


def _recipes(record: Record) -> list[str]:
    """In the order of the alphabet: that of the cascade follows from the costs, and changes no outcome's meaning."""
    return sorted(attack.recipe for attack in record.attacks)


def _other_inputs(a: Bundle, b: Bundle, common: int) -> bool:
    """Of the same choice of examples, the fingerprints must agree; of others they cannot."""
    return len(a.lines) == len(b.lines) == common and a.record.data.fingerprint != b.record.data.fingerprint


def _notes(a: Bundle, b: Bundle, common: int, n: int) -> list[str]:
    left, right, notes = a.record, b.record, []
    if left.model.fingerprint == right.model.fingerprint:
        notes.append("Both runs are of the same model: the fingerprints agree.")
    if left.model.input_shape != right.model.input_shape:
        notes.append(f"The inputs' shapes differ: {left.model.input_shape} | {right.model.input_shape}")
    if n < common:
        notes.append(
            f"{counted(common - n, 'example')} {'has' if common - n == 1 else 'have'} the same id but another label: "
            "left out."
        )
    if len(a.lines) > common or len(b.lines) > common:
        notes.append(f"{len(a.lines)} and {len(b.lines)} examples were evaluated; {common} are common to both.")
    if _other_inputs(a, b, common):
        notes.append("The data fingerprints differ: the same ids and labels may stand for other inputs.")
    if left.threat.sentence != right.threat.sentence:
        notes.append(f"The threat models differ: {left.threat.sentence} | {right.threat.sentence}")
    if _recipes(left) != _recipes(right):
        notes.append(f"The attacks differ: {', '.join(_recipes(left))} | {', '.join(_recipes(right))}")
    if left.seed != right.seed:
        notes.append(f"The seeds differ: {left.seed} | {right.seed}")
    for bundle in (a, b):
        if not bundle.record.complete:
            notes.append(f"{bundle.folder} is incomplete: {bundle.record.why_incomplete or 'reason not recorded'}")
        grave = [smell for smell in bundle.record.smells if smell.severity != "note"]
        notes += [f"{bundle.folder}: {smell.severity} {smell.name}: {smell.message}" for smell in grave]
    return notes


def _sentence(
    left: tuple[str, Rate, int],
    right: tuple[str, Rate, int],
    n: int,
    p: float,
    same_model: bool,
    differences: tuple[str, ...],
) -> str:
    (better, rate, won), (other, other_rate, lost) = sorted((left, right), key=lambda side: -side[2])
    shown = "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
    told = (
        f"on {n} common examples the robust accuracy is {rate.short()} for {better} "
        f"and {other_rate.short()} for {other}"
    )
    pairs = f"{won} held only in {better}, {lost} only in {other}; McNemar {shown}"
    if differences:
        reasons = " and ".join(f"the {name} differ" for name in differences)
        what = "The two runs of one model" if same_model else f"{left[0]} and {right[0]}"
        return f"{what} are not comparable, because {reasons}: {told} ({pairs})."
    if p <= 0.05 and same_model:
        return f"The same model, with the same attacks, came out differently: {told} ({pairs})."
    if p <= 0.05:
        return f"{better} is more robust: {told} ({pairs})."
    return f"No difference shown: {told} ({pairs})."
