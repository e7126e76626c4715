"""The training page in words: smells of the audit, values behind settings, what to do next, what it cost."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from bundles import SMELLS, write_bundle
from journals import ALARM, evaluation_of, healthy, overfitting, step_of, write_run
from pages import Page
from potemkin.evaluate.costs import Cost
from potemkin.report.render import render
from potemkin.report.training import render_training
from potemkin.report.training_next import STRONGER
from potemkin.training.journal import AnyLine, Brought, MarkLine

COUNTS = {"held": 300, "broken": 160, "clean_wrong": 40}
SHARES = {"clean": 0.5, "robust": 0.2, "training_attack": 0.25, "one_step": 0.3}
OBJECT = Brought(spec=None, name="Sequential", details={"options": {}})
CUT = [step_of(100), evaluation_of(1, "validation", SHARES, n=40)]


def drawn(
    folder: Path, lines: list[AnyLine], counts: dict[str, int] | None = None, audit: dict[str, Any] | None = None,
    page: bool = True, **other: Any,
) -> Page:  # fmt: skip
    """The page of a made-up run, with an audit where its outcomes are given; `page`: with the audit's own page."""
    write_run(folder, lines, **other)
    if counts is not None:
        write_bundle(folder / "audit", counts, **(audit or {}))
        if page:
            render(folder / "audit")
    return Page(render_training(folder).read_text(encoding="utf-8"))


def model(**options: Any) -> Brought:
    return Brought(spec="digits-cnn", name="digits-cnn", details={"options": options})


def links(page: Page) -> set[str | None]:
    return {attributes.get("href") for attributes in page.all("a")}


# ---- the audit's smells ---------------------------------------------------------------------------------------------


def test_alarms_and_warnings_of_the_audit_are_told_in_full(tmp_path: Path) -> None:
    page = drawn(tmp_path / "run", healthy(), COUNTS, {"smells": list(SMELLS)})
    seen = page.text
    alarm, warning, note = SMELLS
    for smell, severity in ((alarm, "Alarm"), (warning, "Warning")):
        said = f"{severity} {smell.name.replace('_', ' ')} {smell.message} What to do: {smell.advice}"
        assert said in seen
    assert note.message not in seen, "a note is no reason for distrust; it stands on the audit's own page"
    assert seen.index(f"Alarm of the audit: softmax outputs. {alarm.message}") < seen.index("Verdict")
    assert "1 alarm in the audit: softmax outputs." in seen
    assert {"#audit-smells", "audit/report.html#smells"} <= links(page)
    assert f"Softmax outputs, in the audit: {alarm.advice}" in seen, "and its advice is among what to do next"


def test_an_audit_without_smells_leaves_no_empty_section(tmp_path: Path) -> None:
    page = drawn(tmp_path / "run", healthy(), COUNTS)
    assert "suspicious" not in page.text and "Read this first" not in page.text
    assert "#audit-smells" not in links(page)


def test_the_audits_own_page_is_linked_where_there_is_one(tmp_path: Path) -> None:
    without = drawn(tmp_path / "a", healthy(), COUNTS, {"smells": list(SMELLS)}, page=False)
    assert not [link for link in links(without) if link and link.startswith("audit/")]
    assert "audit/report.html" in links(drawn(tmp_path / "b", healthy(), COUNTS))


# ---- values ---------------------------------------------------------------------------------------------------------


def test_settings_are_told_in_words_with_the_values_behind_them(tmp_path: Path) -> None:
    settings = {
        "clip": None, "compile": False, "stop_on": "()", "evaluate_every": None, "checkpoint_every": 90,
        "log_every": None, "optimiser": "SGD(0.5)", "schedule": "Cyclic()", "audit_examples": 1000,
        "evaluation_steps": 10,
    }  # fmt: skip
    resolved = {
        "optimiser": "SGD(learning_rate=0.5, momentum=0.9, weight_decay=0.0005, nesterov=False)",
        "schedule": "Cyclic(peak=0.4)", "recipe": "pgd_at()", "step": "0.05 in input units (0.5 eps)",
    }  # fmt: skip
    page = drawn(tmp_path / "run", healthy(), COUNTS, settings=settings, resolved=resolved)
    for told in (
        "clip none", "compile no", "stop on none", "evaluate every each epoch", "checkpoint every 90", "log every 50",
        "optimiser SGD(learning_rate=0.5, momentum=0.9, weight_decay=0.0005, nesterov=False)",
        "schedule Cyclic(peak=0.4)", "audit examples 500 audited, 1000 asked for",
        "step while training 0.05 in input units (0.5 eps)",
        "evaluations pgd(steps=10) as the multi-step check, fgsm() as the one step, and the training attack, on 500 "
        "validation and 500 training examples",
        "audit at the end pgd(steps=50, restarts=5), apgd(), on 500 examples of digits",
    ):  # fmt: skip
        assert told in page.text
    assert "null" not in page.text and "false" not in page.text


def test_what_a_run_did_not_write_down_is_not_guessed(tmp_path: Path) -> None:
    asked = {"settings": {"optimiser": "SGD()"}, "recipe": "pgd_at(eps=0.1, steps=5)"}
    seen = drawn(tmp_path / "run", healthy(), **asked).text
    assert "optimiser SGD()" in seen and "step while training" not in seen


def test_without_an_audit_it_says_so(tmp_path: Path) -> None:
    assert (
        "audit at the end none was asked for" in drawn(tmp_path / "a", healthy(), settings={"audit_examples": 0}).text
    )
    assert "audit at the end not there" in drawn(tmp_path / "b", healthy(), settings={"audit_examples": 10}).text


