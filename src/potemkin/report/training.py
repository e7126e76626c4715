"""Draw a training run's report.html from its journal: one file, no script, no network, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from potemkin.core.files import write_whole
from potemkin.errors import BundleError
from potemkin.evaluate.bundle import Bundle, read_bundle
from potemkin.evaluate.rates import Rate
from potemkin.report import (
    sections,
    training_charts,
    training_provenance,
    training_sections,
    training_steps,
    words,
)
from potemkin.report.charts import shares
from potemkin.report.render import environment
from potemkin.report.sections import Section
from potemkin.training.journal import AUDIT, REPORT, EvaluationLine, Journal, read_journal

CONTENTS = (
    Section("verdict", "Verdict", "training/verdict.jinja"),
    Section("curves", "Curves", "training/curves.jinja"),
    Section("alarms", "Alarms", "training/alarms.jinja"),
    Section("cost", "Cost", "training/cost.jinja"),
    Section("provenance", "What was run", "training/provenance.jinja"),
)
TABLE_ROWS = 200


def render_training(folder: str | Path) -> Path:
    """Read the run in `folder` and write `report.html` beside it; returns its path.

    BundleError where the folder holds no run, a damaged one, or the page cannot be written.
    """
    journal = read_journal(folder)
    path = journal.folder / REPORT
    write_whole(path, training_page(journal))
    return path


@dataclass(frozen=True)
class Headline:
    """The figure at the top, and what it was measured on."""

    robust: Rate
    clean: Rate
    audited: bool


def training_page(journal: Journal) -> str:
    """The whole page as text."""
    audit, trouble = _audit(journal.folder)
    best = journal.best()
    record, state = None if audit is None else audit.record, training_sections.state(journal)
    costs = training_sections.cost_rows(journal.cost(), record) if journal.steps() else []
    return (
        environment()
        .get_template("training/page.html.jinja")
        .render(
            journal=journal,
            info=journal.info,
            contents=CONTENTS,
            audit=audit,
            audit_trouble=trouble,
            audit_page=audit is not None and (audit.folder / REPORT).is_file(),
            best=best,
            headline=_headline(best, audit),
            street=_street(best, audit),
            state=state,
            smells=training_sections.smells(audit),
            next_steps=training_sections.next_steps(journal, audit),
            costs=costs,
            cost_bar=training_sections.cost_bar(costs),
            duration=training_sections.duration,
            per_second=training_sections.per_second(journal),
            commands=training_provenance.commands(journal, finished=state.kind == "finished"),
            groups=training_provenance.groups(journal, audit),
            words=words,
            **_curves(journal),
            **_alarms(journal),
        )
    )


def _curves(journal: Journal) -> dict[str, object]:
    """Charts, and the rows of their tables; `evaluated` and `stepped` count all, of which the tables show a part."""
    evaluations = [line for line in journal.lines if isinstance(line, EvaluationLine)]
    steps = journal.steps()
    return {
        "charts": [
            (training_charts.accuracy(journal, weights), training_charts.beliefs(journal, weights))
            for weights in training_charts.weights_of(journal)
        ],
        "small": training_steps.steps(journal),
        "rate_of": Rate.of,
        "evaluations": training_charts.spread(evaluations, TABLE_ROWS),
        "evaluated": len(evaluations),
        "steps": training_charts.spread(steps, TABLE_ROWS),
        "stepped": len(steps),
        "lost": sum(line.loss is None for line in steps),
    }


def _alarms(journal: Journal) -> dict[str, object]:
    return {
        "alarms": training_sections.alarm_groups(journal),
        "all_alarms": training_charts.spread(journal.alarms(), TABLE_ROWS),
        "alarmed": len(journal.alarms()),
        "detectors": training_sections.detectors(journal),
    }


def _audit(folder: Path) -> tuple[Bundle | None, str | None]:
    """The audit at the end, or why it cannot be read: the run's own figures are worth a page without it."""
    if not (folder / AUDIT / "record.json").is_file():
        return None, None
    try:
        return read_bundle(folder / AUDIT), None
    except BundleError as problem:
        return None, str(problem)


def _headline(best: EvaluationLine | None, audit: Bundle | None) -> Headline | None:
    """The audit's figure where there is one, for its attack is the stronger; else the best of validation."""
    if audit is not None and audit.record.n:
        return Headline(audit.record.rates.robust_accuracy, audit.record.rates.clean_accuracy, audited=True)
    return Headline(best.robust_accuracy, best.clean_accuracy, audited=False) if best is not None and best.n else None


def _street(best: EvaluationLine | None, audit: Bundle | None) -> dict[str, int] | None:
    """The headline's examples as twenty houses, as in an audit's report."""
    if audit is not None and audit.record.n:
        return sections.street(audit.record)
    if best is None or not best.n:
        return None
    held, wrong = best.robust, best.n - best.clean
    counts = {
        "held": held,
        "undecided": best.undecided,
        "broken": max(best.clean - held - best.undecided, 0),
        "clean_wrong": min(wrong, best.n - held - best.undecided),
    }
    return shares(counts, sections.HOUSES)
