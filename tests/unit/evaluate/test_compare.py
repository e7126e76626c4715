"""Comparing two bundles: paired by id and label, the counts of the four cells, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from bundles import line_of, record_of, write_bundle
from potemkin.cli.compare import as_data
from potemkin.errors import BundleError
from potemkin.evaluate.bundle import Bundle, read_bundle
from potemkin.evaluate.compare import compare
from potemkin.evaluate.rates import Rate
from potemkin.evaluate.record import Smell


def bundle(name: str, outcomes: Iterable[str], *, first_id: int = 0, labels: Any = None, **other: Any) -> Bundle:
    rng = np.random.default_rng(0)
    lines = [
        line_of(
            i,
            outcome,
            rng,
            id=first_id + i,
            label=labels[i] if labels else 1,
            prediction=2 if outcome == "clean_wrong" else 1,
        )
        for i, outcome in enumerate(outcomes)
    ]
    record = record_of(lines, (1, 8, 8), **other)
    return Bundle(
        Path(name),
        record.model_copy(
            update={"model": record.model.model_copy(update={"name": name, "fingerprint": f"sha256:{name}"})}
        ),
        lines,
    )


def outcomes(pattern: str) -> list[str]:
    names = {"h": "held", "b": "broken", "w": "clean_wrong", "q": "budget"}
    return [names[char] for char in pattern]


def test_the_four_cells_and_the_test() -> None:
    a = bundle("stone", outcomes("h" * 20 + "h" * 15 + "b" * 5 + "b" * 6 + "w" * 4))
    b = bundle("facade", outcomes("h" * 20 + "b" * 15 + "h" * 5 + "b" * 6 + "w" * 4))
    result = compare(a, b)
    assert (result.n, result.both_held, result.only_a, result.only_b, result.neither) == (50, 20, 15, 5, 10)
    assert result.p == pytest.approx(binomtest(5, 20).pvalue)
    assert (result.robust_a, result.robust_b) == (Rate.of(35, 50), Rate.of(25, 50))
    assert (result.clean_a, result.clean_b) == (Rate.of(46, 50), Rate.of(46, 50))
    assert result.sentence.startswith("stone is more robust: on 50 common examples")
    assert "70.0 %" in result.sentence
    assert "p = 0.041" in result.sentence


def test_the_better_one_is_named_whichever_comes_first() -> None:
    a, b = bundle("facade", outcomes("b" * 20 + "h" * 5)), bundle("stone", outcomes("h" * 25))
    assert compare(a, b).sentence.startswith("stone is more robust")
    assert compare(b, a).sentence.startswith("stone is more robust")
    assert (compare(a, b).only_a, compare(a, b).only_b) == (0, 20)


def test_no_difference_is_not_called_one() -> None:
    result = compare(bundle("a", outcomes("hhhb")), bundle("b", outcomes("hhbb")))
    assert result.p == 1.0
    assert result.sentence.startswith("No difference shown")


def test_undecided_does_not_count_as_held() -> None:
    result = compare(bundle("a", outcomes("qh")), bundle("b", outcomes("hh")))
    assert (result.both_held, result.only_b, result.robust_a) == (1, 1, Rate.of(1, 2))


def test_a_tie_is_not_right_although_its_label_is_the_prediction() -> None:
    a, b = (bundle(name, outcomes("hhbw")) for name in ("a", "b"))
    tied = [line.model_copy(update={"prediction": line.label}) for line in a.lines]
    result = compare(Bundle(a.folder, a.record, tied), b)
    assert (result.clean_a, result.clean_b) == (Rate.of(3, 4), Rate.of(3, 4))


def test_only_common_examples_with_the_same_label_count() -> None:
    a = bundle("a", outcomes("hhhh"), labels=[0, 1, 2, 3])
    b = bundle("b", outcomes("bbbb"), first_id=1, labels=[1, 2, 9, 4])
    result = compare(a, b)
    assert (result.n, result.only_a) == (2, 2)
    assert any("1 example has the same id but another label" in note for note in result.notes)
    assert any("3 are common" in note for note in result.notes)


def test_everything_that_makes_it_unfair_is_told() -> None:
    a = bundle("a", outcomes("hb"))
    r = a.record
    alarm = Smell(name="softmax", severity="alarm", message="Probabilities.", advice="x")
    b = bundle(
        "b",
        outcomes("hb"),
        seed=7,
        smells=[
            alarm,
            Smell(name="train", severity="warning", message="Dropout.", advice="x"),
            Smell(name="few", severity="note", message="Small.", advice="x"),
        ],
        complete=False,
        why_incomplete="stopped",
        attacks=[r.attacks[0].model_copy(update={"recipe": "fgsm()"}), r.attacks[1]],
        threat=r.threat.model_copy(update={"sentence": "another threat"}),
        data=r.data.model_copy(update={"fingerprint": "sha256:other"}),
    )
    notes = "\n".join(compare(a, b).notes)
    for told in ("fingerprints differ", "another threat", "attacks differ", "seeds differ", "incomplete: stopped"):
        assert told in notes
    assert "b: alarm softmax: Probabilities." in notes
    assert "b: warning train: Dropout." in notes and "Small." not in notes
    assert compare(a, a).notes == ("Both runs are of the same model: the fingerprints agree.",)
    assert "note: " in str(compare(a, b))


def changed(made: Bundle, **other: Any) -> Bundle:
    return Bundle(made.folder, made.record.model_copy(update=other), made.lines)


@pytest.mark.parametrize("reason", ["attacks", "threat models", "data", "data (shape)", "data (labels)"])
def test_what_else_differs_forbids_a_verdict(reason: str) -> None:
    """The counts are those of a clear difference; it may be the attack's, the threat model's or the data's."""
    a, b = bundle("stone", outcomes("h" * 25)), bundle("facade", outcomes("b" * 20 + "h" * 5))
    r = a.record
    assert compare(a, b).comparable and compare(a, b).sentence.startswith("stone is more robust")
    other = {
        "attacks": lambda: changed(a, attacks=r.attacks[:1]),
        "threat models": lambda: changed(a, threat=r.threat.model_copy(update={"sentence": "less"})),
        "data": lambda: changed(a, data=r.data.model_copy(update={"fingerprint": "sha256:x"})),
        "data (shape)": lambda: changed(a, model=r.model.model_copy(update={"input_shape": [64]})),
        "data (labels)": lambda: bundle("stone", outcomes("h" * 25), labels=[1] * 24 + [2]),
    }[reason]()
    for found in (compare(other, b), compare(b, other)):
        named = reason.partition(" (")[0]
        assert found.differences == (named,) and not found.comparable and found.p < 0.05
        assert f"are not comparable, because the {named} differ: " in found.sentence
        assert "more robust" not in found.sentence and "held only in stone" in found.sentence
        assert as_data(found)["comparable"] is False and list(as_data(found)["differences"]) == [named]  # type: ignore[call-overload]


