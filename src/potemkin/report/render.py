"""Draw report.html from a bundle: one file, no script, no network, no torch."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from potemkin.core.files import write_whole
from potemkin.evaluate.bundle import Bundle, read_bundle
from potemkin.report import charts, provenance, sections, typeset, words

EXAMPLE_ROWS = 200


def render(folder: str | Path) -> Path:
    """Read the bundle in `folder` and write `report.html` beside it; returns its path.

    BundleError where the bundle is damaged, or the page cannot be written.
    """
    bundle = read_bundle(folder)
    path = bundle.folder / "report.html"
    write_whole(path, page(bundle))
    return path


def page(bundle: Bundle) -> str:
    """The whole page as text."""
    record = bundle.record
    names = record.data.class_names or []

    def class_name(label: int | None) -> str:
        if label is None:
            return "–"
        return typeset.shown(names[label], 60) if 0 <= label < len(names) else f"class {label}"

    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            record=record,
            contents=sections.CONTENTS,
            words=words,
            class_name=class_name,
            street=sections.street(record),
            outcomes=sections.outcome_rows(record),
            outcome_bar=sections.outcome_bar(record),
            attacks=sections.attack_rows(record),
            clean_step=charts.step(record.rates.clean_accuracy, None),
            costs=sections.cost_rows(record),
            purposes=sections.purpose_rows(record),
            confidences=sections.confidences(bundle),
            gallery=sections.gallery(bundle),
            distance=sections.distances(bundle),
            next_steps=sections.next_steps(record),
            commands=provenance.commands(record, bundle.folder),
            provenance=provenance.groups(record),
            lines=bundle.lines[:EXAMPLE_ROWS],
        )
    )


def environment() -> Environment:
    """What draws the pages: everything that comes from outside is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (typeset.count, typeset.percent, typeset.rate, typeset.interval, typeset.number):
        made.filters[filter_.__name__] = filter_
    made.filters["shown"] = typeset.shown
    made.filters["code"] = typeset.code
    return made
