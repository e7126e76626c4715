"""The page as a document: well formed, self-contained, readable without eyes, and deaf to hostile names."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import SMELLS, line_of, record_of, tensors_of, write_bundle
from potemkin.errors import BundleError
from potemkin.evaluate.asked import DataInfo
from potemkin.evaluate.bundle import BundleWriter, read_bundle
from potemkin.evaluate.costs import Cost
from potemkin.evaluate.record import Smell
from potemkin.report import words
from potemkin.report.render import page, render
from potemkin.report.sections import CONTENTS, next_steps

VOID = {"meta", "img", "br", "link", "input", "hr"}
SVG_EMPTY = {"rect", "line", "circle", "path", "polygon"}
FULL = {"held": 46, "broken": 41, "budget": 2, "invalid": 1, "error": 1, "clean_wrong": 9}

CASES: dict[str, tuple[dict[str, int], tuple[int, ...], dict[str, Any]]] = {
    "grey": (FULL, (1, 8, 8), {}),
    "colour": (FULL, (3, 32, 32), {}),
    "features": (FULL, (30,), {}),
    "nothing broken": ({"held": 9, "clean_wrong": 1}, (1, 8, 8), {}),
    "nothing held": ({"broken": 9, "clean_wrong": 1}, (1, 8, 8), {}),
    "all wrong": ({"clean_wrong": 5}, (1, 8, 8), {}),
    "smells": (FULL, (1, 8, 8), {"smells": list(SMELLS)}),
    "cut short": (FULL, (1, 8, 8), {"complete": False, "why_incomplete": "stopped with Ctrl-C"}),
    "empty": ({}, (1, 8, 8), {"complete": False}),
    "no attacks": ({"clean_wrong": 3}, (1, 8, 8), {"attacks": []}),
    "open box": (FULL, (3, 16, 16), {"box": (None, None)}),
}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    parents: list[str] = field(default_factory=list)
    table: str | None = None


class Document(HTMLParser):
    """All elements in order; fails on tags that are not closed where they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        assert not self._open, f"never closed: {[element.tag for element in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        tables = [parent.attributes.get("class") for parent in self._open if parent.tag == "table"]
        parents = [parent.tag for parent in self._open]
        element = Element(tag, dict(attrs), parents=parents, table=tables[-1] if tables else None)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID | SVG_EMPTY, f"<{tag}/> does not close itself in HTML"
        self.elements.append(Element(tag, dict(attrs), parents=[parent.tag for parent in self._open]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]

    def text(self) -> str:
        return " ".join(self.all("body")[0].text.replace("\u202f", " ").replace("\u00a0", " ").split())


def made(folder: Path, counts: dict[str, int], shape: tuple[int, ...], **other: Any) -> str:
    if "box" in other:
        box = other.pop("box")
        record = write_bundle(folder / "first", counts, shape)
        other["threat"] = record.threat.model_copy(update={"box": box})
    write_bundle(folder / "run", counts, shape, **other)
    return render(folder / "run").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def text(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    counts, shape, other = request.param
    return made(tmp_path_factory.mktemp("report"), counts, shape, **dict(other))


@pytest.fixture(scope="module")
def document(text: str) -> Document:
    return Document(text)


def test_nothing_is_fetched_and_nothing_runs(text: str, document: Document) -> None:
    assert not document.all("script", "link", "iframe", "object", "embed", "form", "base", "audio", "video")
    for element in document.elements:
        assert not [name for name in element.attributes if name.startswith("on")]
        assert "style" not in element.attributes
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            value = element.attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), value
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    assert "default-src 'none'" in text


def test_it_is_small(text: str) -> None:
    assert len(text.encode()) < 2_000_000


def test_ids_are_unique_and_every_link_arrives(document: Document) -> None:
    ids = [element.attributes["id"] for element in document.elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    for element in document.elements:
        for name in ("href", "aria-labelledby"):
            value = element.attributes.get(name)
            if value and (name != "href" or value.startswith("#")):
                assert value.lstrip("#") in ids
    used = set(re.findall(r"url\(#([\w-]+)\)", " ".join(document.all("style")[0].text.split())))
    assert used <= set(ids)


def test_landmarks_and_headings_in_order(document: Document) -> None:
    for tag in ("main", "header", "nav", "footer", "h1"):
        assert len(document.all(tag)) == 1, tag
    assert document.all("html")[0].attributes["lang"] == "en"
    levels = [int(element.tag[1]) for element in document.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert all(heading.text.strip() for heading in document.all("h1", "h2", "h3"))
    for section in document.all("section"):
        assert section.attributes.get("aria-labelledby")


def test_the_navigation_leads_through_all_sections_in_order(document: Document) -> None:
    listed = [section.id for section in CONTENTS]
    assert [section.attributes["id"] for section in document.all("section")] == listed
    assert [link.attributes["href"] for link in document.all("a") if "nav" in link.parents] == [f"#{i}" for i in listed]


def test_every_picture_has_a_text_alternative(document: Document) -> None:
    for image in document.all("img"):
        assert image.attributes.get("alt", "").strip()  # type: ignore[union-attr]
        assert image.attributes.get("width")
    for svg in document.all("svg"):
        if svg.attributes.get("aria-hidden") == "true":
            continue
        hidden_by_parent = svg.attributes.get("class") == "swatch"
        assert hidden_by_parent or (svg.attributes.get("role") == "img" and svg.attributes.get("aria-label"))


def test_tables_have_captions_and_scoped_headers(document: Document) -> None:
    assert len(document.all("table")) == len(document.all("caption"))
    for header in document.all("th"):
        assert header.attributes.get("scope") in {"col", "row"}
    for region in document.elements:
        if region.attributes.get("class") == "scroll":
            assert region.attributes.get("tabindex") == "0"
            assert region.attributes.get("aria-label")


def test_every_chart_is_a_table_too(tmp_path: Path) -> None:
    document = Document(made(tmp_path, FULL, (1, 8, 8)))
    captions = {caption.text.strip() for caption in document.all("caption")}
    charts = ("Outcome partition", "Robust accuracy as attacks are added", "Cost", "Confidence")
    assert captions >= {*charts, "Distance of the broken examples"}


def test_the_verdict_has_rate_interval_n_and_threat(tmp_path: Path) -> None:
    seen = Document(made(tmp_path, {"held": 462, "broken": 460, "clean_wrong": 78}, (1, 8, 8))).text()
    assert (
        "digits-cnn held on 462 of 1000 examples of digits: robust accuracy 46.2 %, 95 % interval [43.1, 49.3], "
        "against an adversary that is untargeted; Linf distance at most 0.1 inside the box [0, 1];" in seen
    )
    assert "Clean accuracy92.2 % [90.4, 93.7] (n = 1000)" in seen
    assert "Robust accuracy at most" not in seen


def test_every_outcome_is_counted_and_explained(tmp_path: Path) -> None:
    seen = Document(made(tmp_path, FULL, (1, 8, 8))).text()
    for meaning in words.OUTCOMES:
        assert meaning.text in seen
        assert f"{meaning.name} {meaning.term}" in seen
        assert f"{meaning.name} {meaning.term} {FULL[meaning.term]} · {FULL[meaning.term]}.0 % [" in seen
    assert "Robust accuracy at most50.0 %" in seen


def test_what_is_incomplete_or_alarming_is_said_before_anything_else(tmp_path: Path) -> None:
    quiet = Document(made(tmp_path / "quiet", FULL, (1, 8, 8)))
    assert not quiet.all("aside")
    loud = Document(
        made(tmp_path / "loud", FULL, (1, 8, 8), complete=False, why_incomplete="the disk is full", smells=list(SMELLS))
    )
    [stop] = loud.all("aside")
    tags = [element.tag for element in loud.elements]
    assert tags.index("aside") < tags.index("header")
    assert "Incomplete. 100 of 100 examples are done (the disk is full)" in " ".join(stop.text.split())
    assert SMELLS[0].message in stop.text
    assert SMELLS[1].message not in stop.text
    assert "incomplete" in loud.all("title")[0].text


def test_smells_come_gravest_first_with_what_to_do(tmp_path: Path) -> None:
    seen = Document(made(tmp_path, FULL, (1, 8, 8), smells=list(reversed(SMELLS)))).text()
    places = [seen.index("What to do: " + smell.advice) for smell in SMELLS]
    assert places == sorted(places)
    assert "largest deviation1.2e-07" in seen.replace(" 1.2e-07", "1.2e-07")


def test_provenance_names_what_it_takes_to_run_it_again(tmp_path: Path) -> None:
    document = Document(made(tmp_path, FULL, (1, 8, 8)))
    record = read_bundle(tmp_path / "run").record
    seen = document.text()
    for told in (record.model.fingerprint, record.data.fingerprint, record.potemkin, "2.13.0", "potemkin audit digits"):
        assert told in seen
    for attack in record.attacks:
        assert attack.recipe in seen
    assert "seed0" in seen.replace("seed 0", "seed0")


def test_without_a_command_in_the_record_an_equivalent_one_is_shown(tmp_path: Path) -> None:
    seen = Document(made(tmp_path, FULL, (1, 8, 8), environment={})).text()
    assert (
        "potemkin audit digits-cnn digits --threat 'Linf(0.1)' --attack 'pgd(steps=50, restarts=5)' --attack 'apgd()' "
        "--examples 100 --seed 0 --rows 128" in seen
    )


def test_the_examples_table_stops_and_says_so(tmp_path: Path) -> None:
    document = Document(made(tmp_path, {"held": 150, "broken": 150}, (1, 8, 8)))
    assert "The table stops after 200 rows in data order; all 300 are in examples.jsonl." in document.text()
    rows = [row for row in document.all("tr") if row.table == "examples" and row.parents[-1] == "tbody"]
    assert len(rows) == 200
    assert "The table stops" not in Document(made(tmp_path / "few", {"held": 3}, (1, 8, 8))).text()


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202egnp.exe",
    "x" * 5000,
    "'; DROP TABLE --",
    "&lt;b&gt;",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_only_text(tmp_path: Path, name: str) -> None:
    plain = write_bundle(tmp_path / "plain", FULL)
    calm = Document(page(read_bundle(tmp_path / "plain")))
    smell = Smell(name=name, severity="alarm", message=name, advice=name, evidence={name: name})
    hostile = Document(
        made(
            tmp_path,
            FULL,
            (1, 8, 8),
            line={"broken_by": name, "why": name},
            model=plain.model.model_copy(update={"name": name, "preprocessing": name}),
            data=DataInfo(name=name, fingerprint=name, total=100, examples=100, sample=name, class_names=[name] * 10),
            threat=plain.threat.model_copy(update={"sentence": name, "notation": name, "norm": name}),
            attacks=[attack.model_copy(update={"recipe": name}) for attack in plain.attacks],
            smells=[smell],
            environment={name: name, "command": name},
            timing={name: {name: [name]}},
            complete=False,
            why_incomplete=name,
        )
    )
    added = {element.tag for element in hostile.elements} - {element.tag for element in calm.elements}
    assert added <= {"aside"}
    for element in hostile.elements:
        assert not [key for key in element.attributes if key.startswith("on")]
        assert element.attributes.get("src", "data:").startswith("data:")  # type: ignore[union-attr]
    seen = hostile.text()
    assert "49" not in hostile.all("h1")[0].text
    assert "\u202e" not in seen
    assert (name if len(name) < 60 and "\u202e" not in name else name[:1]) in seen


def test_hostile_ids_are_only_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with BundleWriter(tmp_path / "run", input_shape=(1, 8, 8)) as writer:
        lines = []
        for i, name in enumerate(HOSTILE):
            clean, attempt = tensors_of((1, 8, 8), rng)
            lines.append(writer.add(line_of(i, "broken", rng, id=name), attempt, clean=clean))
        writer.finish(record_of(lines, (1, 8, 8)))
    document = Document(render(tmp_path / "run").read_text(encoding="utf-8"))
    assert not document.all("script")
    assert {e.attributes["src"][:22] for e in document.all("img")} == {"data:image/png;base64,"}  # type: ignore[index]
    assert document.text().count("<script>alert(1)</script>") >= 2


def test_class_and_file_names_arrive_escaped(tmp_path: Path) -> None:
    """As an image folder names them: the data after the folder, the classes after those in it, examples after files."""
    script, file = "<script>alert(1)</script>", "<script>alert(2)</script>.png"
    data = write_bundle(tmp_path / "plain", FULL).data.model_copy(
        update={"class_names": [script] * 10, "name": "<script>alert(3)</script>"}
    )
    text = made(tmp_path, FULL, (1, 8, 8), data=data, line={"id": file})
    assert "<script>" not in text
    for number in (1, 2, 3):
        assert f"&lt;script&gt;alert({number})&lt;/script&gt;" in text


def test_the_page_is_the_same_for_the_same_bundle(tmp_path: Path) -> None:
    assert made(tmp_path, FULL, (3, 16, 16)) == render(tmp_path / "run").read_text(encoding="utf-8")


def test_render_needs_no_torch_and_answers_quickly(tmp_path: Path) -> None:
    write_bundle(tmp_path / "run", FULL)
    code = (
        "import sys; from potemkin.report.render import render; "
        f"print(render({str(tmp_path / 'run')!r})); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(tmp_path / "run" / "report.html"), "False"], done.stderr
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_a_damaged_bundle_leaves_no_report(tmp_path: Path) -> None:
    write_bundle(tmp_path / "run", FULL)
    (tmp_path / "run" / "examples.jsonl").write_text("")
    with pytest.raises(BundleError):
        render(tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.html"))


@pytest.mark.parametrize(
    ("counts", "other", "told"),
    [
        ({"held": 300}, {}, "Nothing broke. Audit again at a much larger eps"),
        ({"held": 150, "broken": 150}, {}, "potemkin verify"),
        (
            {"held": 20, "broken": 10},
            {},
            "Audit more examples: by chance alone, 30 leave the robust accuracy",
        ),
        ({"broken": 300}, {}, "Nothing held at this eps"),
        ({"clean_wrong": 300}, {}, "Nothing was right before the attack"),
        ({"held": 299, "budget": 1}, {}, "more queries"),
        ({"held": 299, "error": 1}, {}, "examples.jsonl says why"),
        ({"held": 300}, {"complete": False}, "Run the audit to its end"),
        ({"held": 300}, {"smells": [SMELLS[0]]}, "Mend what the alarms name"),
        ({"held": 300}, {"smells": [SMELLS[1]]}, "Read the warnings"),
        ({"held": 300}, {"smells": [SMELLS[2]]}, "Nothing broke"),
    ],
)
def test_what_to_do_next_follows_from_the_record(
    tmp_path: Path, counts: dict[str, int], other: dict[str, Any], told: str
) -> None:
    assert told in next_steps(write_bundle(tmp_path / "run", counts, **other))[0]


def test_no_advice_where_it_does_not_belong(tmp_path: Path) -> None:
    """Many examples, some held, some broken, two attacks with gradients, no smells: one thing is left to do."""
    steps = next_steps(write_bundle(tmp_path / "run", {"held": 150, "broken": 150}))
    assert len(steps) == 1


def test_attacks_without_gradients_are_named_as_such(tmp_path: Path) -> None:
    counts = {"held": 200, "broken": 100}
    seeing = write_bundle(tmp_path / "seeing", counts)
    blind = [summary.model_copy(update={"cost": Cost(forwards=600)}) for summary in seeing.attacks]
    told = next_steps(write_bundle(tmp_path / "blind", counts, attacks=blind))
    assert "No attack used gradients" in told[0]
    assert "apgd()" in told[0]
    one_sees = [blind[0], seeing.attacks[1]]
    assert not any("gradients" in text for text in next_steps(write_bundle(tmp_path / "one", counts, attacks=one_sees)))


def test_few_examples_are_told_with_their_interval(tmp_path: Path) -> None:
    record = write_bundle(tmp_path / "run", {"held": 25, "broken": 25})
    robust = record.rates.robust_accuracy
    assert robust.low is not None and robust.high is not None
    [told] = [text for text in next_steps(record) if "more examples" in text]
    assert f"between {100 * robust.low:.0f} and {100 * robust.high:.0f} %" in told