def test_the_order_of_a_cascade_is_no_difference() -> None:
    a, b = bundle("a", outcomes("hb")), bundle("b", outcomes("hb"))
    assert compare(a, changed(b, attacks=b.record.attacks[::-1])).comparable


def test_a_model_is_not_more_robust_than_itself() -> None:
    a, b = bundle("m", outcomes("h" * 25)), bundle("m", outcomes("b" * 20 + "h" * 5))
    found = compare(a, Bundle(Path("runs/b"), b.record, b.lines))
    assert found.same_model and found.sentence.startswith("The same model, with the same attacks, came out differently")
    weak = Bundle(Path("runs/b"), changed(b, attacks=b.record.attacks[:1]).record, b.lines)
    assert compare(a, weak).sentence.startswith("The two runs of one model are not comparable, because the attacks")


def test_the_folders_tell_apart_what_the_names_do_not() -> None:
    a, b = bundle("m", outcomes("h")), bundle("m", outcomes("b"))
    b = Bundle(Path("runs/b"), b.record, b.lines)
    assert "runs/b" in compare(a, b).sentence


def test_nothing_in_common_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(BundleError, match=r"share no example.*same data"):
        compare(bundle("a", outcomes("hh")), bundle("b", outcomes("hh"), first_id=100))


def test_an_id_that_occurs_twice_cannot_be_paired() -> None:
    a = bundle("a", outcomes("hh"))
    twice = Bundle(a.folder, a.record, [a.lines[0], a.lines[0]])
    with pytest.raises(BundleError, match="id 0 occurs twice"):
        compare(twice, a)


def test_run_folders_do_as_well(tmp_path: Path) -> None:
    for name, broken in (("a", 4), ("b", 1)):
        write_bundle(tmp_path / name, {"held": 6 - broken, "broken": broken})
    by_path = compare(tmp_path / "a", str(tmp_path / "b"))
    assert by_path == compare(read_bundle(tmp_path / "a"), read_bundle(tmp_path / "b"))
    assert by_path.n >= 1


def test_inputs_that_cannot_be_the_same_are_refused() -> None:
    """Positions number the examples of every data set: equal ids alone mean nothing."""
    a, b = bundle("stone", outcomes("h" * 25)), bundle("facade", outcomes("b" * 25))
    table = changed(a, model=a.record.model.model_copy(update={"input_shape": [6]}))
    with pytest.raises(BundleError, match=r"different inputs, of shapes \[6\] and \[1, 8, 8\]"):
        compare(table, b)