def test_validation_that_was_held_out_is_told_as_such(tmp_path: Path) -> None:
    data = Brought(spec="digits", name="digits", details={"examples": 1297, "used": 1297})
    part = Brought(spec=None, name="digits", details={"examples": 1297, "used": 129})
    seen = drawn(tmp_path / "a", healthy(), data=data, validation=part, settings={"holdout": None}).text
    assert "brought as held out of the training data examples 129 of 1297" in seen
    assert "holdout 129 by default" in seen
    assert "from Python" not in seen and "used 1297" not in seen
    given = Brought(spec=None, name="arrays", details={"examples": 300, "used": 300})
    seen = drawn(tmp_path / "b", healthy(), data=data, validation=given).text
    assert "brought as an object, from Python examples 300" in seen and "held out of" not in seen


# ---- what to do next ------------------------------------------------------------------------------------------------


def test_the_next_commands_are_concrete_and_stronger(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    page = drawn(folder, healthy(), COUNTS, model=model(test="test.npz", image_size=64), seed=7)
    attacks = " ".join(f"--attack {shlex.quote(attack)}" for attack in STRONGER)
    audit = f"potemkin audit '{folder}' test.npz --threat 'Linf(0.1)' {attacks} --seed 8 --image-size 64"
    verify = f"potemkin verify '{folder}/audit' --model '{folder}' --data test.npz --image-size 64"
    before = page.text.index("How it went")
    for command in (f"{audit} --out '{folder}-audit'", verify):
        assert page.text.index(command) < before, "under the verdict"
    assert f"potemkin report '{folder}'" in page.text
    assert "--resume" not in page.text


def test_alarms_put_their_advice_first(tmp_path: Path) -> None:
    seen = drawn(tmp_path / "run", overfitting()).text.partition("What to do next")[2]
    told = [
        f"Catastrophic overfitting: {ALARM.advice}",
        f"Label leaking: {ALARM.advice}",
        "do not ship",
        "potemkin audit",
    ]
    places = [seen.index(each) for each in told]
    assert places == sorted(places)


@pytest.mark.parametrize(("what", "goes_on"), [("interrupted", True), ("stopped", False)])
def test_a_run_that_was_cut_says_how_to_go_on(tmp_path: Path, what: Any, goes_on: bool) -> None:
    """One that was stopped, by an alarm or for want of patience, would only stop again."""
    lines = [*CUT, MarkLine(step=100, epoch=1.0, what=what, message="asked to")]
    seen = drawn(tmp_path / "run", lines, model=model()).text
    assert (f"potemkin train --resume {tmp_path / 'run'}" in seen.partition("How it went")[0]) == goes_on


def test_a_run_that_met_nan_before_any_evaluation_is_sent_neither_round_nor_to_an_audit(tmp_path: Path) -> None:
    alarm = ALARM.model_copy(update={"name": "not_a_number", "action": "stopped"})
    lines = [step_of(5), alarm, MarkLine(step=5, epoch=0.1, what="stopped", message="alarm not_a_number")]
    page = drawn(tmp_path / "run", lines, model=model()).text
    seen = page.partition("What to do next")[2].partition("How it went")[0]
    assert "Start again, into another folder, with a lower learning rate" in seen and "no weights were kept" in seen
    assert "--resume" not in seen and "potemkin audit" not in seen and "Set examples aside" not in seen


def test_a_run_from_python_gets_calls_and_no_command_that_cannot_work(tmp_path: Path) -> None:
    folder = tmp_path / "py"
    asked = {"model": OBJECT, "data": OBJECT, "command": None}
    page = drawn(folder, healthy(), COUNTS, **asked)
    seen = page.text
    assert "potemkin audit" not in seen and "potemkin verify" not in seen
    assert "The run was started from Python." in seen
    assert f"pk.load_model('my_models:net', weights='{folder / 'model.safetensors'}')" in seen
    for attack in STRONGER:
        assert f"{attack!r}," in seen
    assert f"pk.audit(model, test_data, 'Linf(0.1)', attacks, seed=1, out='{folder}-audit')" in seen
    assert "\ufffd" not in page.source, "line breaks are kept"
    cut = drawn(tmp_path / "cut", list(CUT), **asked).text
    assert "potemkin train --resume" not in cut and "resume=True)" in cut


def test_the_python_that_is_printed_is_python(tmp_path: Path) -> None:
    from potemkin.report.training_next import audit_python
    from potemkin.training.journal import read_journal

    compile(audit_python(read_journal(write_run(tmp_path / "a 'run'", healthy()))), "page", "exec")


# ---- cost -----------------------------------------------------------------------------------------------------------


def test_the_audits_passes_are_part_of_the_cost(tmp_path: Path) -> None:
    with_audit = drawn(tmp_path / "a", list(CUT), COUNTS).text
    record = write_bundle(tmp_path / "other", COUNTS)
    spent: Cost = record.cost.physical
    cost = with_audit.partition("What it cost")[2].replace(" ", "")
    assert f"Auditattheend{spent.forwards}{spent.backwards}" in cost, "in the table"
    assert "Audit at the end 12.25 s" in with_audit
    shares = [float(row) for row in _shares(with_audit)]
    assert len(shares) == 4 and abs(sum(shares) - 100) < 0.3
    assert len(_shares(drawn(tmp_path / "b", list(CUT)).text)) == 3


def _shares(text: str) -> list[str]:
    """Of the legend: NAME SHARE % · …"""
    return [part.split()[-2] for part in text.partition("What it cost")[2].split(" · ")[:-1]]
