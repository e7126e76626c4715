"""The training report: every figure with n, interval and threat; nothing fetched; any log can be drawn."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bundles import write_bundle
from journals import ALARM, SENTENCE, evaluation_of, healthy, huge, overfitting, step_of, write_run
from pages import Page
from potemkin.errors import BundleError
from potemkin.report.render import render
from potemkin.report.training import CONTENTS, render_training
from potemkin.training.alarms import ALARMS, title
from potemkin.training.journal import AnyLine, Brought, MarkLine, read_journal

SHARES = {"clean": 0.5, "robust": 0.2, "training_attack": 0.25, "one_step": 0.3}
ONE = [step_of(100), evaluation_of(1, "validation", SHARES, n=40)]
NOTHING = [
    step_of(100, loss=None, eps=None, dead=None, moved=None, clean_right=None, attacked_right=None),
    evaluation_of(1, "validation", dict.fromkeys(SHARES, 0.0), n=0),
]
CASES: dict[str, list[AnyLine]] = {
    "healthy": healthy(),
    "two sets of weights": healthy(weights=("current", "average")),
    "overfitting": overfitting(),
    "empty": [],
    "one evaluation": list(ONE),
    "nothing measured": list(NOTHING),
    "long": huge(4000, 350),
}


def made(folder: Path, lines: list[AnyLine], audit: dict[str, int] | None = None, **other: Any) -> Page:
    write_run(folder, lines, **other)
    if audit is not None:
        write_bundle(folder / "audit", audit)
        render(folder / "audit")
    return Page(render_training(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES.keys())
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return made(tmp_path_factory.mktemp("training") / "run", request.param)


def test_nothing_is_fetched_and_nothing_runs(page: Page) -> None:
    assert not page.all("script", "link", "iframe", "object", "embed", "form", "base", "img")
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not re.search(r"url\((?!#)|@import|https?://", page.source)
    assert "default-src 'none'" in page.source
    assert len(page.source.encode()) < 1_000_000


def test_ids_links_landmarks_and_charts_are_in_order(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in page.tags:
        for name in ("href", "aria-labelledby"):
            assert all(value.lstrip("#") in ids for value in (attributes.get(name) or "").split())
    assert [attributes["id"] for attributes in page.all("section")] == [section.id for section in CONTENTS]
    for tag in ("main", "header", "nav", "footer", "h1"):
        assert len(page.all(tag)) == 1
    for attributes in page.all("svg"):
        named = attributes.get("aria-label") or attributes.get("aria-labelledby")
        silent = attributes.get("aria-hidden") or attributes.get("class") == "swatch" or "viewbox" in attributes
        assert silent or (attributes.get("role") == "img" and named)
    assert len(page.all("table")) == len(page.all("caption")) == len(page.all("details"))


def test_every_point_lies_inside_its_chart(page: Page) -> None:
    places = [float(x) for path in page.all("path") if path.get("class") != "plot" and "vector-effect" in path
              for x in re.findall(r"[\d.e+-]+", path["d"] or "")]  # fmt: skip
    places += [float((circle[key] or "").rstrip("%")) for circle in page.all("circle") if "%" in (circle["cx"] or "")
               for key in ("cx", "cy")]  # fmt: skip
    assert all(0 <= place <= 100 for place in places)
    assert not re.search(r"\b(nan|inf|None)\b", page.source)


def test_the_verdict_has_rate_interval_n_threat_epoch_and_clean_accuracy(tmp_path: Path) -> None:
    shares = SHARES | {"clean": 0.8, "robust": 0.46}
    lines = [
        evaluation_of(4, "validation", shares, n=1000),
        evaluation_of(5, "validation", SHARES, n=1000),
        evaluation_of(4, "train", shares | {"robust": 0.6}, n=1000),
        MarkLine(step=500, epoch=5.0, what="finished", message="all steps done"),
    ]
    seen = made(tmp_path / "run", lines).text
    assert (
        "digits-cnn at epoch 4 (step 400) held on 460 of 1000 validation examples of digits, held out: robust accuracy "
        f"46.0 %, 95 % interval [42.9, 49.1], against an adversary that is {SENTENCE}; "
        "clean accuracy 80.0 % [77.4, 82.4] (n = 1000)." in seen
    )
    assert "Robust accuracy on training examples 60.0 % [56.9, 63.0] (n = 1000)" in seen
    assert "the best of 2 evaluations on the same validation examples" in seen
    assert "Unfinished" not in seen


def test_the_audit_is_the_headline_and_validation_comes_second(tmp_path: Path) -> None:
    page = made(tmp_path / "run", healthy(), audit={"held": 462, "broken": 460, "clean_wrong": 78})
    seen = page.text
    assert "digits-cnn held on 462 of 1000 examples of digits in the audit at the end of the run" in seen
    assert "robust accuracy 46.2 %, 95 % interval [43.1, 49.3]" in seen
    assert seen.index("46.2 %") < seen.index("50.4 % [46.0, 54.8] (n = 500)")
    assert {"href": "audit/report.html"} in page.all("a")
    assert (tmp_path / "run" / "audit" / "report.html").is_file()


def test_a_damaged_audit_is_told_and_the_runs_own_figure_leads(tmp_path: Path) -> None:
    write_run(tmp_path / "run", healthy())
    (tmp_path / "run" / "audit").mkdir()
    (tmp_path / "run" / "audit" / "record.json").write_text("{")
    seen = Page(render_training(tmp_path / "run").read_text(encoding="utf-8")).text
    assert "The audit cannot be read" in seen
    assert "held on 252 of 500 validation examples" in seen


def test_alarms_stand_at_the_top_in_the_verdict_and_in_full(tmp_path: Path) -> None:
    page = made(tmp_path / "run", overfitting())
    seen = page.text
    assert seen.index("Alarm: catastrophic overfitting.") < seen.index("Verdict")
    assert "4 alarms: catastrophic overfitting (epoch 17), label leaking (epoch 24)" in seen
    for told in (ALARM.message, ALARM.advice, "the run went back to earlier weights", "3 times, the last at epoch 22"):
        assert told in seen
    assert "catastrophic overfitting (3 ×)" in seen
    assert (
        "Widest gap: at epoch 17 the training attack leaves 86.0 % [82.7, 88.8] standing, the multi-step check 1.4 %"
        in seen
    )


def test_without_alarms_it_says_what_was_watched_for_and_what_could_not_be_seen(tmp_path: Path) -> None:
    watched = made(tmp_path / "a", healthy()).text
    for alarm in ALARMS.values():
        assert f"{title(alarm.name)} {alarm.meaning[0].upper()}{alarm.meaning[1:]}." in watched
    assert "Not watched" not in watched
    blind = made(tmp_path / "b", [step_of(100, eps=None)]).text
    assert "Not watched: there was no evaluation to see it in." in blind
    assert "Not watched: no step had an adversary." in blind
    clean = made(tmp_path / "c", [step_of(100), evaluation_of(1, "validation", SHARES, attacked=False)]).text
    assert clean.count("Not watched: the recipe trains against no attack.") == 2


@pytest.mark.parametrize(
    ("lines", "told", "resumable"),
    [
        ([], "Nothing was logged yet: 0 of 3000 steps", True),
        (ONE, "Unfinished. The log ends at step 100 of 3000 (epoch 1): the run still goes on, or was killed", True),
        ([*ONE, MarkLine(step=9, epoch=1.0, what="stopped", message="Ctrl-C")], "Stopped. The run was stopped", True),
        ([*ONE, MarkLine(step=3000, epoch=30.0, what="finished", message="")], "The run finished at step 3000", False),
    ],
)  # fmt: skip
def test_where_the_run_stands(tmp_path: Path, lines: list[AnyLine], told: str, resumable: bool) -> None:
    seen = made(tmp_path / "a run", lines).text
    assert told in seen
    assert (f"potemkin train --resume '{tmp_path / 'a run'}'" in seen) == resumable
    assert f"potemkin audit '{tmp_path / 'a run'}' TEST_DATA --threat 'Linf(0.1)'" in seen


def test_a_resumed_run_is_not_stopped(tmp_path: Path) -> None:
    marks = [MarkLine(step=100, epoch=1.0, what=what, message="") for what in ("stopped", "resumed")]  # type: ignore[arg-type]
    assert "Unfinished." in made(tmp_path / "run", [*ONE, *marks]).text


def test_cost_is_shared_out_by_purpose(tmp_path: Path) -> None:
    seen = made(tmp_path / "run", ONE).text
    assert "Attack 76.3 % · 128 000 forwards + 128 000 backwards" in seen
    assert "6.667 passes of the attack for each pass of learning" in seen
    assert "Wall clock 35 s" in seen
    assert "Examples per second 365.7" in seen


def test_a_long_log_is_thinned_and_says_so(tmp_path: Path) -> None:
    page = made(tmp_path / "run", huge(4000, 350))
    assert "4000 lines of the log are drawn as 300 points" in page.text
    assert "The table shows 200 of 4000 lines, evenly spread" in page.text
    assert "199 lines have a loss that is no number" in page.text
    assert "highest 10 000 000. The axis is logarithmic" in page.text


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "a\u202egnp.exe", "x" * 5000],
)
def test_hostile_names_are_only_text(tmp_path: Path, name: str) -> None:
    alarm = ALARM.model_copy(update={"name": name, "message": name, "advice": name, "evidence": {name: name}})
    lines = [*ONE, alarm, MarkLine(step=100, epoch=1.0, what="stopped", message=name)]
    brought = Brought(spec=name, name=name, fingerprint=name, details={name: {name: [name]}})
    other = dict.fromkeys(("recipe", "threat", "threat_notation", "command", "potemkin"), name)
    page = made(
        tmp_path / "run", lines, model=brought, data=brought, validation=brought, extra=brought, settings={name: name},
        environment={name: name}, **other,
    )  # fmt: skip
    assert not page.all("script", "img")
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert "\u202e" not in page.source
    assert len(page.source) < 300_000
    assert (name if len(name) < 60 and "\u202e" not in name else name[:1]) in page.text


def test_the_page_is_the_same_for_the_same_run_and_needs_no_torch(tmp_path: Path) -> None:
    first = made(tmp_path / "run", overfitting()).source
    code = (
        "import sys; from potemkin.report.training import render_training; "
        f"print(render_training({str(tmp_path / 'run')!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(tmp_path / "run" / "report.html"), "False"], done.stderr
    assert (tmp_path / "run" / "report.html").read_text(encoding="utf-8") == first


def test_what_is_no_run_leaves_no_page(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        render_training(tmp_path)
    assert not list(tmp_path.glob("*.html"))


def test_the_made_up_runs_can_be_read(tmp_path: Path) -> None:
    assert len(read_journal(write_run(tmp_path / "run", healthy())).evaluations("validation")) == 30
